//! `lineside replay`: recorded frames onto a topic or a serial port, at a rate.
//!
//! Promise: a recording is checked whole before its first frame goes out, and the verb ends well only
//! when every frame has been acknowledged (at QoS 0: handed to the network; to a port: on the wire).
//! Not here: what a recording looks like ([`recording`]), where its frames go ([`topic`], [`port`]), MQTT
//! (`mqtt::client`).

mod port;
mod recording;
mod topic;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::line_options::LineOptions;
use super::live::{Bar, Bytes, Live};
use super::{Exit, Failure};
use crate::base::Micros;
use crate::base::clock::SystemClock;
use crate::config::{Broker, Protocol, Qos, Tls, address};
use crate::mqtt::client::{self, Message, Messages, Next, SendError};
use recording::{Recording, RecordingError};
use topic::TopicTemplate;

/// Frames that may wait for their acknowledgement: enough for a slow link, little enough to be polite.
const MAX_INFLIGHT: u16 = 32;
/// Where no rate is asked for.
const FRAMES_PER_S: f64 = 10.0;

/// Send what was recorded: pictures, CSV or JSON lines to a broker or a serial port, bytes to a port
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Where to send to; mqtts://HOST for TLS
    #[arg(long, value_name = "URL", default_value = "mqtt://localhost:1883")]
    broker: String,

    /// Topic of each frame; {index}, {name} and {stem} are filled in
    #[arg(long, value_name = "TOPIC", required_unless_present = "port")]
    topic: Option<TopicTemplate>,

    /// Send to this serial port instead of a broker; --framing says how frames stand there
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with_all = ["broker", "topic", "qos", "username", "ca_file", "cert_file", "client_id"]
    )]
    port: Option<String>,

    /// Frames a second, or `max`: as fast as they are taken; default 10, and for recorded bytes their own times
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,

    /// How often to send the recording, or `forever`
    #[arg(long = "loop", value_name = "N", default_value = "1")]
    rounds: Rounds,

    /// 1: the broker acknowledges each frame; 0: nobody does
    #[arg(long, value_name = "QOS", default_value = "1")]
    qos: QosArg,

    /// CSV: send each line as it stands instead of a JSON object. JSON lines: do not check them
    #[arg(long)]
    raw: bool,

    /// Login; the password is read from the environment variable MQTT_PASSWORD
    #[arg(long, value_name = "NAME")]
    username: Option<String>,

    /// mqtts:// only: PEM file of authorities; default: the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// mqtts:// only: our certificate (PEM), together with --key-file
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// mqtts:// only: the certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,

    /// Unique at the broker; default: lineside-replay- and the process id
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,

    /// A folder of JPEG and PNG files, one such file, a .csv (or .tsv), a .jsonl (or .ndjson, .json); with
    /// --port also a recording of `lineside listen --record`
    path: PathBuf,

    #[command(flatten)]
    line: LineOptions,
}

const AFTER_HELP: &str = "\
What is sent:
  folder      each .jpg, .jpeg and .png below it, sorted by path, as it is
  .csv .tsv   one frame a line: a JSON object named by the header, or an
              array where there is no header; blank cells become null; `,`
              `;` or tab is found out; behind `;` a decimal comma is read
  .jsonl      one frame a line, as it is
  recording   to a port only: the bytes, at the times at which they came

To a port each frame goes out in --framing (default: line), with --crc, numbers
and all, as the daemon would read it.

Placeholders in the topic: {index} counts frames from 0, through all rounds;
{name} is the file's name, {stem} the same without its extension.

Examples:
  lineside replay --topic 'camera/{stem}/frame' --rate 25 pictures/
  lineside replay --topic machine/press-07/state --rate max ai4i2020.csv
  MQTT_PASSWORD=secret lineside replay --broker mqtts://broker.example \
      --username press-07 --topic machine/press-07/state log.jsonl
  lineside replay --port /dev/ttyUSB1 --baud 9600 night.rec
  lineside replay --port /dev/ttyUSB1 --raw --rate 50 --crc crc16_ibm_3740 log.csv

Ends with 0 when every frame was acknowledged, 64 for a wrong command line,
65 for a broken recording (with file:line), 69 without a broker or a port, 74
when a file cannot be read. Ctrl-C ends after the frames that are under way.";

/// Why a recording was not sent, or not to its end.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("--broker: {0}")]
    Url(String),
    #[error("{0} describes a serial port; --port names it")]
    NoPort(&'static str),
    #[error("{0} is for mqtts:// only; the broker's URL says mqtt://")]
    NoTls(&'static str),
    #[error("--username {0} is given, but the environment variable MQTT_PASSWORD is not set")]
    NoPassword(String),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("{settled} of {of} frames were acknowledged, then the way to the broker ended")]
    Broken { settled: u64, of: String, source: SendError },
    #[error("no frame was sent")]
    Unreachable(#[source] SendError),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    PerSecond(f64),
    Max,
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            // Once a day is slow enough, a million a second faster than any socket.
            Ok(rate) if (1e-5..=1e6).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err("it must be a number over 0 and at most 1000000, or `max`".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounds {
    Count(u64),
    Forever,
}

impl FromStr for Rounds {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u64>() {
            _ if text == "forever" => Ok(Self::Forever),
            Ok(count) if count > 0 => Ok(Self::Count(count)),
            _ => Err("it must be a whole number from 1, or `forever`".into()),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct QosArg(Qos);

impl FromStr for QosArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Self(Qos::AtMostOnce)),
            "1" => Ok(Self(Qos::AtLeastOnce)),
            _ => Err("it must be 0 or 1".into()),
        }
    }
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let usage = |error: ReplayError| Failure::new(Exit::Usage, error);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|error| Failure::new(Exit::Software, ReplayError::Signals(error)))?;
    }
    if let Some(port) = &args.port {
        return port::run(&args, port, &stop);
    }
    if let Some(flag) = args.line.first() {
        return Err(usage(ReplayError::NoPort(flag)));
    }
    let password = std::env::var("MQTT_PASSWORD").ok();
    let broker = broker(&args, password).map_err(usage)?;
    let Args { topic: Some(topic), rate, rounds, qos, raw, json, path, .. } = args else {
        unreachable!("a topic is required where there is no port")
    };
    let recording = Recording::open(&path, raw).map_err(broken_recording)?;
    let check = |name: &str| topic.check(name);
    let frames = recording.count(&check).map_err(broken_recording)?;
    let total = match rounds {
        Rounds::Count(rounds) => Some(frames.saturating_mul(rounds)),
        Rounds::Forever => None,
    };
    let mut player = Player {
        recording: &recording,
        frames: recording.frames(),
        topic: &topic,
        rounds_left: match rounds {
            Rounds::Count(rounds) => Some(rounds - 1),
            Rounds::Forever => None,
        },
        pace: Pace::new(rate.unwrap_or(Rate::PerSecond(FRAMES_PER_S))),
        sent: 0,
        settled: 0,
        settled_bytes: 0,
        stop,
        bar: bar(total, json, "frames"),
        error: None,
    };
    let started = Instant::now();
    let sent = client::send(&broker, qos.0, &mut player, &SystemClock);
    let took = started.elapsed();
    let Player { settled, settled_bytes, error, mut bar, .. } = player;
    bar.clear();
    if let Err(source) = sent {
        let error = match settled {
            0 => ReplayError::Unreachable(source),
            _ => {
                let of = total.map_or_else(|| "endlessly many".into(), |total| total.to_string());
                ReplayError::Broken { settled, of, source }
            }
        };
        return Err(Failure::new(Exit::Unavailable, error));
    }
    report(settled, settled_bytes, took, qos.0, json);
    // A file that changed or went away under way: what was read before it has been sent.
    error.map_or(Ok(()), |error| Err(broken_recording(error)))
}

fn broken_recording(error: RecordingError) -> Failure {
    let exit = if error.is_io() { Exit::IoErr } else { Exit::DataErr };
    Failure::new(exit, error)
}

fn broker(args: &Args, password: Option<String>) -> Result<Broker, ReplayError> {
    let address = address::parse(&args.broker).map_err(ReplayError::Url)?;
    let tls = address.tls.then(|| Tls {
        ca_file: args.ca_file.clone(),
        identity: args.cert_file.clone().zip(args.key_file.clone()),
        server_name: None,
        alpn: Vec::new(),
    });
    if tls.is_none() {
        for (flag, given) in [("--ca-file", &args.ca_file), ("--cert-file", &args.cert_file)] {
            if given.is_some() {
                return Err(ReplayError::NoTls(flag));
            }
        }
    }
    let login = match &args.username {
        None => None,
        Some(name) => Some((name.clone(), password.ok_or_else(|| ReplayError::NoPassword(name.clone()))?)),
    };
    let client_id =
        args.client_id.clone().unwrap_or_else(|| format!("lineside-replay-{}", std::process::id()));
    Ok(Broker {
        host: address.host,
        port: address.port,
        // Every broker speaks it, and a replay needs nothing of the other.
        protocol: Protocol::V3_1_1,
        tls,
        login,
        client_id,
        keep_alive: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(10),
        max_inflight: MAX_INFLIGHT,
    })
}

fn bar(total: Option<u64>, json: bool, unit: &str) -> Bar {
    Bar::new(if json { Live::hidden(true) } else { Live::stderr() }, total, unit)
}

fn report(frames: u64, bytes: u64, took: Duration, qos: Qos, json: bool) {
    let seconds = took.as_secs_f64();
    let rate = if seconds > 0.0 { frames as f64 / seconds } else { 0.0 };
    if json {
        let qos = u8::from(qos == Qos::AtLeastOnce);
        let summary =
            json!({"frames": frames, "bytes": bytes, "duration_s": seconds, "rate_per_s": rate, "qos": qos});
        println!("{summary}");
    } else {
        let how = match qos {
            Qos::AtLeastOnce => "all acknowledged",
            Qos::AtMostOnce => "handed to the network",
        };
        println!("{frames} frames, {}, in {seconds:.1} s ({rate:.1}/s), {how}", Bytes(bytes));
    }
}

/// When the next frame is due.
#[derive(Clone, Copy, Debug)]
struct Pace {
    period: Duration,
    due: Option<Micros>,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        let period = match rate {
            Rate::Max => Duration::ZERO,
            Rate::PerSecond(rate) => Duration::from_secs_f64(1.0 / rate),
        };
        Self { period, due: None }
    }

    /// How long to wait yet; zero: one frame may go now.
    fn wait(&mut self, now: Micros) -> Duration {
        let due = *self.due.get_or_insert(now);
        if due > now {
            return due.since(now);
        }
        // Behind by more than a second (a slow broker, a laptop that slept): no burst to catch up.
        let due = if now.since(due) > Duration::from_secs(1) { now } else { due };
        self.due = Some(due + self.period);
        Duration::ZERO
    }
}

/// A recording being played.
struct Player<'r> {
    recording: &'r Recording,
    frames: recording::Frames<'r>,
    topic: &'r TopicTemplate,
    /// Rounds after this one; `None`: forever.
    rounds_left: Option<u64>,
    pace: Pace,
    sent: u64,
    settled: u64,
    settled_bytes: u64,
    stop: Arc<AtomicBool>,
    bar: Bar,
    error: Option<RecordingError>,
}

impl Messages for Player<'_> {
    fn next(&mut self, now: Micros) -> Next {
        if self.stop.load(Ordering::Relaxed) {
            return Next::End;
        }
        let wait = self.pace.wait(now);
        if !wait.is_zero() {
            // Short enough that Ctrl-C is heard soon.
            return Next::Wait(wait.min(Duration::from_millis(100)));
        }
        loop {
            match self.frames.next() {
                Some(Ok(frame)) => {
                    let topic = self.topic.fill(self.sent, &frame.name);
                    self.sent += 1;
                    return Next::Message(Message { topic, payload: frame.payload });
                }
                Some(Err(error)) => {
                    self.error = Some(error);
                    return Next::End;
                }
                None => match &mut self.rounds_left {
                    Some(0) => return Next::End,
                    Some(left) => *left -= 1,
                    None => {}
                },
            }
            self.frames = self.recording.frames();
        }
    }

    fn settled(&mut self, payload_bytes: usize) {
        self.settled += 1;
        self.settled_bytes += payload_bytes as u64;
        self.bar.at(self.settled, self.settled_bytes);
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

    fn args(extra: &[&str]) -> Result<Args, clap::Error> {
        let line = ["replay", "--topic", "a/{index}", "recording.csv"].iter().chain(extra);
        Line::try_parse_from(line).map(|line| line.args)
    }

    #[test]
    fn a_steady_pace_neither_drifts_nor_bursts() {
        let mut pace = Pace::new(Rate::PerSecond(100.0));
        let (mut now, mut sent) = (Micros(5_000_000), 0);
        let start = now;
        while now.since(start) < Duration::from_secs(2) {
            if pace.wait(now).is_zero() {
                sent += 1;
            }
            now = now + Duration::from_micros(700);
        }
        assert!((199..=201).contains(&sent), "{sent} frames in 2 s at 100/s");
        now = now + Duration::from_secs(60);
        let burst = (0..1000).filter(|_| pace.wait(now).is_zero()).count();
        assert_eq!(burst, 1);
    }

    #[test]
    fn as_fast_as_can_be_never_waits() {
        let mut pace = Pace::new(Rate::Max);
        assert!((0..1000).all(|_| pace.wait(Micros(7)).is_zero()));
    }

    #[test]
    fn nonsense_on_the_command_line_is_refused() {
        for extra in [
            ["--rate", "0"],
            ["--rate", "-1"],
            ["--rate", "NaN"],
            ["--rate", "fast"],
            ["--loop", "0"],
            ["--loop", "ever"],
            ["--qos", "2"],
            ["--cert-file", "a.pem"],
            ["--topic", "a/{what}"],
        ] {
            assert!(args(&extra).is_err(), "{extra:?}");
        }
        assert_eq!(args(&["--rate", "max"]).unwrap().rate, Some(Rate::Max));
        assert_eq!(args(&["--loop", "forever"]).unwrap().rounds, Rounds::Forever);
    }

    #[test]
    fn logins_and_certificates_stand_where_they_can_work() {
        let wrong = |extra: &[&str], password: Option<&str>| {
            broker(&args(extra).unwrap(), password.map(Into::into)).unwrap_err().to_string()
        };
        assert!(wrong(&["--username", "me"], None).contains("MQTT_PASSWORD"));
        assert!(wrong(&["--ca-file", "ca.pem"], None).contains("mqtts://"));
        assert!(wrong(&["--broker", "localhost"], None).contains("no scheme"));
        let tls = ["--broker", "mqtts://host", "--cert-file", "c", "--key-file", "k", "--username", "me"];
        let good = broker(&args(&tls).unwrap(), Some("geheim".into())).unwrap();
        assert_eq!((good.host.as_str(), good.port), ("host", 8883));
        assert_eq!(good.tls.unwrap().identity, Some(("c".into(), "k".into())));
        assert_eq!(good.login, Some(("me".into(), "geheim".into())));
    }
}
