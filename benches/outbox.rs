//! How many predictions a second does the outbox take to disk while the link is down, next to one sync
//! for each? On the disk under `--path` (default: the folder for temporary files in `target/`).
//!
//!     cargo bench --bench outbox -- --predictions 20000

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{Bound, Figure, report, setting};
use lineside::base::{Clock, Identity, SystemClock};
use lineside::config::{self, OutboxWhenFull, Qos};
use lineside::flow::{Receipt, Settlement, Ticket};
use lineside::outbox::{Entry, Kind, Opened, Outbox};

/// What a prediction of a class with four labels takes.
const PAYLOAD_BYTES: usize = 700;

/// Counts what is settled, and lets one wait for it.
#[derive(Default)]
struct Source {
    settled: Mutex<usize>,
    news: Condvar,
}

impl Settlement for Source {
    fn settled(&self, _: Receipt) {
        *self.settled.lock().expect("nobody panics while holding this") += 1;
        self.news.notify_all();
    }

    fn expect_more(&self, _: Receipt, _: usize) {}
}

impl Source {
    fn wait_for(&self, count: usize) {
        let settled = self.settled.lock().expect("nobody panics while holding this");
        let waited = self.news.wait_while(settled, |settled| *settled < count);
        drop(waited.expect("nobody panics while holding this"));
    }
}

/// Predictions a second that are safe on disk. One by one: each is safe before the next is made.
fn per_second(folder: &Path, predictions: usize, one_by_one: bool) -> f64 {
    let folder = tempfile::tempdir_in(folder).expect("a folder on the disk to be measured");
    let config = config::Outbox {
        path: folder.path().join("outbox"),
        max_bytes: NonZeroU64::new(1 << 30).expect("not 0"),
        when_full: OutboxWhenFull::Block,
        memory_bytes: NonZeroU64::new(8 << 20).expect("not 0"),
        spill_after: Duration::from_millis(10),
        backlog_per_sec: NonZeroU64::MIN,
    };
    let pipelines = vec![("screw".into(), Arc::default())];
    let opened = Outbox::open(&config, pipelines, 100, SystemClock.now(), 1, || {});
    let Opened { outbox, keeper, .. } = opened.expect("the folder is ours");
    let keeper = keeper.expect("the disk works");
    let keeping = std::thread::spawn(move || keeper.run(&SystemClock));
    // The link has been down for long.
    std::thread::sleep(Duration::from_millis(50));
    let source: Arc<Source> = Arc::default();
    let payload = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let begun = Instant::now();
    for delivery in 0..predictions as u64 {
        outbox.append(Entry {
            pipeline: 0,
            topic: "lineside/press-07/screw/result".into(),
            payload: payload.clone(),
            qos: Qos::AtLeastOnce,
            retain: false,
            kind: Kind::Prediction,
            identity: Identity { delivery, redelivered: false, key: 1 },
            back: None,
            ticket: Ticket::new(source.clone(), Receipt { delivery }),
            queued_at: SystemClock.now(),
        });
        if one_by_one {
            source.wait_for(delivery as usize + 1);
        }
    }
    source.wait_for(predictions);
    let took = begun.elapsed();
    outbox.finish(SystemClock.now(), Instant::now() + Duration::from_secs(1));
    keeping.join().expect("the keeper ends when it is told to");
    predictions as f64 / took.as_secs_f64()
}

fn main() -> ExitCode {
    let predictions: usize = setting("predictions", 20_000);
    let path: PathBuf = setting("path", PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let one_by_one = per_second(&path, (predictions / 20).clamp(1, 1_000), true);
    let grouped = per_second(&path, predictions, false);
    report(
        "outbox",
        &[
            Figure { name: "predictions_per_s", value: grouped, bound: Bound::None },
            Figure { name: "one_sync_each_per_s", value: one_by_one, bound: Bound::None },
            Figure { name: "ratio", value: grouped / one_by_one, bound: Bound::Least(20.0) },
        ],
    )
}
