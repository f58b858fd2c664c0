//! What the benches share: load that costs next to nothing, percentiles, one table and one JSON line.
//!
//! Not here: what is asked (each bench) and the peers (`peers/`, and the echo of `path_overhead`).

#[path = "../../tests/support/mod.rs"]
pub(crate) mod support;

pub(crate) mod hub;
pub(crate) mod load;

use std::process::ExitCode;

use serde_json::Value;

/// `--name value` on the command line, else `default`; a wrong value ends the process with 64.
pub(crate) fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let mut arguments = std::env::args().skip_while(|argument| argument.strip_prefix("--") != Some(name));
    if arguments.next().is_none() {
        return default;
    }
    arguments.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        eprintln!("--{name} wants a value");
        std::process::exit(64)
    })
}

/// Value at `share` (0 to 1) of the sorted samples: the smallest that at least that share does not exceed.
pub(crate) fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// Whether a figure must stay below its bound or reach it.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
    /// For information.
    None,
}

/// One line of the result.
pub(crate) struct Figure {
    /// Key in JSON, with its unit.
    pub(crate) name: &'static str,
    /// What was measured.
    pub(crate) value: f64,
    /// What it is held against.
    pub(crate) bound: Bound,
}

/// Prints table and JSON line; what the process ends with: 1 when a bound does not hold. A return and
/// not an exit, so that broker, daemon and peer are ended first.
pub(crate) fn report(bench: &str, figures: &[Figure]) -> ExitCode {
    println!("\n{bench}");
    let mut held = true;
    let mut json = serde_json::Map::from_iter([("bench".to_owned(), Value::from(bench))]);
    for Figure { name, value, bound } in figures {
        let (words, ok) = match bound {
            Bound::Most(most) => (format!("at most {most}"), value <= most),
            Bound::Least(least) => (format!("at least {least}"), value >= least),
            Bound::None => (String::new(), true),
        };
        held &= ok;
        println!("  {name:<38} {value:>12.3}  {words:<16} {}", if ok { "" } else { "MISSED" });
        json.insert((*name).to_owned(), Value::from(*value));
    }
    json.insert("held".to_owned(), Value::from(held));
    println!("{}", Value::Object(json));
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
