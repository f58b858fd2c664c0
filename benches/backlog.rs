//! Does a backlog disturb the line? An outage has left predictions on disk; the link is back, and live
//! frames come at a steady rate while the backlog goes out beside them. From when a frame was due to its
//! answer, while the backlog drains, next to the same line without one: same broker, same daemon.
//!
//!     cargo bench --bench backlog -- --backlog 100000 --rate 200 --seconds 30
//!
//! `[outbox] backlog_per_sec` is at its default of 1,000, so the backlog takes 100 seconds.

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::load::{Listener, Sender, offer};
use common::support::daemon::Daemon;
use common::support::eventually;
use common::support::models::weigh;
use common::support::mosquitto::{Mosquitto, Setup};
use common::support::site::{DEVICE, pipeline_with_ids, work_folder, write_config};
use common::{Bound, Figure, percentile, report, setting};
use lineside::base::{Clock, Identity, SystemClock};
use lineside::config::{self, OutboxWhenFull, Qos};
use lineside::flow::Ticket;
use lineside::outbox::{Entry, Kind, Opened, Outbox};

/// Where the backlog goes, so that it can be told from live answers.
const BACKLOG_TOPIC: &str = "backlog/result";
/// What a prediction of a class with four labels takes.
const PAYLOAD_BYTES: usize = 700;
/// Room for all of it.
const OUTBOX_BYTES: u64 = 1 << 30;

/// Leaves `predictions` on disk, as an outage does.
fn outage(folder: &Path, predictions: usize) {
    let config = config::Outbox {
        path: folder.to_owned(),
        max_bytes: NonZeroU64::new(OUTBOX_BYTES).expect("not 0"),
        when_full: OutboxWhenFull::Block,
        memory_bytes: NonZeroU64::new(8 << 20).expect("not 0"),
        spill_after: Duration::from_millis(10),
        backlog_per_sec: NonZeroU64::MIN,
    };
    let pipelines = vec![("scale".into(), Arc::default())];
    let opened = Outbox::open(&config, pipelines, 100, SystemClock.now(), 1, || {});
    let Opened { outbox, keeper, .. } = opened.expect("the folder is ours");
    let keeper = keeper.expect("the disk works");
    let keeping = std::thread::spawn(move || keeper.run(&SystemClock));
    let payload = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    for delivery in 0..predictions as u64 {
        outbox.append(Entry {
            pipeline: 0,
            topic: BACKLOG_TOPIC.into(),
            payload: payload.clone(),
            qos: Qos::AtLeastOnce,
            retain: false,
            kind: Kind::Prediction,
            identity: Identity { delivery, redelivered: false, key: 0 },
            back: None,
            ticket: Ticket::none(),
            queued_at: SystemClock.now(),
        });
    }
    let left = outbox.finish(SystemClock.now(), Instant::now() + Duration::from_secs(60));
    assert_eq!(left, 0, "all of it is on disk");
    keeping.join().expect("the keeper ends when it is told to");
}

/// Number of the frame that this answers.
fn number(answer: &[u8]) -> usize {
    let json: serde_json::Value = serde_json::from_slice(answer).expect("answers are JSON");
    json["source"]["frame_id"].as_str().and_then(|id| id.parse().ok()).expect("frames carry their number")
}

/// Microseconds from when each frame was due to its answer, at a steady rate.
fn steady(sender: &mut Sender, answers: &Listener, rate: f64, duration: Duration) -> Vec<f64> {
    let due = Mutex::new(Vec::new());
    let frame = |n: usize| ("s/frame".into(), format!(r#"{{"id":"{n}","a":{n},"b":0,"c":0}}"#).into_bytes());
    let total = offer(sender, rate, duration, &due, frame);
    let due = due.into_inner().expect("the sender is done");
    (0..total)
        .map(|_| {
            let (came, answer) = answers.next(Duration::from_secs(10)).expect("every frame is answered");
            came.saturating_duration_since(due[number(&answer)]).as_secs_f64() * 1e6
        })
        .collect()
}

fn main() -> ExitCode {
    let backlog: usize = setting("backlog", 100_000);
    let (rate, seconds): (f64, f64) = (setting("rate", 200.0), setting("seconds", 30.0));
    let broker = Mosquitto::start_with(Setup::default());
    let folder = work_folder(&[weigh()]);
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", broker.port);
    let config = write_config(
        folder.path(),
        &url,
        &folder.path().join("models"),
        &pipeline_with_ids("scale", "weigh", "s/frame"),
    );
    // As large as the backlog was made: a pause of the broker, during which answers are written, must drop nothing.
    let text = std::fs::read_to_string(&config).expect("it was written a moment ago");
    let roomy = text.replace("[outbox]\n", &format!("[outbox]\nmax_bytes = {OUTBOX_BYTES}\n"));
    std::fs::write(&config, roomy).expect("the temporary folder is writable");
    let answers = Listener::connect(broker.port, "answers", &format!("lineside/{DEVICE}/scale/result"));
    let late = Listener::counting(broker.port, "late", BACKLOG_TOPIC, "x");
    let come = || late.heard.load(Ordering::Relaxed) as usize;
    let mut sender = Sender::connect(broker.port, "sender", 1);

    let mut daemon = Daemon::spawn(&config);
    daemon.wait_log(&["taking frames"], Duration::from_secs(20));
    steady(&mut sender, &answers, rate, Duration::from_secs(2)); // warm
    let idle = steady(&mut sender, &answers, rate, Duration::from_secs_f64(seconds));
    daemon.stop(Duration::from_secs(20));

    outage(&folder.path().join("outbox"), backlog);
    let daemon = Daemon::spawn(&config);
    daemon.wait_log(&["taking frames"], Duration::from_secs(20));
    let begun = Instant::now();
    steady(&mut sender, &answers, rate, Duration::from_secs(2)); // warm
    let mut beside = Vec::new();
    while come() < backlog {
        let slice = steady(&mut sender, &answers, rate, Duration::from_secs(1));
        if come() < backlog {
            beside.extend(slice);
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "{} of {backlog} came", come());
    }
    let took = begun.elapsed().as_secs_f64();
    let outbox = folder.path().join("outbox");
    let empty =
        || !std::fs::read_dir(&outbox).is_ok_and(|files| files.flatten().any(|f| is_segment(&f.path())));
    assert!(
        eventually(Duration::from_secs(20), || empty().then_some(())).is_some(),
        "what has come is removed"
    );
    let p99 = [&idle, &beside].map(|samples| percentile(samples, 0.99));
    report(
        "backlog",
        &[
            Figure { name: "drained", value: come() as f64, bound: Bound::Least(backlog as f64) },
            Figure { name: "drained_per_s", value: backlog as f64 / took, bound: Bound::None },
            Figure { name: "live_p99_us_idle", value: p99[0], bound: Bound::None },
            Figure { name: "live_p99_us_beside_backlog", value: p99[1], bound: Bound::None },
            Figure { name: "live_p99_ratio", value: p99[1] / p99[0], bound: Bound::Most(2.0) },
        ],
    )
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}
