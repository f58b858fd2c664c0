//! The outbox from outside: what is on disk and when, deaths at each step of settlement, who may use the
//! folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lineside::flow::fail::Point;
use rumqttc::QoS::AtLeastOnce;
use serde_json::Value;

use crate::support::client::Message;
use crate::support::daemon::{Daemon, lineside};
use crate::support::models::{slow, weigh};
use crate::support::mosquitto::Setup;
use crate::support::site::{AVAILABILITY, STATS, Site, pipeline, pipeline_with_ids, result, value};
use crate::support::{SOON, eventually};

/// Frames that carry no id of their own and differ by their number.
fn frame(n: usize) -> String {
    format!(r#"{{"a":{n},"b":0,"c":0}}"#)
}

fn frame_of(message: &Message) -> usize {
    // `weigh` gives 2a + 0.5.
    ((value(&message.json(), "y") - 0.5) / 2.0).round() as usize
}

/// Each of `count` frames has answers under one id, and no two share one.
fn assert_answered_under_one_id(answers: &[Message], count: usize) {
    let mut ids: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for message in answers {
        let id = message.json()["id"].as_str().unwrap().to_owned();
        ids.entry(frame_of(message)).or_default().insert(id);
    }
    assert_eq!(ids.len(), count, "answered: {:?}", ids.keys());
    for (n, ids) in &ids {
        assert_eq!(ids.len(), 1, "frame {n} was answered under {ids:?}");
    }
    let distinct: BTreeSet<&String> = ids.values().flatten().collect();
    assert_eq!(distinct.len(), count, "two frames share an id");
}

fn distinct(messages: &[&Message]) -> usize {
    messages.iter().map(|message| frame_of(message)).collect::<BTreeSet<_>>().len()
}

fn outbox_stats(message: &Message) -> Value {
    message.json()["outbox"].clone()
}

fn segments(site: &Site) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(site.folder.path().join("outbox")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths
}

/// Bytes that the process has caused to be written to disks.
fn written_bytes(daemon: &Daemon) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap()
}

fn healthy_link(frames: usize) {
    let mut site = Site::new(&[weigh()]);
    let daemon = site.run(&pipeline("scale", "weigh", "s/frame", "json"));
    let before = written_bytes(&daemon);
    for n in 0..frames {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    site.client.flush();
    let enough = |m: &[&Message]| m.len() == frames;
    assert!(site.client.wait_until(&result("scale"), SOON * 20, enough), "{}", daemon.log());
    let stats = site.client.wait_for(STATS, SOON, |message| {
        message.json()["pipelines"]["scale"]["settled"].as_u64() == Some(frames as u64)
    });
    assert_eq!(outbox_stats(&stats)["disk"]["written_bytes"], 0);
    assert_eq!(outbox_stats(&stats)["disk"]["state"], "ready");
    assert_eq!(segments(&site), Vec::<PathBuf>::new());
    assert_eq!(written_bytes(&daemon) - before, 0, "the kernel counts what reaches a disk");
}

#[test]
fn on_a_healthy_link_no_byte_is_written_to_disk() {
    healthy_link(2_000);
}

#[test]
#[ignore = "a hundred thousand frames; tests/run --long"]
fn over_a_hundred_thousand_frames_on_a_healthy_link_no_byte_is_written_to_disk() {
    healthy_link(100_000);
}

#[test]
fn a_death_at_any_step_of_a_healthy_link_costs_no_frame_and_no_second_id() {
    let steps = Point::ALL.iter().take_while(|point| **point != Point::SegmentCreate);
    for (round, point) in steps.enumerate() {
        const FRAMES: usize = 40;
        let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[weigh()]);
        let config = site.configure(&pipeline("scale", "weigh", "s/frame", "json"));
        let plan = format!("{}#{}=kill", point.as_str(), 5 + round);
        let mut daemon = Daemon::spawn_with(&config, &[("LINESIDE_FAIL_POINT", &plan)]);
        site.client.wait_for(AVAILABILITY, SOON, |m| m.payload == b"online");
        for n in 0..FRAMES {
            site.client.publish("s/frame", AtLeastOnce, frame(n));
        }
        site.client.flush();
        assert_eq!(daemon.wait(SOON), None, "{}: killed", point.as_str());
        let again = site.start(&config);
        let all = site.client.wait_until(&result("scale"), SOON, |m| distinct(m) == FRAMES);
        assert!(all, "{}; the log:\n{}", point.as_str(), again.log());
        assert_answered_under_one_id(&site.client.heard(&result("scale")), FRAMES);
    }
}

/// A site whose daemon has taken `frames` slow frames and has then lost its broker: what it answers
/// from now on waits.
fn cut_off(frames: usize, environment: &[(&str, &str)], outbox: &str) -> (Site, PathBuf, Daemon) {
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[slow(2)]);
    let config = site.configure(&pipeline_with_ids("late", "slow", "s/frame"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[outbox]\n", &format!("[outbox]\nspill_after_ms = 100\n{outbox}\n")))
        .unwrap();
    let daemon = Daemon::spawn_with(&config, environment);
    site.client.wait_for(AVAILABILITY, SOON, |m| m.payload == b"online");
    for n in 0..frames {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","x":2}}"#));
    }
    site.client.flush();
    site.broker.stop();
    (site, config, daemon)
}

fn all_late(site: &Site, frames: usize) -> bool {
    site.client.wait_until(&result("late"), SOON * 3, |messages| {
        let ids = messages.iter().map(|m| m.json()["source"]["frame_id"].as_str().unwrap().to_owned());
        ids.collect::<BTreeSet<_>>().len() == frames
    })
}

fn assert_one_id_each(answers: &[Message]) {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for message in answers {
        let said = message.json();
        let id = said["id"].as_str().unwrap().to_owned();
        let frame = said["source"]["frame_id"].as_str().unwrap().to_owned();
        assert_eq!(*ids.entry(frame).or_insert_with(|| id.clone()), id);
    }
}

#[test]
fn predictions_that_wait_are_on_disk_and_come_back_after_a_kill() {
    let (mut site, config, mut daemon) = cut_off(16, &[], "");
    let there = eventually(SOON * 2, || (!segments(&site).is_empty()).then_some(()));
    assert!(there.is_some(), "{}", daemon.log());
    std::thread::sleep(Duration::from_millis(500));

    let path = site.folder.path().join("outbox").display().to_string();
    let listed = lineside(&["outbox", "list", "--path", &path, "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let waiting = listed["predictions"].as_array().unwrap().len();
    assert!(waiting > 0, "{listed}");
    assert!(listed["in_use_by"].as_str().unwrap().contains(&daemon.pid().to_string()), "{listed}");
    let refused = lineside(&["outbox", "drop", "--path", &path, "--yes"]);
    assert_eq!(refused.status.code(), Some(69), "{}", String::from_utf8_lossy(&refused.stderr));

    daemon.kill();
    let exported = lineside(&["outbox", "export", "--path", &path]);
    let exported = String::from_utf8(exported.stdout).unwrap();
    assert!(exported.lines().count() >= waiting);
    for line in exported.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["payload"]["schema"], "lineside.prediction/1", "{line}");
    }
    site.broker.resume();
    let _again = site.start(&config);
    assert!(all_late(&site, 16));
    assert_one_id_each(&site.client.heard(&result("late")));
    let gone = eventually(SOON, || segments(&site).is_empty().then_some(()));
    assert!(gone.is_some(), "what is acknowledged is removed");
}

#[test]
fn what_waits_on_disk_can_be_dropped_by_the_operator_on_purpose_only() {
    let (site, _, mut daemon) = cut_off(8, &[], "");
    let there = eventually(SOON * 2, || (!segments(&site).is_empty()).then_some(()));
    assert!(there.is_some(), "{}", daemon.log());
    daemon.kill();
    let path = site.folder.path().join("outbox").display().to_string();
    let asked = lineside(&["outbox", "drop", "--path", &path]);
    assert_eq!(asked.status.code(), Some(64));
    assert!(!segments(&site).is_empty());
    let dropped = lineside(&["outbox", "drop", "--path", &path, "--yes"]);
    assert_eq!(dropped.status.code(), Some(0), "{}", String::from_utf8_lossy(&dropped.stderr));
    assert!(segments(&site).is_empty());
}

#[test]
fn a_death_at_any_step_of_writing_costs_no_frame_and_no_second_id() {
    for point in [
        Point::SegmentCreate,
        Point::RecordsWrite,
        Point::RecordsSync,
        Point::RecordsSynced,
        Point::SegmentRead,
        Point::SegmentRemove,
    ] {
        let plan = format!("{}=kill", point.as_str());
        let (mut site, config, mut daemon) = cut_off(12, &[("LINESIDE_FAIL_POINT", &plan)], "");
        if matches!(point, Point::SegmentRead | Point::SegmentRemove) {
            // These come when the broker is back.
            let there = eventually(SOON * 2, || (!segments(&site).is_empty()).then_some(()));
            assert!(there.is_some(), "{}", daemon.log());
            std::thread::sleep(Duration::from_millis(500));
            site.broker.resume();
            assert_eq!(daemon.wait(SOON * 2), None, "{}: killed", point.as_str());
        } else {
            assert_eq!(daemon.wait(SOON * 2), None, "{}: killed", point.as_str());
            site.broker.resume();
        }
        let again = site.start(&config);
        assert!(all_late(&site, 12), "{}; the log:\n{}", point.as_str(), again.log());
        assert_one_id_each(&site.client.heard(&result("late")));
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing_where_nothing_is_dropped() {
    let flag = tempfile::NamedTempFile::new().unwrap();
    let plan = format!("records_write=errno:28:{}", flag.path().display());
    let environment = [("LINESIDE_FAIL_POINT", plan.as_str())];
    let (mut site, _, mut daemon) = cut_off(16, &environment, "when_full = \"block\"");
    daemon.wait_log(&["outbox", "cannot write", "No space left"], SOON);
    assert_eq!(segments(&site), Vec::<PathBuf>::new());
    drop(flag);
    daemon.wait_log(&["outbox", "works again"], SOON);
    site.broker.resume();
    assert!(all_late(&site, 16) && daemon.is_alive(), "{}", daemon.log());
}

#[test]
fn a_stop_while_the_broker_is_away_leaves_predictions_on_disk_and_is_quick() {
    let (mut site, config, mut daemon) = cut_off(8, &[], "");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(daemon.stop(SOON), Some(0), "{}", daemon.log());
    site.broker.resume();
    let _again = site.start(&config);
    assert!(all_late(&site, 8));
    assert_one_id_each(&site.client.heard(&result("late")));
}

fn refusal(config: &Path) -> (Option<i32>, String) {
    let output = lineside(&["run", "-c", &config.display().to_string()]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_folder_that_cannot_be_had_is_refused_with_the_reason() {
    let site = Site::new(&[weigh()]);
    let config = site.configure(&pipeline("scale", "weigh", "s/frame", "json"));
    let first = site.start(&config);
    let (code, words) = refusal(&config);
    assert_eq!(code, Some(69), "{words}");
    assert!(words.contains(&format!("in use by process {}", first.pid())), "{words}");
    drop(first);

    let outbox = site.folder.path().join("outbox");
    fs::remove_dir_all(&outbox).unwrap();
    fs::write(&outbox, "").unwrap();
    let (code, words) = refusal(&config);
    assert_eq!(code, Some(78), "{words}");
    assert!(words.contains("outbox is a file"), "{words}");
    let checked = lineside(&["check", "-c", &config.display().to_string()]);
    assert_eq!(checked.status.code(), Some(78));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("outbox is a file"), "{said}");
}

#[test]
fn a_flood_takes_no_more_memory_than_check_says() {
    let mut site = Site::new(&[slow(2)]);
    let flooded = pipeline_with_ids("late", "slow", "s/frame")
        .replace(
            "queue_frames = 64",
            "queue_frames = 1000\nqueue_bytes = 8_000_000\nmax_payload_bytes = 1_000_000",
        )
        .replace("\"block\"", "\"drop_oldest\"");
    let config = site.configure(&flooded);
    let checked = lineside(&["check", "-c", &config.display().to_string(), "--json"]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let ceiling_kb = checked["memory_ceiling_bytes"].as_u64().unwrap() / 1024;
    let daemon = site.start(&config);
    let idle_kb = daemon.memory_kb("VmRSS");
    let blanks = " ".repeat(200_000);
    for n in 0..600 {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}",{blanks}"x":2}}"#));
    }
    site.client.flush();
    let peak_kb = daemon.memory_kb("VmHWM");
    assert!(peak_kb > idle_kb, "the flood was felt");
    assert!(peak_kb < ceiling_kb, "{peak_kb} kB; `check` said {ceiling_kb} kB");
}

#[test]
fn an_id_in_the_topic_is_the_frames_own_wherever_and_whenever_it_comes() {
    let mut site = Site::new(&[weigh()]);
    let config = pipeline("scale", "weigh", "s/{part}/frame", "json")
        .replace("queue_frames", "id_level = \"part\"\nqueue_frames");
    let config = site.configure(&config);
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let mut daemon = site.start(&config);
        site.client.forget();
        site.client.publish("s/17/frame", AtLeastOnce, frame(3));
        let message = site.client.wait_count(&result("scale"), 1, SOON).remove(0).json();
        assert_eq!(message["source"]["frame_id"], "17");
        ids.insert(message["id"].as_str().unwrap().to_owned());
        assert_eq!(daemon.stop(SOON), Some(0));
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}
