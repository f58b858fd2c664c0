//! Modbus RTU among peers that nobody here wrote: pymodbus as the units that we ask, and as the master
//! that we overhear.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::models::{weigh, weighed};
use crate::support::peer::{Peer, wire};
use crate::support::site::{STATS, Site, error, pipeline, result, value};
use crate::support::{SOON, eventually};

const PERIOD_MS: u64 = 100;

/// A pipeline of the model `weigh`: `a` is unit 1's 1010 in hundredths, `b` unit 2's 2003, `c` unit 1's
/// 60,003 as a signed number.
fn poll(port: &Path, role: &str, write_back: &str) -> String {
    let register = |name: &str, lines: &str| {
        format!("[[pipeline.source.modbus.register]]\nname = \"{name}\"\n{lines}\n")
    };
    format!(
        "[[pipeline]]\nname = \"meters\"\nmodel = \"weigh\"\ndecode = {{ format = \"json\" }}\n{write_back}\n\
         [pipeline.source]\nkind = \"serial\"\nport = \"{}\"\nbaud = 19200\nframing = \"modbus_rtu\"\n\
         [pipeline.source.modbus]\nrole = \"{role}\"\nperiod_ms = {PERIOD_MS}\nreply_timeout_ms = 200\nretries = 0\n{}{}{}",
        port.display(),
        register("a", "unit = 1\naddress = 10\nscale = 0.01"),
        register("b", "unit = 2\naddress = 3\nscale = 0.001"),
        register("c", "unit = 1\ntable = \"input\"\naddress = 3\ntype = \"i16\"\nscale = 0.001"),
    )
}

fn expected(a: f64) -> f64 {
    weighed(a, 2.003, -5.533)
}

fn is_near(said: &Value, y: f64) -> bool {
    (value(said, "y") - y).abs() < 1e-3
}

/// What `stats` says of the bus, as soon as `accept` takes it.
fn bus(site: &mut Site, accept: impl Fn(&Value) -> bool) -> Value {
    let of_port =
        |message: &Value| message["ports"].as_object().and_then(|ports| ports.values().next()).cloned();
    let message = site.client.wait_for(STATS, SOON, |message| {
        of_port(&message.json()).is_some_and(|port| accept(&port["modbus"]))
    });
    of_port(&message.json()).expect("it was accepted a moment ago")["modbus"].clone()
}

#[test]
fn registers_of_pymodbus_units_become_predictions_round_after_round() {
    let mut site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "bus");
    let mut units = Peer::script("modbus_units.py", &[wire.there.to_str().unwrap()]);
    units.wait_for("ready", |line| line == "ready");
    let _daemon = site.run(&poll(&wire.here, "master", ""));

    let first = site.client.wait_for(&result("meters"), SOON, |_| true).json();
    assert!(is_near(&first, expected(10.10)), "{first}");
    assert_eq!(first["source"]["port"], json!(wire.here.to_str().unwrap()), "{first}");
    units.say("set 1 10 4000");
    units.wait_for("done", |line| line == "done");
    site.client.wait_for(&result("meters"), SOON, |message| is_near(&message.json(), expected(40.0)));

    let stats = bus(&mut site, |bus| bus["rounds"].as_u64() > Some(10));
    // One may be under way while `stats` are taken.
    let unanswered = stats["requests"].as_u64().unwrap() - stats["replies"].as_u64().unwrap();
    assert!(unanswered <= 1, "{stats}");
    assert_eq!((&stats["values_missing"], &stats["stray_bytes"]), (&json!(0), &json!(0)), "{stats}");
    assert!(site.client.heard(&error("meters")).is_empty());
}

#[test]
fn a_bad_unit_is_told_once_counted_and_does_not_stop_the_poll() {
    let mut site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "bus");
    let mut units = Peer::script("modbus_units.py", &[wire.there.to_str().unwrap()]);
    units.wait_for("ready", |line| line == "ready");
    // `c` is of unit 9, which is not there; the card has a value for a missing `c`.
    let config = poll(&wire.here, "master", "").replace("unit = 1\ntable", "unit = 9\ntable");
    let daemon = site.run(&config);
    let said = site.client.wait_for(&result("meters"), SOON, |_| true).json();
    assert!(is_near(&said, weighed(10.10, 2.003, 4.0)), "{said}");
    daemon.wait_log(&["unit 9 (c): no answer", "check wiring"], SOON);

    for (mode, fault, words) in [
        ("flip", "bad_crc", "CRC"),
        ("other", "other_unit", "unit 7 answered instead"),
        ("garbage", "garbage", "no reply"),
    ] {
        units.say(mode);
        units.wait_for("done", |line| line == "done");
        let stats = bus(&mut site, |bus| bus["faults"][fault].as_u64() > Some(2));
        daemon.wait_log(&["unit 1 (a): ", words], SOON);
        assert!(stats["values_missing"].as_u64() > Some(2), "{stats}");
        units.say("good");
        units.wait_for("done", |line| line == "done");
        site.client.forget();
        site.client.wait_for(&result("meters"), SOON, |_| true);
    }
    for words in ["unit 9 (c): no answer", "unit 1 (a): the reply's CRC", "unit 7 answered instead"] {
        let log = daemon.log();
        let told = log.lines().filter(|line| line.contains(words)).count();
        assert!((1..=2).contains(&told), "{told} lines of {words:?}:\n{log}");
    }
}

#[test]
fn an_exception_is_explained_and_a_missing_value_without_a_stand_in_is_reported() {
    let mut site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "bus");
    let mut units = Peer::script("modbus_units.py", &[wire.there.to_str().unwrap()]);
    units.wait_for("ready", |line| line == "ready");
    let config = poll(&wire.here, "master", "").replace("address = 10", "address = 40010");
    let daemon = site.run(&config);
    daemon.wait_log(&["unit 1 (a): exception 2 (illegal data address", "40001 is holding register 0"], SOON);
    let said = site.client.wait_for(&error("meters"), SOON, |_| true).json();
    assert_eq!(said["reason"], "missing_feature", "{said}");
    let stats = bus(&mut site, |bus| bus["faults"]["exception"].as_u64() > Some(2));
    assert!(stats["replies"].as_u64() > Some(4), "the others are polled on: {stats}");
}

#[test]
fn a_master_of_pymodbus_is_overheard() {
    let mut site = Site::new(&[weigh()]);
    let mut hub = Peer::script("bus.py", &["3"]);
    let ends = hub.wait_for("its ends", |line| line.starts_with("/dev/"));
    let ends: Vec<&str> = ends.split(' ').collect();
    let mut units = Peer::script("modbus_units.py", &[ends[0]]);
    units.wait_for("ready", |line| line == "ready");
    let daemon =
        site.run(&poll(Path::new(ends[2]), "listener", "").replace("period_ms = 100", "period_ms = 5000"));
    daemon.wait_log(&["open", "19200"], SOON);
    let mut master = Peer::script("modbus_master.py", &[ends[1], "5"]);
    let heard = site.client.wait_count(&result("meters"), 5, SOON);
    for message in heard {
        assert!(is_near(&message.json(), expected(10.10)), "{}", message.json());
    }
    master.wait_for("done", |line| line == "done 5");
    let stats = bus(&mut site, |bus| bus["requests"] == 45);
    assert_eq!(stats["replies"], 40, "{stats}");
    assert_eq!(stats["faults"]["exception"], 5, "{stats}");
    assert_eq!(stats["stray_bytes"], 0, "{stats}");
}

#[test]
fn a_verdict_switches_a_coil_between_two_polls() {
    let site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "bus");
    let mut units = Peer::script("modbus_units.py", &[wire.there.to_str().unwrap()]);
    units.wait_for("ready", |line| line == "ready");
    let lamp = "write_back = { as = \"coil\", unit = 2, address = 7, on = [\"fail\", \"error\"] }";
    let _daemon = site.run(&poll(&wire.here, "master", lamp));
    let written = |units: &mut Peer, value: u8| {
        let line = format!("{{\"unit\": 2, \"function\": 5, \"address\": 7, \"values\": [{value}]}}");
        units.wait_for(&line, |said| said == line);
    };
    written(&mut units, 0);
    // Heavier than the card's range allows.
    units.say("set 1 10 9000");
    written(&mut units, 1);
    units.say("set 1 10 1000");
    written(&mut units, 0);
    let stats = site.stats("meters", |stats| stats["write_back"]["written"].as_u64() > Some(5));
    assert_eq!(stats["write_back"]["lost"]["expired"], 0, "{stats}");
}

#[test]
fn a_verdict_goes_to_a_port_of_its_own_with_the_broker_away_and_is_never_late() {
    let mut site = Site::new(&[weigh()]);
    let meters = wire(site.folder.path(), "bus");
    let lamp = site.folder.path().join("lamp-a");
    let mut units = Peer::script("modbus_units.py", &[meters.there.to_str().unwrap()]);
    units.wait_for("ready", |line| line == "ready");
    let write_back = format!(
        "write_back = {{ port = \"{}\", as = \"line\", text = \"{{pipeline}} {{verdict}} {{score}}\", expires_ms = 300 }}",
        lamp.display()
    );
    let daemon = site.run(&poll(&meters.here, "master", &write_back));
    // The lamp's port is not there yet: predictions go their way, the writes expire.
    let stats = site.stats("meters", |stats| stats["write_back"]["lost"]["expired"].as_u64() > Some(3));
    assert!(stats["settled"].as_u64() > Some(2), "{stats}");
    assert_eq!(stats["write_back"]["written"], 0, "{stats}");
    daemon.wait_log(&["lamp-a", "adapter plugged in"], SOON);

    let lamp = wire(site.folder.path(), "lamp");
    let mut lines = Peer::start(
        {
            let mut command = std::process::Command::new("cat");
            command.arg(&lamp.there);
            command
        },
        "cat is part of every system",
    );
    let y = format!("meters pass {}", expected(10.10) as f32);
    let line = lines.wait_for("a verdict", |line| line.starts_with("meters pass "));
    assert!(line[..14] == y[..14], "{line} is not {y}");
    // No broker: the verdicts go on.
    site.broker.stop();
    lines.lines();
    let after: Option<()> = eventually(SOON, || {
        std::thread::sleep(Duration::from_millis(200));
        (lines.lines().len() > 1).then_some(())
    });
    assert!(after.is_some(), "{}", daemon.log());
}

#[test]
fn while_a_durable_poll_waits_for_the_broker_units_are_not_asked_and_verdicts_are_written() {
    let mut site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "bus");
    let mut units = Peer::script("modbus_units.py", &[wire.there.to_str().unwrap()]);
    units.wait_for("ready", |line| line == "ready");
    let lamp = "write_back = { as = \"coil\", unit = 2, address = 7, on = [\"fail\"] }";
    let durable = poll(&wire.here, "master", lamp).replace("framing =", "durable = true\nframing =");
    let daemon = site.run(&durable);
    site.client.wait_for(&result("meters"), SOON, |_| true);
    site.broker.stop();
    daemon.wait_log(&["cannot connect"], SOON);
    // A round waits for a second, until its prediction is on disk; a unit is given up after a fifth of one.
    std::thread::sleep(Duration::from_secs(3));
    units.lines();
    let verdict = "{\"unit\": 2, \"function\": 5, \"address\": 7, \"values\": [0]}";
    units.wait_for(verdict, |said| said == verdict);
    assert!(!daemon.log().contains("no answer"), "{}", daemon.log());
}

#[test]
fn a_pipeline_that_takes_frames_by_mqtt_tells_a_register() {
    let mut site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "plc");
    let mut units = Peer::script("modbus_units.py", &[wire.there.to_str().unwrap()]);
    units.wait_for("ready", |line| line == "ready");
    let config = pipeline("scale", "weigh", "sensor/frame", "json")
        + &format!(
            "[pipeline.write_back]\nport = \"{}\"\nas = \"register\"\nunit = 1\naddress = 12\nbaud = 19200\n\
             values = {{ pass = 100, fail = 200 }}\n",
            wire.here.display()
        );
    let _daemon = site.run(&config);
    for (frame, value) in [("[1, 2, 3]", 100), ("[60, 0, 0]", 200), ("[1, 2", 4)] {
        site.client.publish("sensor/frame", rumqttc::QoS::AtLeastOnce, frame);
        let line = format!("{{\"unit\": 1, \"function\": 6, \"address\": 12, \"values\": [{value}]}}");
        units.wait_for(&line, |said| said == line);
    }
}
