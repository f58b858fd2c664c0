//! MQTT 5 with Debian's mosquitto and its own command-line clients: what it adds is honoured, and the
//! promise holds as under 3.1.1.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use rumqttc::QoS::AtLeastOnce;
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::leaving::Leaving;
use crate::support::models::{slow, weigh, weighed};
use crate::support::site::{
    Site, error, pipeline, pipeline_with_ids, result, value, work_folder, write_config,
};
use crate::support::{SOON, eventually};

/// The usual configuration with `protocol = "5"`.
fn configure(site: &Site, rest: &str) -> std::path::PathBuf {
    let broker = format!("url = \"mqtt://127.0.0.1:{}\"\nprotocol = \"5\"", site.broker.port);
    write_config(site.folder.path(), &broker, &site.models(), rest)
}

/// `mosquitto_pub` with properties, each `name` and its words.
fn publish(site: &Site, topic: &str, payload: &str, properties: &[&[&str]]) {
    let mut command = Command::new("mosquitto_pub");
    let port = site.broker.port.to_string();
    command.args(["-V", "mqttv5", "-p", &port, "-q", "1", "-t", topic, "-m", payload]);
    for property in properties {
        command.args(["-D", "publish"]).args(*property);
    }
    let status = command.status().expect("install it with: apt-get install -y mosquitto-clients");
    assert!(status.success(), "{command:?}");
}

/// `mosquitto_sub` for one message on `topic`, in JSON with its properties, while `act` runs.
fn heard_by_another(site: &Site, topic: &str, act: impl FnOnce()) -> Value {
    let port = site.broker.port.to_string();
    let child = Command::new("mosquitto_sub")
        .args(["-V", "mqttv5", "-p", &port, "-q", "1", "-t", topic, "-C", "1", "-W", "20", "-F", "%J"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("install it with: apt-get install -y mosquitto-clients");
    let there = eventually(SOON, || site.broker.log().contains(&format!("{topic} (QoS 1)")).then_some(()));
    assert!(there.is_some(), "{}", site.broker.log());
    act();
    let output = child.wait_with_output().expect("mosquitto_sub ends by its own patience");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("nothing on {topic} ({why}): {text:?}"))
}

#[test]
fn a_frame_is_answered_where_its_sender_asks_with_what_it_carried_and_on_the_usual_topic_too() {
    let site = Site::new(&[weigh()]);
    let with_id = pipeline("scale", "weigh", "s/frame", "json")
        .replace("qos = 1\nqueue_frames", "qos = 1\nid_property = \"part\"\nqueue_frames");
    let _daemon = site.start(&configure(&site, &with_id));
    let properties: &[&[&str]] = &[
        &["response-topic", "answers/me"],
        &["correlation-data", "17"],
        &["user-property", "part", "A17"],
        &["user-property", "shift", "late"],
        &["message-expiry-interval", "60"],
    ];
    let answer = heard_by_another(&site, "answers/#", || publish(&site, "s/frame", "[1,2,3]", properties));
    assert_eq!(answer["topic"], "answers/me", "{answer}");
    let carried = &answer["properties"];
    assert_eq!(carried["correlation-data"], "17", "{answer}");
    assert_eq!(carried["user-properties"]["part"], "A17", "{answer}");
    assert_eq!(carried["user-properties"]["shift"], "late", "{answer}");
    assert_eq!(answer["payload"]["source"]["frame_id"], "A17", "{answer}");
    let usual = site.client.wait_for(&result("scale"), SOON, |_| true).json();
    assert_eq!(usual["id"], answer["payload"]["id"], "one answer, two topics");
    assert!((value(&usual, "y") - weighed(1.0, 2.0, 3.0)).abs() < 1e-5, "{usual}");

    // What cannot be answered is answered as well, and where it cannot go it does no harm.
    let refusal = heard_by_another(&site, "answers/#", || publish(&site, "s/frame", "[1]", properties));
    assert_eq!(refusal["payload"]["reason"], "wrong_length", "{refusal}");
    site.client.wait_for(&error("scale"), SOON, |_| true);
    publish(&site, "s/frame", "[2,0,0]", &[]);
    site.client.wait_count(&result("scale"), 2, SOON);
    let stats = site.stats("scale", |stats| stats["settled"] == 2);
    assert_eq!(stats["predictions"], 2, "a copy is not another prediction: {stats}");
}

#[test]
fn a_frame_that_expires_while_it_waits_is_dropped_and_counted() {
    let mut site = Site::new(&[slow(80)]);
    let config = configure(&site, &pipeline_with_ids("late", "slow", "s/frame"));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[runtime]", "[runtime]\nworkers = 1")).unwrap();
    let daemon = site.start(&config);
    for n in 0..8 {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","x":2}}"#));
    }
    site.client.flush();
    publish(&site, "s/frame", r#"{"id":"short-lived","x":2}"#, &[&["message-expiry-interval", "1"]]);
    site.client.wait_count(&result("late"), 8, SOON * 6);
    let stats = site.stats("late", |stats| stats["lost"]["expired"] == 1);
    assert_eq!((&stats["frames"], &stats["lost_total"]), (&9.into(), &1.into()), "{stats}");
    drop(daemon);
}

#[test]
fn the_session_is_kept_over_a_restart_of_the_daemon() {
    let mut site = Site::new(&[weigh()]);
    let config = configure(&site, &pipeline_with_ids("scale", "weigh", "s/frame"));
    let mut daemon = site.start(&config);
    assert_eq!(daemon.stop(SOON), Some(0));
    for n in 0..50 {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","a":{n},"b":0,"c":0}}"#));
    }
    site.client.flush();
    let _again = site.start(&config);
    site.client.wait_count(&result("scale"), 50, SOON);
}

#[test]
fn two_daemons_with_one_client_id_say_so_back_off_and_lose_nothing() {
    let mut site = Site::new(&[weigh()]);
    let config = configure(&site, &pipeline_with_ids("scale", "weigh", "s/frame"));
    let first = site.start(&config);
    let text = std::fs::read_to_string(&config).unwrap();
    let twin = site.folder.path().join("twin.toml");
    std::fs::write(&twin, text.replace("/outbox\"", "/twin-outbox\"")).unwrap();
    let second = Daemon::spawn(&twin);
    for daemon in [&first, &second] {
        // Some brokers say why in a DISCONNECT, others just close.
        daemon.wait_log(&["connection", "another client", "our client id", "trying again"], SOON);
    }
    for n in 0..50 {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","a":{n},"b":0,"c":0}}"#));
        std::thread::sleep(Duration::from_millis(20));
    }
    site.client.flush();
    let all = site.client.wait_until(&result("scale"), SOON * 2, |messages| {
        let ids = messages.iter().map(|message| message.json()["source"]["frame_id"].to_string());
        ids.collect::<BTreeSet<_>>().len() == 50
    });
    assert!(all, "{}\n{}", first.log(), second.log());
    for daemon in [&first, &second] {
        let attempts = daemon.log().matches("connected to").count();
        assert!(attempts < 40, "{attempts} connections in a few seconds:\n{}", daemon.log());
    }
}

#[test]
fn a_retained_frame_is_taken_once_and_marked() {
    let site = Site::new(&[weigh()]);
    let port = site.broker.port.to_string();
    let kept = ["-p", &port, "-q", "1", "-r", "-t", "s/frame", "-m", "[1,0,0]"];
    assert!(Command::new("mosquitto_pub").args(kept).status().unwrap().success());
    let _daemon = site.start(&configure(&site, &pipeline("scale", "weigh", "s/frame", "json")));
    let said = site.client.wait_for(&result("scale"), SOON, |_| true).json();
    assert_eq!(said["source"]["retained"], true, "{said}");
    publish(&site, "s/frame", "[2,0,0]", &[]);
    let fresh = site.client.wait_count(&result("scale"), 2, SOON)[1].json();
    assert_eq!(fresh["source"].get("retained"), None, "{fresh}");
}

#[test]
fn a_broker_that_leaves_for_one_reason_after_another_is_told_in_words_and_loses_neither_frame_nor_refusal() {
    const FRAMES: usize = 1000;
    const REASONS: [(u8, &str); 5] = [
        (0x89, "it is busy"),
        (0x8b, "it is shutting down"),
        (0x8e, "another client has connected with our client id"),
        (0x97, "a quota is used up"),
        (0x98, "its administrator ended the connection"),
    ];
    // One frame in five cannot be answered.
    let is_poison = |n: usize| n.is_multiple_of(5);
    let poison: [&[u8]; 4] = [b"", b"{", b"[1,2]", b"\xff\xfe"];
    let frames = (0..FRAMES).map(|n| match n {
        n if is_poison(n) => poison[n / 5 % poison.len()].to_vec(),
        n => format!(r#"{{"id":"{n}","a":{n},"b":0,"c":0}}"#).into_bytes(),
    });
    let broker = Leaving::start("s/frame", frames.collect(), &REASONS.map(|(code, _)| code), 30);
    let folder = work_folder(&[weigh()]);
    let url = format!("url = \"mqtt://127.0.0.1:{}\"\nprotocol = \"5\"", broker.port);
    let pipeline = pipeline_with_ids("scale", "weigh", "s/frame");
    let config = write_config(folder.path(), &url, &folder.path().join("models"), &pipeline);
    let mut daemon = Daemon::spawn(&config);
    // What waited for longer than a moment went by the disk, and its frame was settled before its answer came.
    let is_done =
        || broker.left() == (0, 0) && said_of(&broker).values().map(BTreeSet::len).sum::<usize>() >= FRAMES;
    let all = eventually(SOON * 3, || is_done().then_some(()));
    assert!(all.is_some(), "frames and reasons left: {:?}\n{}", broker.left(), daemon.log());
    assert_eq!(daemon.stop(SOON), Some(0));
    let log = daemon.log();
    for connection in ["intake", "publish"] {
        for (code, words) in REASONS {
            let said = |line: &str| line.contains(connection) && line.contains(words);
            assert!(log.lines().any(said), "{connection} connection, {code:#x}:\n{log}");
        }
    }
    let said = said_of(&broker);
    let (refusals, answers) = (&said[&None], said.keys().flatten());
    let good: Vec<usize> = (0..FRAMES).filter(|n| !is_poison(*n)).collect();
    assert_eq!(answers.copied().collect::<Vec<_>>(), good);
    assert!(good.iter().all(|n| said[&Some(*n)].len() == 1), "one frame, one id: {said:?}");
    assert_eq!(refusals.len(), FRAMES - good.len(), "each under an id of its own");
}

/// Ids under which each frame was answered; under `None` those of refusals.
fn said_of(broker: &Leaving) -> BTreeMap<Option<usize>, BTreeSet<String>> {
    let mut said: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (topic, payload) in broker.heard() {
        let Ok(message) = serde_json::from_slice::<Value>(&payload) else { continue };
        let frame = match topic {
            topic if topic == result("scale") => message["source"]["frame_id"].as_str(),
            topic if topic == error("scale") => None,
            _ => continue,
        };
        said.entry(frame.map(|n| n.parse().unwrap())).or_default().insert(message["id"].to_string());
    }
    said
}
