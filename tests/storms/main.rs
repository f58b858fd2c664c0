//! Storms: real daemon, real broker, faults between them; a judge that knows only what was published
//! and what came back.
//!
//! ```text
//! cargo test --release --test storms                        the short form of every storm
//! cargo test --release --test storms -- kills --seed 7      one storm, played again
//! cargo test --release --test storms -- --long              the figures of docs/reliability.md
//! cargo test --release --test storms -- soak --minutes 30
//! ```
//!
//! Books and daemon logs stay in `target/tmp/storms/`; `tests/storms/judge.py BOOK` reads one again.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the support of all black-box tests; this binary uses a part of it")]
mod support;

mod book;
mod chance;
mod line;
mod peers;
mod proxy;
mod weather;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use weather::{Plan, STORMS};

const USAGE: &str = "storms [WORDS] [--seed N] [--long] [--minutes N] [--list]";

struct Asked {
    plan: Plan,
    words: Vec<String>,
    list: bool,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        plan: Plan { seed: 1, long: false, soak: Duration::from_secs(20) },
        words: Vec::new(),
        list: false,
    };
    let mut minutes = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            arguments.next().and_then(|text| text.parse().ok()).ok_or(format!("{argument} wants a number"))
        };
        match argument.as_str() {
            "--seed" => asked.plan.seed = number()?,
            "--minutes" => minutes = Some(number()?),
            // `--include-ignored` is what cargo's own tests call it.
            "--long" | "--include-ignored" | "--ignored" => asked.plan.long = true,
            "--list" => asked.list = true,
            "--nocapture" | "--quiet" | "-q" => {}
            other if other.starts_with('-') => return Err(format!("{other} is not known\nusage: {USAGE}")),
            word => asked.words.push(word.into()),
        }
    }
    let default_minutes = if asked.plan.long { Some(30) } else { None };
    if let Some(minutes) = minutes.or(default_minutes) {
        asked.plan.soak = Duration::from_secs(60 * minutes);
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let Asked { plan, words, list } = match asked() {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(64);
        }
    };
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let storms: Vec<_> = STORMS.iter().filter(|(name, _)| wanted(name)).collect();
    if list {
        for (name, _) in &storms {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    println!(
        "\n{} storm(s), seed {}, {} form",
        storms.len(),
        plan.seed,
        if plan.long { "long" } else { "short" }
    );
    if !storms.is_empty() {
        let judge = line::judge(&["--self-test".as_ref()]);
        println!("the judge's own test: {}", judge.figures);
        assert!(judge.green, "a judge that cannot judge");
    }
    let mut red = 0;
    for (name, storm) in storms {
        let begun = Instant::now();
        let outcome = storm(&plan);
        let green = outcome.verdict.green && outcome.complaints.is_empty();
        red += usize::from(!green);
        println!(
            "storm {name} ... {} in {:.1} s: {}",
            if green { "ok" } else { "RED" },
            begun.elapsed().as_secs_f32(),
            outcome.notes.join("; ")
        );
        println!("  {}", outcome.verdict.figures);
        for complaint in outcome.complaints {
            println!("  {complaint}");
        }
        if !green {
            println!("  again: cargo test --release --test storms -- {name} --seed {}", plan.seed);
            println!("  book and log: {}", line::books().display());
        }
    }
    if red == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
