//! Storms: real daemon, real broker, faults between them; a judge that knows only what was published
//! and what came back.
//!
//! ```text
//! cargo test --release --test storms                        the short form of every storm
//! cargo test --release --test storms -- kills --seed 7      one storm, played again
//! cargo test --release --test storms -- --long              the figures of docs/reliability.md
//! cargo test --release --test storms -- soak --minutes 30
//! cargo test --release --test storms -- --mqtt 5         every storm over this version; else every other one, by seed
//! ```
//!
//! Books, daemon logs and the soak's series of memory stay in `target/tmp/storms/`; `tests/storms/judge.py BOOK`
//! reads a book again.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the support of all black-box tests; this binary uses a part of it")]
mod support;

mod book;
mod chance;
mod line;
mod peers;
mod proxy;
mod trend;
mod weather;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use weather::{Plan, STORMS};

const USAGE: &str = "storms [WORDS] [--seed N] [--long] [--minutes N] [--mqtt 3.1.1|5] [--list]";

struct Asked {
    plan: Plan,
    protocol: Option<&'static str>,
    words: Vec<String>,
    list: bool,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        plan: Plan { seed: 1, long: false, soak: Duration::from_secs(20), protocol: "3.1.1" },
        protocol: None,
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
            "--mqtt" => {
                let version = arguments.next().unwrap_or_default();
                let known = ["3.1.1", "5"].into_iter().find(|known| *known == version);
                asked.protocol = Some(known.ok_or("--mqtt wants 3.1.1 or 5")?);
            }
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
    let Asked { plan, protocol, words, list } = match asked() {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(64);
        }
    };
    // A storm's whole name means that one: `faults` is a part of `faults-tls`.
    let means = |word: &str, name: &str| {
        if STORMS.iter().any(|(known, _)| *known == word) { name == word } else { name.contains(word) }
    };
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| means(word, name));
    // By place in the whole list, so that a storm played alone is the same one.
    let by_place = |place: u64| if (plan.seed + place).is_multiple_of(2) { "5" } else { "3.1.1" };
    let storms: Vec<_> = (0..).zip(STORMS).filter(|(_, (name, _))| wanted(name)).collect();
    if list {
        for (_, (name, _)) in &storms {
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
        println!("what tells growth from steps, its own test: {} cases", trend::self_test());
    }
    let mut red = 0;
    for (place, (name, storm)) in storms {
        let begun = Instant::now();
        let plan = Plan { protocol: protocol.unwrap_or(by_place(place)), ..plan };
        let outcome = storm(&plan);
        let green = outcome.verdict.green && outcome.complaints.is_empty();
        red += usize::from(!green);
        println!(
            "storm {name} ... {} in {:.1} s over MQTT {}: {}",
            if green { "ok" } else { "RED" },
            begun.elapsed().as_secs_f32(),
            plan.protocol,
            outcome.notes.join("; ")
        );
        println!("  {}", outcome.verdict.figures);
        for complaint in outcome.complaints {
            println!("  {complaint}");
        }
        if !green {
            println!(
                "  again: cargo test --release --test storms -- {name} --seed {} --mqtt {}",
                plan.seed, plan.protocol
            );
            println!("  book and log: {}", line::books().display());
        }
    }
    if red == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
