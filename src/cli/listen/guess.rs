//! `lineside listen --guess`: samples at each rate, and what fits them.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{CLOCK, Playback, READ_BYTES, broken, not_opened, read};
use crate::base::Clock;
use crate::cli::{Exit, Failure};
use crate::config::serial::{Line, Parity};
use crate::listen::guess::{Confidence, Hypothesis, LOOKED_AT_BYTES, Ranking, Sample, rank};
use crate::stage::acquire::serial::tty::{LineCounts, OpenError, Tty};

/// Rates that are tried, the usual ones first.
pub(super) const BAUDS: [u32; 16] = [
    115_200, 9_600, 19_200, 38_400, 57_600, 230_400, 460_800, 921_600, 4_800, 2_400, 1_200, 250_000, 500_000,
    1_000_000, 2_000_000, 3_000_000,
];
/// Proposals that are shown.
const SHOWN: usize = 5;
/// Bytes after which a rate has been heard enough of.
const ENOUGH_BYTES: usize = LOOKED_AT_BYTES / 2;

#[derive(Debug, thiserror::Error)]
enum GuessError {
    #[error(
        "nothing came at any rate within {0:?} each; is the sensor powered, its TX on our RX, ground on ground?"
    )]
    Silent(Duration),
    #[error(
        "nothing fits what came ({0}); another rate (--baud), more bytes (--guess-secs), or a framing that \
         lineside does not know"
    )]
    Nothing(String),
    #[error("the port takes none of these rates")]
    NoRate,
}

/// What was heard at one rate.
struct Heard {
    line: Line,
    bytes: Vec<u8>,
    faults: u64,
}

impl Heard {
    fn sample(&self) -> Sample<'_> {
        Sample { line: self.line, bytes: &self.bytes, line_faults: self.faults }
    }
}

/// Runs it.
pub(super) fn run(
    port: &str,
    lines: &[Line],
    wait: Duration,
    playback: Option<Playback>,
    json: bool,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let is_recorded = playback.is_some();
    let heard = match playback {
        Some(portions) => vec![recorded(portions, port, lines[0])?],
        None => sampled(port, lines, wait, json, stop)?,
    };
    let samples: Vec<Sample<'_>> = heard.iter().map(Heard::sample).collect();
    let ranking = rank(&samples);
    let said = if json {
        let hypotheses: Vec<Value> = ranking.hypotheses.iter().map(object).collect();
        let heard: Vec<Value> = heard
            .iter()
            .map(|one| json!({"baud": one.line.baud, "bytes": one.bytes.len(), "line_faults": one.faults}))
            .collect();
        format!("{}\n", json!({"hypotheses": hypotheses, "any_rate": ranking.any_rate, "heard": heard}))
    } else {
        words(&ranking, is_recorded)
    };
    // Whoever closes the pipe early has read enough; the exit code still holds.
    let _ = std::io::stdout().write_all(said.as_bytes());
    if !ranking.hypotheses.is_empty() {
        return Ok(());
    }
    let came: Vec<String> = heard
        .iter()
        .filter(|one| !one.bytes.is_empty())
        .map(|one| format!("{} bytes at {}", one.bytes.len(), one.line.baud))
        .collect();
    Err(match came.as_slice() {
        _ if heard.is_empty() => Failure::new(Exit::Usage, GuessError::NoRate),
        [] => Failure::new(Exit::Unavailable, GuessError::Silent(wait)),
        came => Failure::new(Exit::DataErr, GuessError::Nothing(came.join(", "))),
    })
}

fn recorded(portions: Playback, path: &str, line: Line) -> Result<Heard, Failure> {
    let mut bytes = Vec::new();
    for portion in portions {
        bytes.extend(portion.map_err(|source| broken(path.as_ref(), source))?.bytes);
        if bytes.len() >= LOOKED_AT_BYTES {
            break;
        }
    }
    Ok(Heard { line, bytes, faults: 0 })
}

fn sampled(
    port: &str,
    lines: &[Line],
    wait: Duration,
    json: bool,
    stop: &AtomicBool,
) -> Result<Vec<Heard>, Failure> {
    let mut tty: Option<Tty> = None;
    let mut heard: Vec<Heard> = Vec::new();
    let mut todo: Vec<Line> = lines.iter().rev().copied().collect();
    while let Some(line) = todo.pop() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let set = match &mut tty {
            None => Tty::open(port, &line).map(|open| tty = Some(open)),
            Some(tty) => tty.set(&line),
        };
        match (set, &tty) {
            // A rate that the driver cannot do is none that the sensor has, unless it is the only one.
            (Err(OpenError::Settings { .. }), _) if lines.len() > 1 => {}
            (Err(error), _) => return Err(not_opened(error)),
            (Ok(()), None) => {}
            (Ok(()), Some(tty)) => {
                let one = hear(tty, line, wait, stop)?;
                if !json {
                    let Heard { bytes, faults, .. } = &one;
                    eprintln!("{:>8} baud: {} bytes, {faults} line errors", line.baud, bytes.len());
                }
                // A parity bit that nobody expects is a stop bit that is none: half of the time.
                let may_have_parity =
                    one.faults as usize * 8 > one.bytes.len() && line.parity == Parity::None;
                if may_have_parity && !one.bytes.is_empty() {
                    todo.extend([Parity::Odd, Parity::Even].map(|parity| Line { parity, ..line }));
                }
                let is_found = rank(&[one.sample()])
                    .hypotheses
                    .first()
                    .is_some_and(|best| best.confidence == Confidence::Certain && best.explained > 0.8);
                heard.push(one);
                if is_found {
                    break;
                }
            }
        }
    }
    Ok(heard)
}

fn hear(tty: &Tty, line: Line, wait: Duration, stop: &AtomicBool) -> Result<Heard, Failure> {
    let gone = |error| Failure::new(Exit::Unavailable, super::ListenError::Gone(error));
    // What came at the rate before is not of this one.
    tty.discard().map_err(gone)?;
    let before = tty.line_counts();
    let until = CLOCK.now() + wait;
    let (mut bytes, mut buf) = (Vec::new(), [0; READ_BYTES]);
    loop {
        let left = until.since(CLOCK.now());
        if left.is_zero() || bytes.len() >= ENOUGH_BYTES || stop.load(Ordering::Relaxed) {
            break;
        }
        let count = read(tty, left.min(super::GLANCE), &mut buf).map_err(gone)?;
        bytes.extend_from_slice(&buf[..count]);
    }
    let faults = tty.line_counts().zip(before).map_or(0, |(now, before)| {
        let LineCounts { framing, parity, .. } = now.since(before);
        u64::from(framing) + u64::from(parity)
    });
    Ok(Heard { line, bytes, faults })
}

fn words(ranking: &Ranking, is_recorded: bool) -> String {
    let mut said = String::new();
    for (at, one) in ranking.hypotheses.iter().take(SHOWN).enumerate() {
        let keys: Vec<String> = keys(one, ranking.any_rate || is_recorded)
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        let damaged = if one.bad > 0 { format!(", {} damaged", one.bad) } else { String::new() };
        said.push_str(&format!(
            "{}. {:<8} {}\n            {} frames{damaged}, {:.0} % of the bytes\n",
            at + 1,
            one.confidence.as_str(),
            keys.join(", "),
            one.frames,
            100.0 * one.explained.min(1.0)
        ));
        for remark in &one.evidence {
            said.push_str(&format!("            {remark}\n"));
        }
        if let Some(format) = one.format_word() {
            said.push_str(&format!("            bodies look like [pipeline.decode] format = \"{format}\"\n"));
        }
    }
    if ranking.any_rate {
        said.push_str("The same came at every rate: this port has none (a pty, a network adapter).\n");
    }
    if let Some(best) = ranking.hypotheses.first() {
        let flags: Vec<String> = keys(best, ranking.any_rate || is_recorded)
            .map(|(key, value)| format!("--{} {}", key.replace('_', "-"), value.trim_matches('"')))
            .collect();
        said.push_str(&format!("See it: lineside listen PORT {}\n", flags.join(" ")));
    }
    said
}

/// Without the rate where none shows.
fn keys(one: &Hypothesis, without_rate: bool) -> impl Iterator<Item = (&'static str, String)> {
    one.keys().into_iter().filter(move |(key, _)| !without_rate || *key != "baud")
}

fn object(one: &Hypothesis) -> Value {
    let value = |text: &str| match text.strip_prefix('"') {
        Some(text) => Value::from(text.trim_end_matches('"')),
        None => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
    };
    let source: serde_json::Map<_, _> =
        one.keys().into_iter().map(|(key, text)| (key.to_owned(), value(&text))).collect();
    json!({
        "confidence": one.confidence.as_str(), "source": source, "format": one.format_word(),
        "frames": one.frames, "damaged": one.bad, "explained": one.explained, "evidence": one.evidence,
    })
}
