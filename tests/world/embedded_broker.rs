//! The same way on the embedded broker: `lineside demo`, which needs nothing from the machine.

use crate::support::daemon::lineside;

#[test]
fn the_demo_answers_every_frame_rightly_and_says_so_in_json() {
    for seed in ["1", "20260711"] {
        let output = lineside(&["demo", "--frames", "50", "--seed", seed, "--json"]);
        let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{out}\n{log}");
        let summary = out.lines().rev().find(|line| !line.trim().is_empty()).expect("a line on stdout");
        let summary: serde_json::Value =
            serde_json::from_str(summary).or_else(|_| serde_json::from_str(&out)).expect("stdout is JSON");
        assert_eq!(summary["frames"], 50, "{summary}");
        assert_eq!(summary["answered"], 50, "{summary}");
        assert!(summary["accuracy"].as_f64() >= Some(0.97), "{summary}");
        assert!(summary["throughput_per_s"].as_f64() > Some(0.0), "{summary}");
        let (p50, p99) = (summary["latency_us"]["p50"].as_f64(), summary["latency_us"]["p99"].as_f64());
        assert!(p50 > Some(0.0) && p50 <= p99, "{summary}");
    }
}

#[test]
fn the_demo_leaves_nothing_listening_and_can_run_twice_at_once() {
    let runs = [2, 3].map(|seed: u32| {
        std::thread::spawn(move || {
            lineside(&["demo", "--frames", "20", "--seed", &seed.to_string(), "--json"])
        })
    });
    for run in runs {
        let output = run.join().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
