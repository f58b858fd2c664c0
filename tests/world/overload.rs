//! Overload: more comes than goes. What waits, waits within bounds, and where nothing is gained by it no
//! byte is written to a disk.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, lineside};
use crate::support::models::weigh;
use crate::support::scripted::{Script, Scripted};
use crate::support::site::{pipeline_with_ids, work_folder, write_config};
use crate::support::{SOON, eventually};

/// A configuration for this broker: `[outbox]` lines, and the pipeline with `changes`.
fn configure(broker: &Scripted, outbox: &str, changes: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let folder = work_folder(&[weigh()]);
    let pipeline = pipeline_with_ids("scale", "weigh", "s/frame");
    let pipeline = changes.iter().fold(pipeline, |text, (from, to)| text.replace(from, to));
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", broker.port);
    let config = write_config(folder.path(), &url, &folder.path().join("models"), &pipeline);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[outbox]\n", &format!("[outbox]\n{outbox}\n"))).unwrap();
    (folder, config)
}

fn small_frame(n: u64) -> Vec<u8> {
    format!(r#"{{"id":"{n}","a":{n},"b":0,"c":0}}"#).into_bytes()
}

#[test]
fn an_overload_over_a_link_that_is_up_is_pushed_back_reaches_no_disk_and_ends_in_time() {
    const PER_S: u64 = 300;
    // A broker that is slow with acknowledgements, and has sent far more than it takes answers for.
    let broker = Scripted::start(Script {
        topic: "s/frame",
        frame: small_frame,
        window: 2000,
        acknowledges_per_s: PER_S,
    });
    let (_folder, config) = configure(&broker, "spill_after_ms = 500", &[]);
    let mut daemon = Daemon::spawn(&config);
    let begun = eventually(SOON, || (broker.heard() > 0).then(Instant::now)).expect("it answers");
    std::thread::sleep(Duration::from_secs(4));
    let stats = broker.stats().expect("stats come every second");
    let took = begun.elapsed().as_secs_f64();
    assert!(broker.heard() as f64 > 0.5 * took * PER_S as f64, "it works on: {} answers", broker.heard());
    assert_eq!(stats["outbox"]["disk"]["written"], 0, "{stats}");
    let depth = stats["outbox"]["depth"].as_u64().unwrap();
    // As many as may wait at least, those under way, and one a worker.
    assert!((100..=310).contains(&depth), "{depth} wait");
    let frames = stats["pipelines"]["scale"]["frames"].as_u64().unwrap();
    assert!(frames < broker.sent(), "the connection is not read any further: {frames} of {}", broker.sent());
    assert_eq!(daemon.stop(SOON), Some(0));
    assert!(!daemon.log().contains("deadline"), "nobody was late:\n{}", daemon.log());
}

#[test]
fn a_stop_before_a_broker_that_acknowledges_nothing_writes_every_answer_to_disk_in_time() {
    const FRAMES: usize = 50;
    let broker = Scripted::start(Script {
        topic: "s/frame",
        frame: small_frame,
        window: FRAMES,
        acknowledges_per_s: 0,
    });
    let (_folder, config) = configure(&broker, "spill_after_ms = 3600000", &[]);
    let mut daemon = Daemon::spawn(&config);
    eventually(SOON, || (broker.heard() == FRAMES as u64).then_some(())).expect("all are answered");
    let asked = Instant::now();
    assert_eq!(daemon.stop(SOON), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(6), "`shutdown_secs` is 5:\n{}", daemon.log());
    assert!(daemon.log().contains("every frame that was taken is settled"), "{}", daemon.log());
    let listed = lineside(&["outbox", "list", "-c", &config.display().to_string()]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.matches("/result").count(), FRAMES, "{listed}");
}

const LARGEST_BYTES: usize = 4_000_000;

fn largest_frame(n: u64) -> Vec<u8> {
    let mut frame = small_frame(n);
    let blanks = vec![b' '; LARGEST_BYTES - frame.len()];
    frame.splice(1..1, blanks);
    frame
}

#[test]
fn a_flood_of_the_largest_frames_before_a_broker_that_takes_no_answer_stays_below_what_check_says() {
    const QUEUE_BYTES: u64 = 100_000_000;
    let broker = Scripted::start(Script {
        topic: "s/frame",
        frame: largest_frame,
        window: 2000,
        acknowledges_per_s: 0,
    });
    let queue =
        format!("queue_frames = 1000\nqueue_bytes = {QUEUE_BYTES}\nmax_payload_bytes = {LARGEST_BYTES}");
    let outbox = "max_bytes = 100_000\nmemory_bytes = 20_000\nwhen_full = \"block\"";
    let (_folder, config) = configure(&broker, outbox, &[("queue_frames = 64", &queue)]);
    let checked = lineside(&["check", "-c", &config.display().to_string(), "--json"]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let ceiling_kb = checked["memory_ceiling_bytes"].as_u64().unwrap() / 1024;
    let mut daemon = Daemon::spawn(&config);
    // Until nothing more is taken for a while.
    let mut last = (0, Instant::now());
    let is_full = eventually(SOON * 3, || {
        if broker.sent() != last.0 {
            last = (broker.sent(), Instant::now());
        }
        (last.0 > 0 && last.1.elapsed() > Duration::from_secs(2)).then_some(())
    });
    assert!(is_full.is_some() && daemon.is_alive(), "{} frames sent:\n{}", broker.sent(), daemon.log());
    let peak_kb = daemon.memory_kb("VmHWM");
    assert!(peak_kb > QUEUE_BYTES / 1024, "the flood was felt: {peak_kb} kB");
    assert!(peak_kb < ceiling_kb, "{peak_kb} kB; `check` said {ceiling_kb} kB");
    eprintln!(
        "resident {peak_kb} kB at most; `check` says {ceiling_kb} kB; {} frames were sent",
        broker.sent()
    );
}
