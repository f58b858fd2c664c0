//! How many frames a second does one board's worth of cores decide without a drop? The tabular model
//! `machine-failure` beside a paho-mqtt + onnxruntime script, one after the other on the same ground.
//!
//!     cargo bench --bench throughput -- --seconds 60
//!     cargo bench --bench throughput -- --seconds 30 --peers false     only what settling costs
//!
//! Two grounds. In a factory the broker has a machine of its own, and a board's cores are the board's:
//! `common/hub.rs` stands for that network and costs next to nothing. And mosquitto on the same two
//! cores, where its one thread, four packets a frame at QoS 0 and seven at QoS 1, is the limit of both.
//! At QoS 0, which is what such scripts use (it is paho's default for both ends), and at QoS 1, where
//! we acknowledge a frame only when its answer is settled and the peer as soon as it has it.
//!
//! A rate is held when every frame is answered, none is counted lost, and the last answers come at
//! most a second after the last frames: no queue grows. The rate is searched in short trials and then
//! confirmed over the full time.

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::hub::Hub;
use common::load::{Listener, Sender, offer};
use common::support::daemon::Daemon;
use common::support::mosquitto::{Mosquitto, Setup};
use common::support::site::{DEVICE, STATS, pipeline_with_ids, work_folder, write_config};
use common::support::{oracle, root, shipped_models};
use common::{Bound, Figure, report, setting};
use serde_json::Value;

const MODEL: &str = "machine-failure";

/// A machine's readings as JSON, none like the one before. The id names the trial, so that late
/// answers to an earlier one are not counted.
fn frame(trial: &str, n: usize) -> Vec<u8> {
    let step = (n % 97) as f64;
    format!(
        "{{\"id\":\"{trial}{n}\",\"type\":{},\"air_temperature_k\":{:.1},\"process_temperature_k\":{:.1},\
         \"rotational_speed_rpm\":{},\"torque_nm\":{:.1},\"tool_wear_min\":{}}}",
        n % 3,
        296.0 + step / 12.0,
        306.0 + step / 12.0,
        1300 + 7 * (n % 97),
        30.0 + step / 3.0,
        n % 240
    )
    .into_bytes()
}

/// What stands between the frames and a contestant.
enum Ground {
    /// The network alone.
    Hub(Hub),
    /// Debian's broker on the same cores, with its own listener.
    Mosquitto(Mosquitto),
}

impl Ground {
    fn port(&self) -> u16 {
        match self {
            Self::Hub(hub) => hub.port,
            Self::Mosquitto(broker) => broker.port,
        }
    }
}

/// One of the two that are compared.
struct Contestant<'a> {
    ground: &'a Ground,
    topic: &'static str,
    answers: &'a str,
    qos: u8,
}

impl Contestant<'_> {
    /// Offers `rate` for `duration`. 1: held; else the share that was answered in time.
    fn held_share(&self, rate: f64, duration: Duration) -> f64 {
        static TRIAL: AtomicU64 = AtomicU64::new(0);
        let trial = format!("trial{}-", TRIAL.fetch_add(1, Ordering::Relaxed));
        let frames = |n: usize| frame(&trial, n);
        let begun = Instant::now();
        let listener;
        let (sent, answered): (usize, Box<dyn Fn() -> u64>) = match self.ground {
            Ground::Hub(hub) => {
                hub.count(&trial);
                let sent = hub.offer(self.topic, self.qos, rate, duration, frames);
                (sent, Box::new(|| hub.answered()))
            }
            Ground::Mosquitto(broker) => {
                let mut sender = Sender::connect(broker.port, "sender", self.qos);
                listener = Listener::counting(broker.port, "listener", self.answers, &trial);
                let due = Mutex::new(Vec::new());
                let topic = |n| (self.topic.into(), frames(n));
                let sent = offer(&mut sender, rate, duration, &due, topic);
                (sent, Box::new(|| listener.heard.load(Ordering::Relaxed)))
            }
        };
        let sent = sent as u64;
        let late_sender = begun.elapsed() > duration + Duration::from_millis(500);
        let patience = Instant::now() + Duration::from_secs(1);
        while answered() < sent && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let in_time = answered();
        eprintln!(
            "  {:<11} {rate:>8.0} frames/s for {:>2.0} s: {in_time} of {sent} answered in time{}",
            self.topic,
            duration.as_secs_f64(),
            if late_sender { ", the sender itself fell behind" } else { "" },
        );
        // What was not held drains before the next trial. An overloaded peer may be silent for long.
        let (mut seen, mut progress) = (answered(), Instant::now());
        while answered() < sent && progress.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(200));
            if answered() > seen {
                (seen, progress) = (answered(), Instant::now());
            }
        }
        let share = in_time as f64 / sent as f64;
        if late_sender { share.min(0.99) } else { share }
    }

    fn holds(&self, rate: f64, duration: Duration) -> bool {
        self.held_share(rate, duration) >= 1.0
    }

    /// The highest rate held over `duration`, to within a few per cent.
    fn limit(&self, duration: Duration) -> f64 {
        let trial = Duration::from_secs(3).min(duration);
        self.holds(100.0, trial); // warm
        let mut high = 250.0;
        while self.holds(high, trial) && high < 1e6 {
            high *= 2.0;
        }
        let mut low = high / 2.0;
        for _ in 0..4 {
            let middle = (low + high) / 2.0;
            if self.holds(middle, trial) { low = middle } else { high = middle }
        }
        // The short trials flatter: step down, to what was answered and below, until the full time is held.
        loop {
            let share = self.held_share(low, duration);
            if share >= 1.0 {
                return low;
            }
            low *= share.min(0.95);
        }
    }
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rate that Lineside holds.
fn ours(ground: &Ground, qos: u8, duration: Duration) -> f64 {
    let folder = work_folder(&[]);
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", ground.port());
    let pipeline = pipeline_with_ids("mill", MODEL, "mill/frame")
        .replace("qos = 1", &format!("qos = {qos}"))
        .replace("queue_frames = 64", "queue_frames = 4096");
    let config = write_config(folder.path(), &url, &shipped_models(), &pipeline);
    let mut daemon = Daemon::spawn(&config);
    let answers = format!("lineside/{DEVICE}/mill/result");
    let contestant = Contestant { ground, topic: "mill/frame", answers: &answers, qos };
    wait_until_it_answers(&contestant);
    let limit = contestant.limit(duration);
    std::thread::sleep(Duration::from_millis(2_500)); // `stats` come every second
    let stats: Value = match ground {
        Ground::Hub(hub) => serde_json::from_slice(&hub.newest(STATS).expect("stats came")),
        Ground::Mosquitto(broker) => {
            let listener = Listener::connect(broker.port, "stats", STATS);
            let (_, stats) = listener.next(Duration::from_secs(5)).expect("stats are retained");
            serde_json::from_slice(&stats)
        }
    }
    .expect("stats are JSON");
    let lost = &stats["pipelines"][0]["lost"];
    let count: u64 = lost.as_object().map_or(0, |lost| lost.values().filter_map(Value::as_u64).sum());
    assert_eq!(count, 0, "a daemon that drops frames does not hold a rate: {lost}");
    daemon.stop(Duration::from_secs(20));
    limit
}

/// The rate that the script holds.
fn theirs(ground: &Ground, qos: u8, duration: Duration) -> f64 {
    let contestant = Contestant { ground, topic: "peer/frame", answers: "peer/result", qos };
    let mut child = Command::new(oracle::python())
        .arg(root().join("benches/peers/paho_onnxruntime.py"))
        .arg(ground.port().to_string())
        .arg(shipped_models().join(MODEL))
        .args([contestant.topic, contestant.answers, &qos.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the interpreter was found");
    let mut ready = String::new();
    let out = child.stdout.take().expect("stdout is piped");
    let _peer = Peer(child);
    BufReader::new(out).read_line(&mut ready).expect("the peer says when it is ready");
    assert_eq!(ready.trim(), "ready", "the peer did not start");
    contestant.limit(duration)
}

fn wait_until_it_answers(contestant: &Contestant<'_>) {
    match contestant.ground {
        Ground::Hub(hub) => hub.wait_for_subscriber(contestant.topic),
        Ground::Mosquitto(_) => {
            let up = (0..20).any(|_| contestant.holds(10.0, Duration::from_millis(300)));
            assert!(up, "the daemon answers nothing");
        }
    }
}

/// What the promise costs: frames settled at QoS 1 to frames at QoS 0.
fn settling(qos_1: f64, qos_0: f64) -> Figure {
    Figure { name: "settled_at_qos1_by_qos0", value: qos_1 / qos_0, bound: Bound::Least(0.6) }
}

fn main() -> ExitCode {
    let duration = Duration::from_secs_f64(setting("seconds", 60.0));
    let plain = |name, value| Figure { name, value, bound: Bound::None };
    let network = Ground::Hub(Hub::start());
    if !setting("peers", true) {
        let [ours_0, ours_1] = [0, 1].map(|qos| ours(&network, qos, duration));
        let figures =
            [plain("frames_per_s", ours_0), plain("frames_per_s_qos1", ours_1), settling(ours_1, ours_0)];
        return report("throughput", &figures);
    }
    let compare = |name: &str, ground: &Ground, qos| {
        eprintln!("{name}, QoS {qos}");
        (ours(ground, qos, duration), theirs(ground, qos, duration))
    };
    let (ours_0, theirs_0) = compare("the network alone", &network, 0);
    let (ours_1, theirs_1) = compare("the network alone", &network, 1);
    let broker = Ground::Mosquitto(Mosquitto::start_with(Setup::default()));
    let (ours_m, theirs_m) = compare("mosquitto on the same cores", &broker, 0);
    report(
        "throughput",
        &[
            plain("frames_per_s", ours_0),
            plain("frames_per_s_of_peer", theirs_0),
            Figure { name: "ratio", value: ours_0 / theirs_0, bound: Bound::Least(5.0) },
            plain("frames_per_s_qos1", ours_1),
            plain("frames_per_s_of_peer_qos1", theirs_1),
            plain("ratio_qos1", ours_1 / theirs_1),
            settling(ours_1, ours_0),
            plain("mosquitto_frames_per_s", ours_m),
            plain("mosquitto_frames_per_s_of_peer", theirs_m),
            plain("mosquitto_ratio", ours_m / theirs_m),
        ],
    )
}
