//! `lineside demo`: flags in, a live table, a summary, an exit code.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::live::Live;
use super::{Exit, Failure, paint};
use crate::base::Paint;
use crate::config::LogFormat;
use crate::demo::judge::Standing;
use crate::demo::line::LineError;
use crate::demo::table::{self, Heading};
use crate::demo::{self, DemoError, Settings, render};
use crate::observe::log;

/// The whole product on this machine, nothing to install: broker, production line, daemon, answers
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Frames to send: one in six is a machine's reading, the others are pictures of parts
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    frames: u64,

    /// Parts a second, or `max`: as fast as they are answered
    #[arg(long, value_name = "RATE", default_value = "50")]
    rate: Rate,

    /// The same seed makes the same parts and readings; default: a new one each time, printed at the end
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    /// Share of bad parts, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = Share(DEFECTS))]
    defects: Share,

    /// Write annotated pictures into this folder: verdict and label, the truth, the place of the defect
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,

    /// Print one JSON object on standard output and nothing else
    #[arg(long)]
    json: bool,

    /// Print the configuration that the demo's daemon runs, and end
    #[arg(long)]
    show_config: bool,
}

/// More than any plant would bear, so that a short demo shows every kind.
const DEFECTS: f64 = 0.25;

const AFTER_HELP: &str = "\
What runs: an MQTT broker inside this process, on a free port of the loopback
interface; a rendered production line that publishes JPEG pictures of parts; a
simulated milling machine whose sensor sends packets over a serial line (a
pseudo terminal). The daemon, the same code as `lineside run`, answers over MQTT
with the models part-inspection and machine-failure. Each answer is held
against the known truth.

Any MQTT client may listen: mosquitto_sub -p PORT -t 'lineside/#' (the port is
shown while the demo runs).

Latencies, in milliseconds: queue, decode, featurize and infer are stages on
the device; `device` is all of it, from a frame's last byte to its prediction;
`round trip` is what its sender sees, from sending it to the prediction. p50:
half of them are faster; p99: one in a hundred is slower.

With LINESIDE_LOG=lineside=info the daemon's log is on standard error instead of
the table.

Examples:
  lineside demo
  lineside demo --frames 50 --save pictures/   then look at pictures/
  lineside demo --rate max --frames 3000       how fast is this machine?
  lineside demo --json --seed 7                for scripts

Ends with 0 only if every frame was answered, else with 70 and the names of
those that were not. Ctrl-C stops the line; what is under way is answered.";

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(Option<f64>);

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self(None)),
            // One a minute to more than any renderer makes.
            Ok(rate) if (1.0 / 60.0..=100_000.0).contains(&rate) => Ok(Self(Some(rate))),
            _ => Err("it must be a number from 0.017 (one a minute) to 100000, or `max`".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Share(f64);

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err("it must be a number from 0 to 1, such as 0.25".into()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Incomplete {
    #[error("--seed {0} belongs to the lines that part-inspection was trained on; take a smaller one")]
    TrainingSeed(u64),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("the demo is not complete: {}", .0.join("; "))]
    Unanswered(Vec<String>),
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { frames, rate, seed, defects, save, json, show_config } = args;
    if show_config {
        return print(demo::CONFIG);
    }
    let seed = seed.unwrap_or_else(new_seed);
    if render::TRAINING_SEEDS.contains(&seed) {
        return Err(Failure::new(Exit::Usage, Incomplete::TrainingSeed(seed)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The first one ends the line, the second one the process: whoever is in a hurry asks twice.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| Failure::new(Exit::Software, Incomplete::Signals(error)))?;
    }
    let settings = Settings {
        frames,
        rate_per_s: rate.0,
        seed,
        defects_per_mille: (defects.0 * 1000.0).round() as u32,
        save: save.clone(),
    };
    // Log lines would tear the table: they come only when they are asked for, and instead of it.
    let logs = std::env::var_os(log::FILTER_VARIABLE).is_some();
    if logs {
        log::init(LogFormat::Text);
    }
    let mut screen = Screen::choose(json, logs);
    let summary = demo::run(&settings, &stop, |heading, standing| screen.show(heading, standing));
    screen.clear();
    let summary = summary.map_err(|error| Failure::new(exit_code(&error), error))?;
    if json {
        print(&format!("{}\n", summary.json()))?;
    } else {
        let mut lines = summary.lines(paint(std::io::stdout().is_terminal()));
        let share = if defects == Share(DEFECTS) { String::new() } else { format!(" --defects {defects}") };
        lines.push(format!(" The same parts again: lineside demo --seed {seed}{share}"));
        if let Some(folder) = save {
            lines.push(format!(" Annotated pictures: {}", folder.display()));
        }
        print(&format!("{}\n", lines.join("\n")))?;
    }
    if summary.is_complete() {
        Ok(())
    } else {
        Err(Failure::new(Exit::Software, Incomplete::Unanswered(summary.complaints())))
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(Exit::IoErr, error))
}

fn exit_code(error: &DemoError) -> Exit {
    match error {
        DemoError::Broker(_) | DemoError::Judge(_) => Exit::Unavailable,
        DemoError::Line(LineError::Camera(_)) => Exit::Unavailable,
        DemoError::Site(_) | DemoError::Save(_) | DemoError::Wire(_) | DemoError::Line(_) => Exit::IoErr,
        DemoError::Boot(_) | DemoError::Offline | DemoError::Thread(_) | DemoError::Panicked(_) => {
            Exit::Software
        }
    }
}

/// Six digits: easily typed again.
fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_micros() as u64 ^ (u64::from(std::process::id()) << 7)) % 1_000_000
}

/// Where the standing is shown.
enum Screen {
    /// Nowhere: `--json`.
    None,
    /// A line a second on standard error.
    Lines { last: Option<Instant> },
    /// A table that is drawn over itself on standard error.
    Table { live: Live, paint: Paint },
}

impl Screen {
    fn choose(json: bool, logs: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal() && !logs;
        match (json, is_terminal) {
            (true, _) => Self::None,
            (false, false) => Self::Lines { last: None },
            (false, true) => Self::Table { live: Live::stderr(), paint: paint(true) },
        }
    }

    fn show(&mut self, heading: &Heading, standing: &Standing) {
        match self {
            Self::None => {}
            Self::Lines { last } => {
                let is_due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
                if is_due && standing.elapsed > Duration::ZERO {
                    *last = Some(Instant::now());
                    eprintln!("{}", table::line(heading, standing));
                }
            }
            Self::Table { live, paint } => live.draw(|| table::live(heading, standing, *paint)),
        }
    }

    fn clear(&mut self) {
        if let Self::Table { live, .. } = self {
            live.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn nonsense_on_the_command_line_is_refused() {
        for extra in [
            ["--frames", "0"],
            ["--frames", "-1"],
            ["--rate", "0"],
            ["--rate", "NaN"],
            ["--rate", "inf"],
            ["--defects", "1.1"],
            ["--defects", "NaN"],
            ["--seed", "x"],
        ] {
            assert!(Line::try_parse_from(["demo"].iter().chain(&extra)).is_err(), "{extra:?}");
        }
        let args = Line::try_parse_from(["demo", "--rate", "max", "--defects", "1"]).unwrap().args;
        assert_eq!((args.rate, args.defects, args.frames), (Rate(None), Share(1.0), 600));
    }

    #[test]
    fn a_seed_of_the_training_is_refused() {
        let seed = render::TRAINING_SEEDS.start.to_string();
        let args = Line::try_parse_from(["demo", "--seed", &seed]).unwrap().args;
        let failure = run(args).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
