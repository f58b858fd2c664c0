//! How many frames a second does one board's worth of cores decide without a drop? The tabular model
//! `machine-failure` beside a paho-mqtt + onnxruntime script, on one broker, one after the other.
//!
//!     cargo bench --bench throughput -- --seconds 60
//!
//! At QoS 0, which is what such scripts use (it is paho's default for both ends), and at QoS 1, where
//! we acknowledge a frame only when its answer is settled and the peer as soon as it has it. At QoS 1
//! the single-threaded broker is the limit: seven packets a frame, a system call each.
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

use common::load::{Listener, Sender, offer};
use common::support::site::{DEVICE, Site, pipeline_with_ids};
use common::support::{oracle, root, shipped_models};
use common::{Bound, Figure, report, setting};

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

/// One of the two that are compared.
struct Contestant<'b> {
    port: u16,
    topic: &'static str,
    answers: &'b str,
    qos: u8,
}

impl Contestant<'_> {
    /// Offers `rate` for `duration`. True: held.
    fn holds(&self, rate: f64, duration: Duration) -> bool {
        static TRIAL: AtomicU64 = AtomicU64::new(0);
        let trial = format!("trial{}-", TRIAL.fetch_add(1, Ordering::Relaxed));
        let mut sender = Sender::connect(self.port, "sender", self.qos);
        let listener = Listener::counting(self.port, "listener", self.answers, &trial);
        let due = Mutex::new(Vec::new());
        let begun = Instant::now();
        let sent = offer(&mut sender, rate, duration, &due, |n| (self.topic.into(), frame(&trial, n))) as u64;
        let late_sender = begun.elapsed() > duration + Duration::from_millis(500);
        let patience = Instant::now() + Duration::from_secs(1);
        let answered = || listener.heard.load(Ordering::Relaxed);
        while answered() < sent && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let held = answered() == sent && !late_sender;
        eprintln!(
            "  {:<14} {rate:>8.0} frames/s for {:>2.0} s: {} of {sent} answered in time{}",
            self.topic,
            duration.as_secs_f64(),
            answered(),
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
        held
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
        // The short trials flatter: step down until the full time is held.
        while !self.holds(low, duration) {
            low *= 0.93;
        }
        low
    }
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rates that both hold at `qos`: ours, the peer's.
fn limits(site: &Site, qos: u8, duration: Duration) -> (f64, f64) {
    let port = site.broker.port;
    let answers = format!("lineside/{DEVICE}/mill/result");
    let ours = Contestant { port, topic: "mill/frame", answers: &answers, qos };
    let theirs = Contestant { port, topic: "peer/frame", answers: "peer/result", qos };

    // One at a time, so that neither takes the other's cores.
    let our_limit = {
        let config = pipeline_with_ids("mill", MODEL, "mill/frame")
            .replace("qos = 1", &format!("qos = {qos}"))
            .replace("queue_frames = 64", "queue_frames = 4096");
        let mut daemon = site.run(&config);
        let limit = ours.limit(duration);
        let stats = site.stats("mill", |_| true);
        let lost: u64 =
            stats["lost"].as_object().map_or(0, |lost| lost.values().filter_map(|n| n.as_u64()).sum());
        assert_eq!(lost, 0, "a daemon that drops frames does not hold a rate: {stats}");
        daemon.stop(Duration::from_secs(20));
        limit
    };
    let mut child = Command::new(oracle::python())
        .arg(root().join("benches/peers/paho_onnxruntime.py"))
        .arg(port.to_string())
        .arg(shipped_models().join(MODEL))
        .args([theirs.topic, theirs.answers, &qos.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the interpreter was found");
    let mut ready = String::new();
    let out = child.stdout.take().expect("stdout is piped");
    let _peer = Peer(child);
    BufReader::new(out).read_line(&mut ready).expect("the peer says when it is ready");
    assert_eq!(ready.trim(), "ready", "the peer did not start");
    (our_limit, theirs.limit(duration))
}

fn main() -> ExitCode {
    let duration = Duration::from_secs_f64(setting("seconds", 60.0));
    let site = Site::new(&[]);
    std::fs::remove_dir(site.models()).expect("it was made empty");
    std::os::unix::fs::symlink(shipped_models(), site.models()).expect("the temporary folder is writable");
    let (ours, theirs) = limits(&site, 0, duration);
    let (ours_1, theirs_1) = limits(&site, 1, duration);
    let plain = |name, value| Figure { name, value, bound: Bound::None };
    report(
        "throughput",
        &[
            plain("frames_per_s", ours),
            plain("frames_per_s_of_peer", theirs),
            Figure { name: "ratio", value: ours / theirs, bound: Bound::Least(5.0) },
            plain("frames_per_s_qos1", ours_1),
            plain("frames_per_s_of_peer_qos1", theirs_1),
            plain("ratio_qos1", ours_1 / theirs_1),
        ],
    )
}
