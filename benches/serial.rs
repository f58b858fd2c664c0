//! What does a wire cost? Decoding beside the fastest line, a core's share for eight full ports, and the
//! time from a frame's last byte to its prediction.
//!
//!     cargo bench --bench serial -- --seconds 20
//!
//! `--only decode`, `--only ports` or `--only latency` asks one of the three. Ports are ptys: the kernel's
//! tty layer is the same as a UART's, its interrupts and the copper are not there.

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use common::load::Listener;
use common::support::daemon::Daemon;
use common::support::models::{Model, array, weigh};
use common::support::onnx::{Attribute, Graph};
use common::support::peer::{Peer, wire};
use common::support::site::{DEVICE, Site};
use common::support::{oracle, root};
use common::{Bound, Figure, percentile, report, setting};
use lineside::base::wire::CrcName;
use lineside::stage::decode::framing::any::{AnyDeframer, Framing, Kind};
use lineside::stage::decode::framing::packet::{HEADER_BYTES, Header, SampleType};
use lineside::stage::decode::framing::sequence::SequenceField;
use lineside::stage::decode::framing::{Deframe, Step};

/// What a kernel hands out of a tty at once.
const READ_BYTES: usize = 4096;
/// Bytes a second at 3 Mbaud: ten bits each.
const FASTEST_LINE: f64 = 300_000.0;
const PORTS: usize = 8;
const BAUD: u32 = 921_600;
/// A packet of the eight ports: 32 samples of three axes.
const AXES: usize = 3;
const SAMPLES: usize = 32;
const WINDOW: usize = 1024;

fn cobs() -> Framing {
    let crc = CrcName::parse("crc16_ibm_3740");
    let sequence = SequenceField::None;
    Framing { kind: Kind::Cobs, crc, crc_order: None, sequence, max_body_bytes: 4096 }
}

/// Readings of a sensor at rest: small numbers of both signs, so that half of all bytes are 0 or 255.
fn reading(n: usize) -> i16 {
    ((n * 7_919 + n * n * 31) % 401) as i16 - 200
}

/// Frames with bodies of 26 bytes, thirteen readings each, as they stand on the wire.
fn small_frames(count: usize) -> Vec<u8> {
    let mut enframer = cobs().enframer();
    let mut wire = Vec::new();
    for frame in 0..count {
        let body: Vec<u8> = (0..13).flat_map(|i| reading(frame * 13 + i).to_le_bytes()).collect();
        enframer.encode(0, &body, &mut wire).expect("COBS carries everything");
    }
    wire
}

/// Bytes of the wire a second, and that every frame came out.
fn decode(seconds: f64) -> f64 {
    const FRAMES: usize = 4_096;
    let wire = small_frames(FRAMES);
    let mut deframer = cobs().deframer();
    let rounds = |deframer: &mut AnyDeframer, wire: &[u8]| {
        let mut frames = 0;
        for portion in wire.chunks(READ_BYTES) {
            let mut input = portion;
            loop {
                match deframer.push(input) {
                    Step::NeedMore => break,
                    Step::Frame { body, rest, .. } => {
                        black_box(body);
                        frames += 1;
                        input = rest;
                    }
                    Step::Bad { why, .. } => panic!("{why}"),
                }
            }
        }
        frames
    };
    assert_eq!(rounds(&mut deframer, &wire), FRAMES);
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed().as_secs_f64() < seconds {
        assert_eq!(rounds(&mut deframer, black_box(&wire)), FRAMES);
        bytes += wire.len();
    }
    bytes as f64 / begun.elapsed().as_secs_f64()
}

/// Means of three axes over 1,024 samples: next to nothing to compute, everything to carry.
fn vibration() -> Model {
    let axis = |name| format!("[[features.channel]]\nname = \"{name}\"\nunit = \"g\"\n");
    let target = |name| format!("[[output.target]]\nname = \"{name}\"\nunit = \"g\"\n");
    Model {
        name: "vibration",
        graph: Graph::default().input("window", &[1, AXES, WINDOW]).output("means", &[1, AXES]).node(
            "ReduceMean",
            &["window"],
            "means",
            &[("axes", Attribute::Ints(vec![2])), ("keepdims", Attribute::Int(0))],
        ),
        meaning: format!(
            "[features]\nkind = \"window\"\ninput = \"window\"\nsamples = {WINDOW}\nlayout = \"nct\"\ngap = \"ignore\"\n\
             {}{}{}\n[output]\nkind = \"regression\"\ntensor = \"means\"\n{}{}{}",
            axis("x"),
            axis("y"),
            axis("z"),
            target("x_mean"),
            target("y_mean"),
            target("z_mean")
        ),
        golden: (
            vec![array(&[1, AXES, WINDOW], &[2.0; AXES * WINDOW])],
            vec![array(&[1, AXES], &[2.0; AXES])],
        ),
    }
}

/// A sensor's stream: packets of 32 samples, numbered.
fn blocks(count: u16) -> Vec<u8> {
    let mut enframer = cobs().enframer();
    let mut wire = Vec::new();
    for sequence in 0..count {
        let samples: Vec<i16> =
            (0..AXES * SAMPLES).map(|i| reading(usize::from(sequence) * 96 + i)).collect();
        let header = Header {
            samples: SampleType::I16,
            sensor: 1,
            schema: 7,
            sequence,
            time_us: 0,
            channels: AXES as u8,
        };
        let mut packet = [0; HEADER_BYTES + 2 * AXES * SAMPLES];
        header.write_i16(&samples, &mut packet).expect("the packet has room for them");
        enframer.encode(0, &packet, &mut wire).expect("COBS carries everything");
    }
    wire
}

fn source(name: &str, model: &str, format: &str, port: &str) -> String {
    format!(
        "[[pipeline]]\nname = \"{name}\"\nmodel = \"{model}\"\ndecode = {{ format = \"{format}\" }}\n\
         [pipeline.source]\nkind = \"serial\"\nport = \"{port}\"\nbaud = {BAUD}\nframing = \"cobs\"\n\
         crc = \"crc16_ibm_3740\"\nqueue_frames = 64\nwhen_full = \"block\"\n\n"
    )
}

/// Seconds of a core that a process has used.
fn core_seconds(daemon: &Daemon) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("the daemon runs");
    // proc(5): after the name in brackets, the twelfth and thirteenth are user and system time in ticks of 10 ms.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// What eight full ports came to.
struct Ports {
    percent_of_a_core: f64,
    frames_per_s: f64,
    /// Bytes on each wire, beside what the rate allows.
    fullness: f64,
    /// For which the kernel had no room, because nobody read in time.
    lost_bytes: f64,
}

fn ports(seconds: f64) -> Ports {
    let site = Site::new(&[vibration()]);
    let card = site.models().join("vibration/model.toml");
    let axes = "channel = [{ name = \"x\", scale = 0.001 }, { name = \"y\", scale = 0.001 }, { name = \"z\", scale = 0.001 }]";
    let text = fs::read_to_string(&card).expect("it was written a moment ago");
    fs::write(&card, format!("{text}\n[[packet]]\nschema = 7\n{axes}\n")).expect("the folder is writable");
    let stream = blocks(2_048);
    let frame_bytes = stream.len() as f64 / 2_048.0;
    let file = site.folder.path().join("stream");
    fs::write(&file, stream).expect("the folder is writable");
    let mut command = Command::new(oracle::python());
    command.arg("-u").arg(root().join("benches/peers/serial_pacer.py"));
    command.args([&PORTS.to_string(), &BAUD.to_string()]).arg(&file);
    let mut pacer = Peer::start(command, "tests/run makes target/test-venv");
    let names = pacer.wait_for("its ports", |line| line.starts_with("/dev/"));
    let config: String =
        names.split(' ').map(|port| source(&port.replace('/', "-"), "vibration", "packet", port)).collect();
    let daemon = site.run(&config.replace("name = \"-dev-pts-", "name = \"pts-"));
    for port in names.split(' ') {
        daemon.wait_log(&["open", port], Duration::from_secs(10));
    }
    pacer.say("go");
    std::thread::sleep(Duration::from_secs(2)); // sessions and windows are made
    let (begun, before) = (Instant::now(), core_seconds(&daemon));
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let share = (core_seconds(&daemon) - before) / begun.elapsed().as_secs_f64();
    pacer.say("stop");
    let said = pacer.wait_for("what it sent", |line| !line.is_empty());
    let numbers: Vec<f64> = said.split(' ').map(|word| word.parse().expect("a number")).collect();
    let [sent, lost_bytes, took] = numbers[..] else { panic!("{said}") };
    Ports {
        percent_of_a_core: 100.0 * share,
        frames_per_s: PORTS as f64 * sent / took / frame_bytes,
        fullness: sent / took / (f64::from(BAUD) / 10.0),
        lost_bytes,
    }
}

/// Microseconds from handing a frame to the wire to hearing its prediction, one by one.
fn latency(seconds: f64) -> Vec<f64> {
    let site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "scale");
    let port = wire.here.to_str().expect("a folder for temporary files has a plain name");
    let daemon = site.run(&source("scale", "weigh", "f32le", port));
    daemon.wait_log(&["open", port], Duration::from_secs(10));
    let answers = Listener::connect(site.broker.port, "listener", &format!("lineside/{DEVICE}/scale/result"));
    let mut line = fs::OpenOptions::new().write(true).open(&wire.there).expect("socat made it");
    let mut enframer = cobs().enframer();
    let mut times = Vec::new();
    let mut frame = Vec::new();
    let begun = Instant::now();
    for n in 0u32.. {
        if begun.elapsed().as_secs_f64() > seconds {
            break;
        }
        frame.clear();
        let body: Vec<u8> = [n as f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        enframer.encode(0, &body, &mut frame).expect("COBS carries everything");
        let sent = Instant::now();
        line.write_all(&frame).expect("the wire takes a frame");
        let (came, _) = answers.next(Duration::from_secs(10)).expect("every frame is answered");
        // The first frames warm caches and connections.
        if n >= 20 {
            times.push((came - sent).as_secs_f64() * 1e6);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    times
}

fn main() -> ExitCode {
    let seconds: f64 = setting("seconds", 20.0);
    let only: String = setting("only", String::new());
    let is_asked = |part: &str| only.is_empty() || only == part;
    let mut figures = Vec::new();
    if is_asked("decode") {
        let rate = decode(seconds.min(5.0));
        figures.push(Figure { name: "decode_mb_per_s", value: rate / 1e6, bound: Bound::None });
        let ratio = rate / FASTEST_LINE;
        figures.push(Figure { name: "decode_over_3_mbaud", value: ratio, bound: Bound::Least(300.0) });
    }
    if is_asked("ports") {
        let Ports { percent_of_a_core, frames_per_s, fullness, lost_bytes } = ports(seconds);
        figures.extend([
            Figure { name: "eight_ports_frames_per_s", value: frames_per_s, bound: Bound::None },
            Figure { name: "eight_ports_fullness", value: fullness, bound: Bound::Least(0.98) },
            Figure { name: "eight_ports_lost_bytes", value: lost_bytes, bound: Bound::Most(0.0) },
            Figure {
                name: "eight_ports_percent_of_a_core",
                value: percent_of_a_core,
                bound: Bound::Most(10.0),
            },
        ]);
    }
    if is_asked("latency") {
        let times = latency(seconds);
        for (name, share, bound) in [
            ("last_byte_to_prediction_p50_us", 0.5, Bound::None),
            ("last_byte_to_prediction_p99_us", 0.99, Bound::Most(3_000.0)),
        ] {
            figures.push(Figure { name, value: percentile(&times, share), bound });
        }
    }
    report("serial", &figures)
}
