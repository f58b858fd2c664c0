//! A board that restarted over and over: the next start takes no load for a while, and says so.

use std::fs;
use std::time::Duration;

use rumqttc::QoS::AtLeastOnce;

use crate::support::SOON;
use crate::support::daemon::Daemon;
use crate::support::models::weigh;
use crate::support::site::{AVAILABILITY, STATS, Site, pipeline, result};

/// The record that two short boots and the beginning of a third leave.
fn three_short_boots(site: &Site) {
    fs::write(site.folder.path().join("outbox/boots"), "another-boot 2\n").unwrap();
}

/// A site whose broker knows the daemon's session.
fn site() -> Site {
    let site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline("scale", "weigh", "s/frame", "json"));
    assert_eq!(daemon.stop(SOON), Some(0));
    assert!(!site.folder.path().join("outbox/boots").exists(), "an ordered stop leaves no count");
    site
}

#[test]
fn in_safe_mode_it_reports_and_later_takes_the_frames_that_waited() {
    let mut site = site();
    three_short_boots(&site);
    let heard = site.client.heard(STATS).len();
    let mut daemon = Daemon::spawn(&site.folder.path().join("line.toml"));
    let safe = site.client.wait_until(STATS, SOON, |messages| {
        messages[heard..].iter().any(|message| message.json()["safe_mode"]["short_boots"] == 3)
    });
    assert!(safe, "{}", daemon.log());
    daemon.wait_log(&["safe mode", "3 times in a row"], SOON);
    assert_eq!(site.client.heard(AVAILABILITY).last().unwrap().payload, b"offline");
    site.client.publish("s/frame", AtLeastOnce, "[1,2,3]");
    std::thread::sleep(Duration::from_secs(2));
    assert!(site.client.heard(&result("scale")).is_empty(), "no load");
    site.client.wait_for(&result("scale"), SOON * 4, |_| true);
    assert_eq!(daemon.stop(SOON), Some(0));
    let last = site.client.wait_until(STATS, SOON, |messages| {
        messages.last().is_some_and(|message| message.json()["safe_mode"].is_null())
    });
    assert!(last, "the last stats are of a daemon that takes frames");
}

#[test]
fn safe_mode_ends_when_it_is_asked_to_stop_and_the_next_start_takes_frames() {
    let site = site();
    three_short_boots(&site);
    let config = site.folder.path().join("line.toml");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_log(&["safe mode"], SOON);
    assert_eq!(daemon.stop(SOON), Some(0));
    drop(site.start(&config));
}

#[test]
fn a_process_that_is_killed_again_and_again_is_not_held_back() {
    let site = site();
    let config = site.folder.path().join("line.toml");
    for _ in 0..5 {
        site.start(&config).kill();
    }
    drop(site.start(&config));
}
