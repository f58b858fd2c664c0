//! `lineside listen`: what comes on a serial port, for people and for machines.
//!
//! Not here: what bytes are ([`crate::listen`]), what they could be ([`guess`]), where it is shown ([`screen`])
//! and kept ([`tape`]).

mod guess;
mod screen;
mod tape;

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::line_options::{CLOCK, FormatWord, LineOptions, OptionsError, not_opened};
use super::{Exit, Failure, paint};
use crate::base::{Clock, Micros, Paint, UnixMicros};
use crate::config::serial::{FramingKind, Wire};
use crate::config::{Format, Serial, SourceKind};
use crate::listen::ear::{Ear, Seen};
use crate::listen::recording::{self, Portion, Portions};
use crate::listen::show::{self, Reading, Summary};
use crate::stage::acquire::serial::tty::{self, LineCounts, Tty};
use screen::Screen;
use tape::Tape;

/// How often a waiting listener looks whether it is to stop, and draws its rates.
const GLANCE: Duration = Duration::from_millis(100);
/// One read: what a kernel hands out of a tty at once.
const READ_BYTES: usize = 4096;

/// Show what comes on a serial port: bytes beside frames, errors, rates; find out what it is; record it
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A port (/dev/ttyUSB0), a pattern (/dev/serial/by-id/usb-FTDI_*), or a recording made with --record
    #[arg(value_name = "PORT", required_unless_present = "config")]
    port: Option<String>,

    /// Listen as the daemon would: port, line, framing and format of a pipeline of this configuration
    #[arg(short, long, value_name = "FILE", requires = "pipeline")]
    config: Option<PathBuf>,

    /// Which pipeline
    #[arg(long, value_name = "NAME", requires = "config")]
    pipeline: Option<String>,

    /// How bodies are read; default: as what they look like
    #[arg(long, value_name = "WORD")]
    format: Option<FormatWord>,

    /// Try rates, framings and checksums, and say which fit; --baud keeps to one rate
    #[arg(long, conflicts_with_all = ["config", "record", "frames", "secs"])]
    guess: bool,

    /// With --guess: how long to listen at each rate at most
    #[arg(long, value_name = "SECS", requires = "guess", default_value_t = 2.0)]
    guess_secs: f64,

    /// Keep what comes, with its times, in a new file; `listen` and `replay --port` read it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,

    /// End after so many seconds
    #[arg(long, value_name = "SECS")]
    secs: Option<f64>,

    /// One JSON object a line: each frame, each error, and a summary at the end
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    line: LineOptions,
}

const AFTER_HELP: &str = "\
A line of output: seconds since the beginning, bytes on the wire, and what they
are. Without --framing the bytes are shown in rows as they come. Errors and
missing frames are coloured on a terminal, and counted at the end. Nothing is
ever sent; the port is locked while it is listened to, so stop the daemon first.

Examples:
  lineside listen /dev/ttyUSB0 --guess         what is this?
  lineside listen /dev/ttyUSB0 --baud 9600 --framing line
  lineside listen /dev/ttyACM0 --framing cobs --crc crc16_ibm_3740 --format packet
  lineside listen -c line.toml --pipeline oven as the daemon would
  lineside listen /dev/ttyUSB0 --baud 9600 --record night.rec --secs 3600
  lineside listen night.rec --guess            and later, without the sensor

Ends with 0 (also by Ctrl-C or SIGTERM), 64 for a wrong command line or a path
that is no port, 65 when --guess finds nothing that fits or a recording is
broken, 69 for a port that is absent, busy, forbidden, or goes away, 74 when a
file cannot be written, 78 for a wrong configuration.";

/// Why it was not listened, or not to the end.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("the line: {0}")]
    Options(OptionsError),
    #[error("--pipeline {name}: {} has {}", config.display(), among(.serial))]
    Pipeline { name: String, config: PathBuf, serial: Vec<String> },
    #[error("{0} and -c both describe the line; give one of them")]
    TwiceDescribed(&'static str),
    #[error("{0} is about frames; --framing says how they stand in the stream")]
    NoFraming(&'static str),
    #[error("{0} says what --guess is to find out; give one of them")]
    NothingToGuess(&'static str),
    #[error("--{0} is no number of seconds over 0")]
    Seconds(&'static str),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("the port went away")]
    Gone(#[source] io::Error),
    #[error("{} is there already; a recording is never written over", .0.display())]
    RecordingExists(PathBuf),
    #[error("cannot write {}", path.display())]
    Record { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Playback { path: PathBuf, source: recording::RecordingError },
    #[error("{0} is a recording; --record keeps what comes from a port")]
    RecordsRecording(String),
}

fn among(serial: &[String]) -> String {
    match serial {
        [] => "no pipeline with a serial source".into(),
        names => format!("no such pipeline with a serial source; there is {}", names.join(", ")),
    }
}

/// What to listen to, and how.
struct Plan {
    serial: Serial,
    /// Rows of bytes: nobody named a framing.
    cuts: bool,
    reading: Reading,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let usage = |error| Failure::new(Exit::Usage, error);
    let secs = args.secs.map(|secs| seconds(secs, "secs")).transpose().map_err(usage)?;
    let guess_secs = seconds(args.guess_secs, "guess-secs").map_err(usage)?;
    let plan = plan(&args)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the process at once, should the first one be held up.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| Failure::new(Exit::Software, ListenError::Signals(error)))?;
    }
    let playback = open_recording(&plan.serial.port);
    if args.guess {
        let bauds = if args.line.names_baud() { vec![plan.serial.line.baud] } else { guess::BAUDS.to_vec() };
        let lines = bauds.into_iter().map(|baud| crate::config::serial::Line { baud, ..plan.serial.line });
        return guess::run(
            &plan.serial.port,
            &lines.collect::<Vec<_>>(),
            guess_secs,
            playback,
            args.json,
            &stop,
        );
    }
    let mut listener = Listener::new(&plan, &args, secs);
    let heard = match (playback, &args.record) {
        (Some(_), Some(_)) => {
            return Err(usage(ListenError::RecordsRecording(plan.serial.port)));
        }
        (Some(portions), None) => listener.play(portions, plan.serial.port.as_ref(), &stop),
        (None, record) => listener.hear(&plan.serial, record.as_deref(), &stop),
    };
    listener.screen.clear();
    heard?;
    Ok(())
}

fn seconds(secs: f64, option: &'static str) -> Result<Duration, ListenError> {
    Duration::try_from_secs_f64(secs).ok().filter(|secs| !secs.is_zero()).ok_or(ListenError::Seconds(option))
}

fn plan(args: &Args) -> Result<Plan, Failure> {
    let usage = |error| Failure::new(Exit::Usage, error);
    let (Some(path), Some(name)) = (&args.config, &args.pipeline) else {
        match args.line.first_of_frames() {
            Some(flag) if args.guess => return Err(usage(ListenError::NothingToGuess(flag))),
            Some(flag) if !args.line.names_framing() => return Err(usage(ListenError::NoFraming(flag))),
            Some(_) | None => {}
        }
        let port = args.port.as_deref().unwrap_or_default();
        let serial = args.line.serial(port, "line");
        let serial = serial.map_err(|why| usage(ListenError::Options(why)))?;
        let reading = Reading(args.format.map(Format::from));
        return Ok(Plan { serial, cuts: args.line.names_framing(), reading });
    };
    if let Some(flag) = args.line.first() {
        return Err(usage(ListenError::TwiceDescribed(flag)));
    }
    let config = super::run::read_config(Some(path.clone()))?;
    let mut serial = Vec::new();
    for pipeline in config.pipelines {
        let SourceKind::Serial(source) = pipeline.source.kind else { continue };
        if pipeline.name == *name {
            let mut serial = *source;
            serial.port = args.port.clone().unwrap_or(serial.port);
            let reading = Reading(Some(args.format.map_or(pipeline.decode.format, Format::from)));
            return Ok(Plan { serial, cuts: true, reading });
        }
        serial.push(pipeline.name);
    }
    Err(usage(ListenError::Pipeline { name: name.clone(), config: path.clone(), serial }))
}

type Playback = Portions<BufReader<File>>;

/// The recording at `path`, if that is one; everything else is for [`Tty::open`] to judge.
fn open_recording(path: &str) -> Option<Playback> {
    if !std::fs::metadata(path).is_ok_and(|meta| meta.is_file()) {
        return None;
    }
    let mut file = BufReader::new(File::open(path).ok()?);
    recording::is_recording(file.fill_buf().ok()?).then(|| Portions::of(file))
}

/// Ear, screen and counts.
struct Listener {
    ear: Ear,
    reading: Reading,
    json: bool,
    paint: Paint,
    screen: Screen,
    line_bytes_per_s: f64,
    cuts: bool,
    frames: Option<u64>,
    secs: Option<Duration>,
    /// Of the clock that portions are timed by, and of the wall where that is known.
    began: (Micros, Option<UnixMicros>),
    text: String,
}

impl Listener {
    fn new(plan: &Plan, args: &Args, secs: Option<Duration>) -> Self {
        let Plan { serial, cuts, reading } = plan;
        let may_be_packets = matches!(reading.0, None | Some(Format::Packet));
        let ear = match &serial.wire {
            _ if !cuts => Ear::of_bytes(&serial.line),
            Wire::Modbus(_) => Ear::of_modbus(&serial.line),
            Wire::Frames(framing) => {
                let is_packet = may_be_packets && framing.kind != FramingKind::Line;
                Ear::of_frames(&serial.line, framing, is_packet)
            }
        };
        Self {
            ear,
            reading: *reading,
            json: args.json,
            paint: paint(!args.json && io::stdout().is_terminal()),
            screen: Screen::choose(args.json),
            line_bytes_per_s: 1e9 / serial.line.character_ns() as f64,
            cuts: *cuts,
            frames: args.frames,
            secs,
            began: (Micros(0), None),
            text: String::new(),
        }
    }

    /// Takes bytes, and what time has made of them; shows what came of it. `false`: it is enough.
    fn take(&mut self, now: Micros, bytes: &[u8]) -> Result<bool, Failure> {
        let Self { ear, reading, json, paint, began, text, frames, .. } = self;
        text.clear();
        let mut left = frames.map(|frames| frames.saturating_sub(ear.tally.frames));
        let mut see = |seen: Seen<'_>| {
            // A read may bring more frames than were asked for.
            if left == Some(0) {
                return;
            }
            left = left.map(|left| left - u64::from(seen.is_frame()));
            let at = seen.at.since(began.0);
            if *json {
                let wall = began.1.map(|wall| UnixMicros(wall.0 + at.as_micros() as u64));
                text.push_str(&show::json(at, wall, &seen, *reading).to_string());
            } else {
                text.push_str(&show::line(at, &seen, *reading, *paint));
            }
            text.push('\n');
        };
        ear.tick(now, &mut see);
        ear.received(now, bytes, &mut see);
        let is_read = self.text.is_empty()
            || self.screen.write(&self.text).map_err(|error| Failure::new(Exit::IoErr, error))?;
        let enough = self.frames.is_some_and(|frames| self.ear.tally.frames >= frames)
            || self.secs.is_some_and(|secs| now.since(self.began.0) >= secs);
        Ok(is_read && !enough)
    }

    /// From a port.
    fn hear(&mut self, serial: &Serial, record: Option<&Path>, stop: &AtomicBool) -> Result<(), Failure> {
        let tty = Tty::open(&serial.port, &serial.line).map_err(not_opened)?;
        let wall = CLOCK.wall();
        self.began = (CLOCK.now(), Some(wall));
        let line = tty::in_words(&serial.line);
        let mut recorder = record.map(|path| Tape::create(path, &tty, &line, wall)).transpose()?;
        self.say(&format!("listening on {}, {line}; Ctrl-C ends it", tty.path.display()));
        for note in &tty.notes {
            self.say(&self.paint_of_words().yellow(&format!("the driver {note}")));
        }
        let counts = tty.line_counts();
        let mut buf = [0; READ_BYTES];
        let mut gone = None;
        let mut rates_at = self.began.0;
        while !stop.load(Ordering::Relaxed) {
            let now = CLOCK.now();
            if now >= rates_at {
                rates_at = now + GLANCE;
                let summary = self.summary(now, None);
                self.screen.rates(|| summary.words(Paint::Plain));
                recorder.as_mut().map_or(Ok(()), |tape| tape.flush_if_due(now))?;
            }
            if !self.take(now, &[])? {
                break;
            }
            let until = [self.ear.wake_at(), Some(rates_at)].into_iter().flatten().min().unwrap_or(rates_at);
            match read(&tty, until.since(CLOCK.now()), &mut buf) {
                Ok(0) => {}
                Ok(bytes) => {
                    let now = CLOCK.now();
                    if let Some(tape) = &mut recorder {
                        tape.portion(now.since(self.began.0), &buf[..bytes])?;
                    }
                    if !self.take(now, &buf[..bytes])? {
                        break;
                    }
                }
                Err(error) => {
                    gone = Some(error);
                    break;
                }
            }
        }
        recorder.as_mut().map_or(Ok(()), Tape::flush)?;
        let since = |(now, then): (LineCounts, LineCounts)| now.since(then);
        let line = tty.line_counts().zip(counts).map(since);
        self.finish(CLOCK.now(), line)?;
        gone.map_or(Ok(()), |error| Err(Failure::new(Exit::Unavailable, ListenError::Gone(error))))
    }

    /// From a recording, as fast as it can be read.
    fn play(&mut self, mut portions: Playback, path: &Path, stop: &AtomicBool) -> Result<(), Failure> {
        let mut end = Micros(0);
        while let Some(portion) = portions.next() {
            self.began.1 = portions.began();
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let Portion { at, bytes } = portion.map_err(|source| broken(path, source))?;
            end = Micros(0) + at;
            if !self.take(end, &bytes)? {
                break;
            }
        }
        // What the last silence ends.
        self.take(end + Duration::from_secs(60), &[])?;
        self.finish(end, None)
    }

    fn summary(&self, now: Micros, line: Option<LineCounts>) -> Summary {
        Summary {
            took: now.since(self.began.0),
            tally: self.ear.tally.clone(),
            line,
            line_bytes_per_s: self.line_bytes_per_s,
            cuts: self.cuts,
        }
    }

    fn paint_of_words(&self) -> Paint {
        paint(!self.json && io::stderr().is_terminal())
    }

    /// A remark for people, beside the frames.
    fn say(&self, words: &str) {
        if !self.json {
            eprintln!("{words}");
        }
    }

    fn finish(&self, now: Micros, line: Option<LineCounts>) -> Result<(), Failure> {
        self.screen.clear();
        let summary = self.summary(now, line);
        if self.json {
            let text = format!("{}\n", summary.json());
            self.screen.write(&text).map_err(|error| Failure::new(Exit::IoErr, error))?;
            return Ok(());
        }
        self.say(&summary.words(self.paint_of_words()));
        let tally = &summary.tally;
        if tally.bytes == 0 {
            self.say("nothing came: is the sensor powered, its TX on our RX, and ground on ground?");
        } else if self.cuts && tally.frames == 0 {
            self.say("no frame among them: `lineside listen PORT --guess` tries other rates and framings");
        }
        Ok(())
    }
}

/// Bytes that came within `wait`; none: nothing did, or a signal came.
fn read(tty: &Tty, wait: Duration, buf: &mut [u8]) -> io::Result<usize> {
    let mut fds = [PollFd::new(tty.file(), PollFlags::IN)];
    let wait = Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos() as _ };
    match poll(&mut fds, Some(&wait)) {
        Ok(0) | Err(Errno::INTR) => return Ok(0),
        Ok(_) => {}
        Err(errno) => return Err(errno.into()),
    }
    match tty.file().read(buf) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        read => read,
    }
}

fn broken(path: &Path, source: recording::RecordingError) -> Failure {
    let exit = match source {
        recording::RecordingError::Read(_) => Exit::IoErr,
        recording::RecordingError::Line { .. } => Exit::DataErr,
    };
    Failure::new(exit, ListenError::Playback { path: path.to_owned(), source })
}
