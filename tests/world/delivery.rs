//! The promise: a frame that the broker accepted at QoS 1 is answered, whatever is killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rumqttc::QoS::AtLeastOnce;

use crate::support::SOON;
use crate::support::client::Message;
use crate::support::models::{slow, weigh, weighed};
use crate::support::mosquitto::Setup;
use crate::support::site::{AVAILABILITY, Site, pipeline_with_ids, result, value};

fn frame(n: usize) -> String {
    format!(r#"{{"id":"{n}","a":{n},"b":0,"c":0}}"#)
}

fn frame_id(message: &Message) -> usize {
    let said = message.json();
    let id = said["source"]["frame_id"].as_str().unwrap_or_else(|| panic!("no frame_id: {said}"));
    id.parse().unwrap_or_else(|_| panic!("not one of our ids: {said}"))
}

/// Every frame 0..count has an answer, the right one, and answers to one frame carry one id.
fn assert_all_answered(answers: &[Message], count: usize) {
    let mut ids: BTreeMap<usize, String> = BTreeMap::new();
    for message in answers {
        let (n, said) = (frame_id(message), message.json());
        assert!((value(&said, "y") - weighed(n as f64, 0.0, 0.0)).abs() < 1e-3, "frame {n}: {said}");
        let id = said["id"].as_str().unwrap_or_default().to_owned();
        let first = ids.entry(n).or_insert_with(|| id.clone());
        assert_eq!(*first, id, "frame {n} was answered under two ids");
    }
    let missing: Vec<usize> = (0..count).filter(|n| !ids.contains_key(n)).collect();
    assert!(missing.is_empty(), "no answer to {missing:?}");
    let distinct: BTreeSet<&String> = ids.values().collect();
    assert_eq!(distinct.len(), count, "two frames share an id");
}

fn answered(messages: &[&Message]) -> usize {
    messages.iter().map(|message| frame_id(message)).collect::<BTreeSet<_>>().len()
}

#[test]
fn every_accepted_frame_is_answered_though_the_daemon_is_killed_again_and_again() {
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[weigh()]);
    let config = site.configure(&pipeline_with_ids("scale", "weigh", "s/frame"));
    const FRAMES: usize = 600;
    let mut daemon = site.start(&config);
    for n in 0..FRAMES {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
        if n % 150 == 149 {
            // In the middle of its work: some frames answered, some taken, some still on the way.
            daemon.kill();
            daemon = site.start(&config);
        }
    }
    site.client.flush();
    let all = site.client.wait_until(&result("scale"), SOON * 2, |m| answered(m) == FRAMES);
    let answers = site.client.heard(&result("scale"));
    assert!(all, "{} of {FRAMES} answered", answered(&answers.iter().collect::<Vec<_>>()));
    assert_all_answered(&answers, FRAMES);
    let at_rest = site.stats("scale", |_| true);
    assert!(at_rest.is_object());
}

#[test]
fn frames_sent_while_the_daemon_is_away_wait_with_the_broker() {
    let mut site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline_with_ids("scale", "weigh", "s/frame"));
    assert_eq!(daemon.stop(SOON), Some(0));
    for n in 0..50 {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    site.client.flush();
    let _daemon = site.start(&site.folder.path().join("line.toml"));
    site.client.wait_until(&result("scale"), SOON, |m| answered(m) == 50);
    assert_all_answered(&site.client.heard(&result("scale")), 50);
}

#[test]
fn a_broker_restart_costs_no_accepted_frame_and_no_visit() {
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[weigh()]);
    let mut daemon = site.run(&pipeline_with_ids("scale", "weigh", "s/frame"));
    for round in 0..3 {
        for n in round * 100..(round + 1) * 100 {
            site.client.publish("s/frame", AtLeastOnce, frame(n));
        }
        site.client.flush();
        if round < 2 {
            site.broker.restart();
        }
    }
    let all = site.client.wait_until(&result("scale"), SOON * 2, |m| answered(m) == 300);
    assert!(all && daemon.is_alive(), "the daemon's log:\n{}", daemon.log());
    assert_all_answered(&site.client.heard(&result("scale")), 300);
    let online = site.client.heard(AVAILABILITY).iter().filter(|m| m.payload == b"online").count();
    assert!(online >= 2, "availability is said again on every connect");
}

#[test]
fn a_broker_that_forgets_everything_is_subscribed_to_again() {
    let mut site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline_with_ids("scale", "weigh", "s/frame"));
    for n in 0..20 {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    site.client.wait_until(&result("scale"), SOON, |m| answered(m) == 20);
    site.broker.restart();
    // Nobody keeps frames for a session that is forgotten: the first one answered says that the
    // daemon has subscribed again. From then on nothing is lost.
    let mut probes = 0;
    let back = crate::support::eventually(SOON, || {
        site.client.publish("s/frame", AtLeastOnce, r#"{"id":"0","a":0,"b":0,"c":0}"#);
        probes += 1;
        let again = |m: &[&Message]| m.iter().filter(|m| frame_id(m) == 0).count() > 1;
        site.client.wait_until(&result("scale"), Duration::from_millis(100), again).then_some(())
    });
    assert!(back.is_some(), "{probes} frames unanswered; the daemon's log:\n{}", daemon.log());
    for n in 20..40 {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    let all = site.client.wait_until(&result("scale"), SOON, |m| answered(m) == 40);
    assert!(all && daemon.is_alive(), "the daemon's log:\n{}", daemon.log());
    assert_all_answered(&site.client.heard(&result("scale")), 40);
}

#[test]
fn sigterm_drains_what_was_taken_and_leaves_the_rest_with_the_broker() {
    let mut site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline_with_ids("scale", "weigh", "s/frame"));
    for n in 0..200 {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    assert!(site.client.wait_until(&result("scale"), SOON, |m| answered(m) > 20));
    daemon.signal("TERM");
    for n in 200..400 {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    assert_eq!(daemon.wait(SOON), Some(0), "{}", daemon.log());
    site.client.flush();
    daemon.wait_log(&["every frame that was taken is settled"], SOON);
    let _again = site.start(&site.folder.path().join("line.toml"));
    site.client.wait_until(&result("scale"), SOON, |m| answered(m) == 400);
    assert_all_answered(&site.client.heard(&result("scale")), 400);
}

#[test]
fn a_frame_that_outlasts_the_deadline_is_named_at_the_end_and_comes_again() {
    let mut site = Site::new(&[slow(80)]);
    let config = site.configure(&pipeline_with_ids("late", "slow", "s/frame"));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("shutdown_secs = 5", "shutdown_secs = 1")).unwrap();
    let mut daemon = site.start(&config);
    // More than all workers together finish within the deadline, on a fast machine too.
    const FRAMES: usize = 16;
    for n in 0..FRAMES {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","x":2}}"#));
    }
    site.client.flush();
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait(SOON), Some(0), "{}", daemon.log());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(3), "a deadline of 1 s took {took:?}:\n{}", daemon.log());
    daemon.wait_log(&["deadline", "worker"], Duration::from_secs(1));
    let _again = site.start(&config);
    site.client.wait_until(&result("late"), SOON * 6, |m| answered(m) == FRAMES);
}

#[test]
fn a_stop_while_a_full_lane_holds_the_source_is_quick_and_what_was_not_begun_comes_again() {
    const FRAMES: usize = 60;
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[slow(4)]);
    let config =
        pipeline_with_ids("held", "slow", "s/frame").replace("queue_frames = 64", "queue_frames = 2");
    let config = site.configure(&config);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("shutdown_secs = 5", "shutdown_secs = 60")).unwrap();
    let mut daemon = site.start(&config);
    for n in 0..FRAMES {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","x":2}}"#));
    }
    site.client.flush();
    daemon.signal("TERM");
    assert_eq!(daemon.wait(SOON), Some(0), "the deadline is 60 s:\n{}", daemon.log());
    assert!(!daemon.log().contains("deadline"), "nobody was late:\n{}", daemon.log());
    let _again = site.start(&config);
    site.client.wait_until(&result("held"), SOON * 6, |m| answered(m) == FRAMES);
}

#[test]
fn an_answer_over_which_the_broker_closes_the_connection_holds_up_no_other_and_nor_does_it_after_a_restart() {
    // MQTT 3.1.1: the broker says neither what it takes nor what it did not.
    let setup = Setup { max_packet_size: Some(2000), persistent: true, ..Setup::default() };
    let mut site = Site::with(setup, &[weigh()]);
    let config = site.configure(&pipeline_with_ids("scale", "weigh", "s/frame"));
    let mut daemon = site.start(&config);
    // The frame is below the limit, and its answer is not.
    site.client.publish(
        "s/frame",
        AtLeastOnce,
        frame(0).replace("\"0\"", &format!("\"{}\"", "x".repeat(1800))),
    );
    for n in 0..50 {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    site.client.flush();
    let all = site.client.wait_until(&result("scale"), SOON, |m| answered(m) == 50);
    let count = site.client.heard(&result("scale")).len();
    assert!(all, "{count} answers; the daemon's log:\n{}", daemon.log());
    daemon.wait_log(&["seems to end it over a message on", &result("scale")], SOON);
    daemon.stop(SOON);
    let again = site.start(&config);
    for n in 50..100 {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
    }
    site.client.flush();
    let all = site.client.wait_until(&result("scale"), SOON, |m| answered(m) == 100);
    assert!(all, "the daemon's log:\n{}", again.log());
    assert_all_answered(&site.client.heard(&result("scale")), 100);
}

#[test]
fn what_overload_dropped_just_before_a_stop_is_logged_and_counted_as_well() {
    const FRAMES: usize = 40;
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[slow(4)]);
    let config = pipeline_with_ids("late", "slow", "s/frame")
        .replace("queue_frames = 64", "queue_frames = 2")
        .replace("when_full = \"block\"", "when_full = \"drop_oldest\"");
    let config = site.configure(&config);
    let text = std::fs::read_to_string(&config).unwrap();
    // No period ends while the daemon runs: what is said is said at its end.
    std::fs::write(&config, text.replace("stats_secs = 1", "stats_secs = 60")).unwrap();
    let mut daemon = site.start(&config);
    for n in 0..FRAMES {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","x":2}}"#));
    }
    site.client.flush();
    // A late frame is answered: those before it were taken, and two may wait.
    site.client.wait_for(&result("late"), SOON, |message| frame_id(message) >= 10);
    assert_eq!(daemon.stop(SOON), Some(0), "{}", daemon.log());
    let stats = site.stats("late", |stats| stats["lost"]["queue_drop_oldest"].as_u64() > Some(0));
    let dropped = stats["lost"]["queue_drop_oldest"].as_u64().unwrap() as usize;
    daemon.wait_log(&[&format!("{dropped} frame(s) dropped by overload")], SOON);
    // What is neither answered nor counted is still the broker's, and comes again.
    let _again = site.start(&config);
    let all = site.client.wait_until(&result("late"), SOON, |m| answered(m) + dropped >= FRAMES);
    assert!(all, "{} answered, {dropped} counted of {FRAMES}", site.client.heard(&result("late")).len());
}

#[test]
fn the_freshest_frame_wins_where_the_oldest_is_dropped_and_each_loss_is_counted() {
    let mut site = Site::new(&[slow(4)]);
    let config = pipeline_with_ids("live", "slow", "s/frame")
        .replace("queue_frames = 64", "queue_frames = 2")
        .replace("\"block\"", "\"drop_oldest\"");
    let _daemon = site.run(&config);
    for n in 1..=60 {
        site.client.publish("s/frame", AtLeastOnce, format!(r#"{{"id":"{n}","x":{n}}}"#));
    }
    site.client.flush();
    let last = site.client.wait_for(&result("live"), SOON, |message| frame_id(message) == 60);
    assert!((value(&last.json(), "y") - 60.0).abs() < 0.1);
    let stats = site.stats("live", |stats| {
        let lost = stats["lost"]["queue_drop_oldest"].as_u64().unwrap_or(0);
        lost > 0 && stats["predictions"].as_u64().unwrap_or(0) + lost == 60
    });
    assert!(
        stats["lost"].as_object().unwrap().values().filter_map(|n| n.as_u64()).sum::<u64>() < 60,
        "{stats}"
    );
}

/// Kills the daemon and restarts the broker in turn, `rounds` times each, under steady frames.
fn storm(rounds: usize) {
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[weigh()]);
    let config = site.configure(&pipeline_with_ids("scale", "weigh", "s/frame"));
    let mut daemon = site.start(&config);
    let frames = rounds * 400;
    for n in 0..frames {
        site.client.publish("s/frame", AtLeastOnce, frame(n));
        match n % 400 {
            199 => {
                daemon.kill();
                daemon = site.start(&config);
            }
            399 => {
                // What the broker has not acknowledged it owes nobody.
                site.client.flush();
                site.broker.restart();
            }
            _ => {}
        }
    }
    site.client.flush();
    let all = site.client.wait_until(&result("scale"), SOON * 6, |m| answered(m) == frames);
    assert!(all, "the daemon's log:\n{}", daemon.log());
    assert_all_answered(&site.client.heard(&result("scale")), frames);
}

#[test]
fn forty_kills_of_daemon_and_broker_cost_no_accepted_frame() {
    storm(20);
}

#[test]
#[ignore = "takes minutes; tests/run --long"]
fn a_thousand_kills_of_daemon_and_broker_cost_no_accepted_frame() {
    storm(500);
}
