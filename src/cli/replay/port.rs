//! `lineside replay --port`: recorded bytes at the times at which they came, or frames in a framing.
//!
//! Promise: what is to be sent is read and checked whole before the port is opened, and the verb ends well
//! only when all of it is on the wire.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::json;

use super::recording::{Recording, RecordingError};
use super::{Args, Pace, Rate, Rounds, bar, broken_recording};
use crate::base::Clock;
use crate::cli::line_options::{CLOCK, OptionsError, not_opened};
use crate::cli::live::{Bar, Bytes};
use crate::cli::{Exit, Failure};
use crate::config::serial::Wire;
use crate::daemon::port;
use crate::listen::recording::{self as bytes, Portions};
use crate::stage::acquire::serial::tty::{self, Tty};
use crate::stage::decode::framing::EncodeError;
use crate::stage::decode::framing::any::Enframer;

/// How often a waiting player looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// Why nothing was sent, or not all.
#[derive(Debug, thiserror::Error)]
enum PortError {
    #[error("the line: {0}")]
    Options(OptionsError),
    #[error(
        "framing = \"modbus_rtu\" sends nothing by itself: a master asks; replay a recording of the bus instead"
    )]
    Modbus,
    #[error("a recording has its own times: --rate is left out, or `max`")]
    RateOfRecording,
    #[error("a recording is bytes, framed already; {0} means nothing for it")]
    FramedAlready(&'static str),
    #[error("cannot read {}", path.display())]
    Recording { path: PathBuf, source: bytes::RecordingError },
    #[error("{} holds no bytes", .0.display())]
    Empty(PathBuf),
    #[error("frame {number} ({payload_bytes} bytes) cannot be sent in this framing")]
    Encode { number: u64, payload_bytes: usize, source: EncodeError },
    #[error("frame {number} has {payload_bytes} bytes, more than max_frame_bytes ({limit})")]
    TooLong { number: u64, payload_bytes: usize, limit: usize },
    #[error("{sent} bytes were sent, then the port went away")]
    Gone { sent: u64, source: io::Error },
}

impl PortError {
    fn exit(&self) -> Exit {
        match self {
            Self::Options(_) | Self::Modbus | Self::RateOfRecording | Self::FramedAlready(_) => Exit::Usage,
            Self::Recording { source: bytes::RecordingError::Read(_), .. } => Exit::IoErr,
            Self::Recording { .. } | Self::Empty(_) | Self::Encode { .. } | Self::TooLong { .. } => {
                Exit::DataErr
            }
            Self::Gone { .. } => Exit::Unavailable,
        }
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Failure::new(error.exit(), error)
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args, port: &str, stop: &AtomicBool) -> Result<(), Failure> {
    let serial = args.line.serial(port, "line").map_err(PortError::Options)?;
    let tape = Tape::open(&args.path, args)?;
    let total = match (&tape, &serial.wire) {
        (Tape::Bytes(path), _) => match args.line.first_of_frames() {
            Some(flag) => return Err(PortError::FramedAlready(flag).into()),
            None => count(path)?,
        },
        (Tape::Frames(_), Wire::Modbus(_)) => return Err(PortError::Modbus.into()),
        (Tape::Frames(recording), Wire::Frames(framing)) => {
            let codec = Codec::new(framing);
            check(recording, codec)?
        }
    };
    let tty = Tty::open(port, &serial.line).map_err(not_opened)?;
    if !args.json {
        eprintln!("sending to {}, {}; Ctrl-C ends it", tty.path.display(), tty::in_words(&serial.line));
        for note in &tty.notes {
            eprintln!("the driver {note}");
        }
    }
    let (rounds, total) = match args.rounds {
        Rounds::Count(rounds) => (Some(rounds), Some(total.saturating_mul(rounds))),
        Rounds::Forever => (None, None),
    };
    let mut player =
        Player { tty: &tty, stop, sent: 0, sent_bytes: 0, bar: bar(total, args.json, tape.unit()) };
    let started = Instant::now();
    let played = player.play(&tape, &serial.wire, args.rate, rounds);
    player.bar.clear();
    played?;
    player.report(started.elapsed(), tape.unit(), args.json);
    Ok(())
}

/// What is sent.
enum Tape {
    /// Bytes with their times.
    Bytes(PathBuf),
    /// Payloads, to be framed.
    Frames(Recording),
}

impl Tape {
    fn open(path: &Path, args: &Args) -> Result<Self, Failure> {
        if !is_recording(path) {
            return Ok(Self::Frames(Recording::open(path, args.raw).map_err(broken_recording)?));
        }
        match args.rate {
            None | Some(Rate::Max) => Ok(Self::Bytes(path.to_owned())),
            Some(Rate::PerSecond(_)) => Err(PortError::RateOfRecording.into()),
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "portions",
            Self::Frames(_) => "frames",
        }
    }
}

fn is_recording(path: &Path) -> bool {
    let begins = |file: File| BufReader::new(file).fill_buf().is_ok_and(bytes::is_recording);
    path.is_file() && File::open(path).is_ok_and(begins)
}

fn portions(path: &Path) -> Result<Portions<BufReader<File>>, PortError> {
    let file = File::open(path).map_err(|source| wrong(path, source.into()))?;
    Ok(Portions::of(BufReader::new(file)))
}

fn wrong(path: &Path, source: bytes::RecordingError) -> PortError {
    PortError::Recording { path: path.to_owned(), source }
}

fn count(path: &Path) -> Result<u64, PortError> {
    let mut count = 0;
    for portion in portions(path)? {
        portion.map_err(|source| wrong(path, source))?;
        count += 1;
    }
    if count == 0 { Err(PortError::Empty(path.to_owned())) } else { Ok(count) }
}

/// Frames payloads and numbers them.
struct Codec {
    enframer: Enframer,
    limit: usize,
    number: u64,
    frame: Vec<u8>,
}

impl Codec {
    fn new(framing: &crate::config::serial::Framing) -> Self {
        let enframer = port::framing(framing).enframer();
        Self { enframer, limit: framing.max_frame_bytes.get(), number: 0, frame: Vec::new() }
    }

    fn frame(&mut self, payload: &[u8]) -> Result<&[u8], PortError> {
        let (number, payload_bytes, limit) = (self.number + 1, payload.len(), self.limit);
        if payload_bytes > limit {
            return Err(PortError::TooLong { number, payload_bytes, limit });
        }
        self.frame.clear();
        self.enframer
            .encode(self.number as u16, payload, &mut self.frame)
            .map_err(|source| PortError::Encode { number, payload_bytes, source })?;
        self.number = number;
        Ok(&self.frame)
    }
}

/// Frames in one round, all of which the framing carries.
fn check(recording: &Recording, mut codec: Codec) -> Result<u64, Failure> {
    recording.count(&|_| None).map_err(broken_recording)?;
    for frame in recording.frames() {
        codec.frame(&frame.map_err(broken_recording)?.payload)?;
    }
    Ok(codec.number)
}

/// A tape being played.
struct Player<'p> {
    tty: &'p Tty,
    stop: &'p AtomicBool,
    sent: u64,
    sent_bytes: u64,
    bar: Bar,
}

impl Player<'_> {
    fn play(
        &mut self,
        tape: &Tape,
        wire: &Wire,
        rate: Option<Rate>,
        rounds: Option<u64>,
    ) -> Result<(), Failure> {
        let mut left = rounds;
        let mut pace = Pace::new(rate.unwrap_or(Rate::PerSecond(super::FRAMES_PER_S)));
        let mut codec = match wire {
            Wire::Frames(framing) => Some(Codec::new(framing)),
            Wire::Modbus(_) => None,
        };
        while !self.is_stopped() && left != Some(0) {
            left = left.map(|left| left - 1);
            match (tape, &mut codec) {
                (Tape::Bytes(path), _) => self.bytes(path, rate.is_none())?,
                (Tape::Frames(recording), Some(codec)) => self.frames(recording, codec, &mut pace)?,
                (Tape::Frames(_), None) => return Err(PortError::Modbus.into()),
            }
        }
        // A signal ends this wait as well: a port that is held back never gets rid of it.
        if !self.is_stopped() {
            match self.tty.drain() {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(self.gone(error).into()),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn gone(&self, source: io::Error) -> PortError {
        PortError::Gone { sent: self.sent_bytes, source }
    }

    /// One round of a recording; `timed`: at its own times.
    fn bytes(&mut self, path: &Path, timed: bool) -> Result<(), PortError> {
        let began = CLOCK.now();
        for portion in portions(path)? {
            let portion = portion.map_err(|source| wrong(path, source))?;
            while timed && !self.is_stopped() {
                let left = (began + portion.at).since(CLOCK.now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(GLANCE));
            }
            if self.is_stopped() {
                return Ok(());
            }
            self.send(&portion.bytes)?;
        }
        Ok(())
    }

    fn frames(&mut self, recording: &Recording, codec: &mut Codec, pace: &mut Pace) -> Result<(), Failure> {
        for frame in recording.frames() {
            let payload = frame.map_err(|error: RecordingError| broken_recording(error))?.payload;
            while !self.is_stopped() {
                let wait = pace.wait(CLOCK.now());
                if wait.is_zero() {
                    break;
                }
                std::thread::sleep(wait.min(GLANCE));
            }
            if self.is_stopped() {
                return Ok(());
            }
            self.send(codec.frame(&payload)?)?;
        }
        Ok(())
    }

    /// Writes all of it, as fast as the line takes it.
    fn send(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_stopped() {
            match self.tty.file().write(rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    self.sent_bytes += written as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.tty.file(), PollFlags::OUT)];
                    let wait = Timespec { tv_sec: 0, tv_nsec: GLANCE.subsec_nanos() as _ };
                    match poll(&mut fds, Some(&wait)) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(errno) => return Err(self.gone(errno.into())),
                    }
                    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                        return Err(self.gone(ErrorKind::BrokenPipe.into()));
                    }
                }
                Err(error) => return Err(self.gone(error)),
            }
        }
        if rest.is_empty() {
            self.sent += 1;
            self.bar.at(self.sent, self.sent_bytes);
        }
        Ok(())
    }

    fn report(&self, took: Duration, unit: &str, json: bool) {
        let seconds = took.as_secs_f64();
        let rate = if seconds > 0.0 { self.sent as f64 / seconds } else { 0.0 };
        let Self { sent, sent_bytes, .. } = self;
        if json {
            let summary = json!({unit: sent, "bytes": sent_bytes, "duration_s": seconds, "rate_per_s": rate});
            println!("{summary}");
        } else {
            println!(
                "{sent} {unit}, {}, in {seconds:.1} s ({rate:.1}/s), all on the wire",
                Bytes(*sent_bytes)
            );
        }
    }
}
