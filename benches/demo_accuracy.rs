//! Is the demo right whatever the seed? Accuracy against the rendered truth over several seeds.
//!
//!     cargo bench --bench demo_accuracy -- --frames 500 --seeds 5 --first 1

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::process::ExitCode;

use common::support::daemon::lineside;
use common::{Bound, Figure, report, setting};

fn main() -> ExitCode {
    let (frames, seeds, first): (u64, u64, u64) =
        (setting("frames", 500), setting("seeds", 5), setting("first", 1));
    let (mut worst, mut answered) = (1.0f64, 0);
    for n in 0..seeds {
        // Far apart, so that neighbouring seeds of a weak generator do not look alike.
        let seed = (first + n).wrapping_mul(0x9e37_79b9).to_string();
        let output = lineside(&["demo", "--frames", &frames.to_string(), "--seed", &seed, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seed {seed}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).expect("a summary");
        let summary: serde_json::Value = serde_json::from_str(line).expect("the summary is JSON");
        let accuracy = summary["accuracy"].as_f64().expect("the summary has the accuracy");
        eprintln!("  seed {seed:>12}: accuracy {accuracy:.4}");
        worst = worst.min(accuracy);
        answered += summary["answered"].as_u64().expect("the summary counts answers");
    }
    report(
        "demo_accuracy",
        &[
            Figure { name: "seeds", value: seeds as f64, bound: Bound::Least(1.0) },
            Figure {
                name: "answered_share",
                value: answered as f64 / (frames * seeds) as f64,
                bound: Bound::Least(1.0),
            },
            Figure { name: "worst_accuracy", value: worst, bound: Bound::Least(0.97) },
        ],
    )
}
