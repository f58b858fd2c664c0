//! Frames in, predictions out: the way that every frame takes when nothing is wrong.

use std::collections::BTreeSet;

use rumqttc::QoS::{AtLeastOnce, AtMostOnce};
use serde_json::{Value, json};

use crate::support::models::{bright, bright_grey, means, total, weigh, weighed};
use crate::support::mosquitto::Setup;
use crate::support::pictures::{grey_png, jpeg, png};
use crate::support::site::{
    AVAILABILITY, DEVICE, STATS, Site, pipeline, pipeline_with_ids, result, value, write_config,
};
use crate::support::{SOON, client::Client, daemon::Daemon};

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * b.abs().max(1.0)
}

#[test]
fn a_prediction_says_what_was_decided_on_what_by_whom_and_when() {
    let mut site = Site::new(&[weigh()]);
    let _daemon = site.run(&pipeline_with_ids("scale", "weigh", "sensor/press/frame"));
    site.client.publish("sensor/press/frame", AtLeastOnce, r#"{"id":"part-1","a":1,"b":2.5,"c":-3}"#);
    let message = site.client.wait_for(&result("scale"), SOON, |_| true);
    let said = message.json();

    assert_eq!(said["schema"], "lineside.prediction/1");
    assert_eq!(said["device"], DEVICE);
    assert_eq!(said["pipeline"], "scale");
    assert_eq!(said["model"], json!({"name": "weigh", "version": "1.2.3"}));
    assert_eq!(said["source"]["topic"], "sensor/press/frame");
    assert_eq!(said["source"]["frame_id"], "part-1");
    assert_eq!(said["verdict"], "pass");
    assert_eq!(said["resent"], false);
    assert!(near(value(&said, "y"), weighed(1.0, 2.5, -3.0)), "{said}");
    assert!(said["id"].as_str().is_some_and(|id| id.len() >= 16), "{said}");
    for time in ["acquired_at", "inferred_at"] {
        let text = said[time].as_str().unwrap_or_default();
        assert!(text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'), "{time}: {said}");
    }
    assert!(said["acquired_at"].as_str() <= said["inferred_at"].as_str(), "{said}");
    let spent = |part: &str| said["latency_us"][part].as_u64().unwrap_or_else(|| panic!("{part}: {said}"));
    assert!(spent("queue") + spent("decode") + spent("infer") <= spent("total"), "{said}");
    assert_eq!(message.qos, AtLeastOnce);
    assert!(!message.retain);
}

#[test]
fn json_comes_as_array_object_or_values_and_csv_with_header_separators_and_blanks() {
    let mut site = Site::new(&[weigh()]);
    let _daemon = site.run(
        &(pipeline("json", "weigh", "json/frame", "json") + &pipeline("csv", "weigh", "csv/frame", "csv")),
    );
    let frames: [(&str, &str, [f64; 3]); 12] = [
        ("json", "[1, 2, 3]", [1.0, 2.0, 3.0]),
        ("json", r#"{"c":6,"a":4,"b":5}"#, [4.0, 5.0, 6.0]),
        ("json", r#"{"values":[7,8.5,9e0]}"#, [7.0, 8.5, 9.0]),
        ("json", "  { \"a\" : -1 ,\n\t\"b\":0, \"c\":1E1 }\n", [-1.0, 0.0, 10.0]),
        ("json", r#"{"a":1,"b":1,"c":null}"#, [1.0, 1.0, 4.0]),
        ("json", r#"{"a":2,"b":1}"#, [2.0, 1.0, 4.0]),
        ("csv", "1,2,3", [1.0, 2.0, 3.0]),
        ("csv", "4;5;6\n", [4.0, 5.0, 6.0]),
        ("csv", "7\t8.5\t9\r\n", [7.0, 8.5, 9.0]),
        ("csv", "  1   0  -2  ", [1.0, 0.0, -2.0]),
        ("csv", "c,a,b\n6,4,5\n", [4.0, 5.0, 6.0]),
        ("csv", "a, b, c\n 3 , 1 , \n", [3.0, 1.0, 4.0]),
    ];
    for (kind, payload, [a, b, c]) in frames {
        site.client.forget();
        site.client.publish(&format!("{kind}/frame"), AtLeastOnce, payload);
        let said = site.client.wait_for(&result(kind), SOON, |_| true).json();
        assert!(near(value(&said, "y"), weighed(a, b, c)), "{payload:?} gave {said}");
    }
}

#[test]
fn several_pipelines_models_and_cameras_share_one_process() {
    let mut site = Site::new(&[weigh(), bright(), means()]);
    let cameras = pipeline("look", "bright", "camera/{camera}/frame", "image")
        .replace("{device}/{pipeline}/result", "{device}/{pipeline}/{camera}/result");
    let _daemon = site.run(
        &(cameras
            + &pipeline("scale", "weigh", "sensor/scale/frame", "json")
            + &pipeline("power", "means", "sensor/power/frame", "json")),
    );
    site.client.publish("camera/left/frame", AtLeastOnce, png(64, 48, [255, 255, 255]));
    site.client.publish("camera/right/frame", AtLeastOnce, jpeg(31, 17, [20, 20, 20]));
    site.client.publish("sensor/scale/frame", AtLeastOnce, "[60,0,0]");
    for sample in 1..=12 {
        site.client.publish(
            "sensor/power/frame",
            AtLeastOnce,
            format!(r#"{{"u":{sample},"i":{}}}"#, 10 * sample),
        );
    }

    let left = site.client.wait_for("lineside/press-07/look/left/result", SOON, |_| true).json();
    assert_eq!((&left["label"], &left["verdict"]), (&json!("bright"), &json!("pass")), "{left}");
    assert!(near(left["score"].as_f64().unwrap(), 1.0), "{left}");
    let right = site.client.wait_for("lineside/press-07/look/right/result", SOON, |_| true).json();
    assert_eq!((&right["label"], &right["verdict"]), (&json!("dark"), &json!("fail")), "{right}");
    let dark = right["scores"]["dark"].as_f64().unwrap();
    assert!((dark - (1.0 - 20.0 / 255.0)).abs() < 0.01, "{right}");

    let heavy = site.client.wait_for(&result("scale"), SOON, |_| true).json();
    assert!(near(value(&heavy, "y"), 120.5), "{heavy}");
    assert_eq!(heavy["verdict"], "fail", "120.5 is outside the card's range: {heavy}");

    // Twelve samples fill two windows of five; two samples wait for the third.
    let windows = site.client.wait_count(&result("power"), 2, SOON);
    for (window, mean) in windows.iter().zip([3.0, 8.0]) {
        let said = window.json();
        assert!(near(value(&said, "u_mean"), mean) && near(value(&said, "i_mean"), 10.0 * mean), "{said}");
    }
    let stats = site.stats("power", |stats| stats["frames"] == 12);
    assert_eq!(stats["predictions"], 2, "{stats}");
    assert_eq!(site.client.heard(&result("power")).len(), 2);
}

#[test]
fn grey_pictures_fit_colour_models_and_colour_fits_grey_ones() {
    let mut site = Site::new(&[bright(), bright_grey()]);
    let _daemon = site.run(
        &(pipeline("colour", "bright", "colour/frame", "image")
            + &pipeline("grey", "bright-grey", "grey/frame", "image")),
    );
    site.client.publish("colour/frame", AtLeastOnce, grey_png(12, 12, 51));
    // Luma of ITU-R 601: 0.299 · 9 + 0.587 · 99 + 0.114 · 199 = 83.5; a level of rounding is allowed.
    site.client.publish("grey/frame", AtLeastOnce, png(4, 4, [9, 99, 199]));
    for (name, level) in [("colour", 51.0), ("grey", 83.5)] {
        let said = site.client.wait_for(&result(name), SOON, |_| true).json();
        let bright = said["scores"]["bright"].as_f64().unwrap();
        assert!((bright * 255.0 - level).abs() <= 1.0, "{name}: {said}");
    }
}

#[test]
fn a_topic_that_matches_two_pipelines_is_answered_by_both() {
    let mut site = Site::new(&[weigh()]);
    let _daemon = site.run(
        &(pipeline("one", "weigh", "press/{sensor}/frame", "json")
            + &pipeline("two", "weigh", "press/scale/{kind}", "json")),
    );
    for n in 0..20 {
        site.client.publish("press/scale/frame", AtLeastOnce, format!("[{n},0,0]"));
    }
    site.client.flush();
    for name in ["one", "two"] {
        let said = site.client.wait_count(&result(name), 20, SOON);
        let mut values: Vec<f64> = said.iter().map(|message| value(&message.json(), "y")).collect();
        // Two workers may finish in another order than they began.
        values.sort_by(f64::total_cmp);
        assert_eq!(values, (0..20).map(|n| weighed(f64::from(n), 0.0, 0.0)).collect::<Vec<_>>());
        let stats = site.stats(name, |stats| stats["settled"] == 20);
        assert_eq!(stats["frames"], 20, "a broker may deliver twice, a pipeline counts once: {stats}");
    }
}

#[test]
fn state_belongs_to_its_source_and_equal_frames_count_twice() {
    let mut site = Site::new(&[total()]);
    let _daemon = site.run(&pipeline("sum", "total", "tank/{tank}/flow", "json"));
    for _ in 0..4 {
        site.client.publish("tank/a/flow", AtLeastOnce, "[1]");
        site.client.publish("tank/b/flow", AtLeastOnce, "[10]");
    }
    let said: Vec<Value> = site.client.wait_count(&result("sum"), 8, SOON).iter().map(|m| m.json()).collect();
    for (tank, step) in [("tank/a/flow", 1.0), ("tank/b/flow", 10.0)] {
        let sums: Vec<f64> =
            said.iter().filter(|p| p["source"]["topic"] == tank).map(|p| value(p, "total")).collect();
        assert_eq!(sums, [1.0, 2.0, 3.0, 4.0].map(|n| n * step), "{tank}");
    }
    let ids: BTreeSet<&str> = said.iter().filter_map(|p| p["id"].as_str()).collect();
    assert_eq!(ids.len(), 8, "equal bytes are different frames");
}

#[test]
fn a_frame_that_lacks_its_own_time_is_no_gap() {
    let mut joined = total();
    joined.meaning = joined.meaning.replace("\"table\"", "\"table\"\nmax_gap_ms = 600_000");
    let mut site = Site::new(&[joined]);
    let with_time =
        pipeline("sum", "total", "flow", "json").replace("\"json\"", "\"json\"\ntime_field = \"at\"");
    let _daemon = site.run(&with_time);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for at in [now.to_string(), "null".into(), now.to_string()] {
        site.client.publish("flow", AtLeastOnce, format!(r#"{{"x":1,"at":{at}}}"#));
    }
    let said = site.client.wait_count(&result("sum"), 3, SOON);
    let sums: Vec<f64> = said.iter().map(|message| value(&message.json(), "total")).collect();
    assert_eq!(sums, [1.0, 2.0, 3.0]);
}

#[test]
fn a_pipeline_may_set_the_threshold_and_the_uncertain_band() {
    let mut site = Site::new(&[bright()]);
    let strict = |name: &str, keys: &str| {
        pipeline(name, "bright", "camera/frame", "image")
            .replace("model = \"bright\"\n", &format!("model = \"bright\"\n{keys}\n"))
    };
    let _daemon = site.run(
        &(strict("plain", "")
            + &strict("strict", "threshold = 0.2")
            + &strict("unsure", "uncertain = [0.2, 0.6]")),
    );
    // 70 % bright, 30 % dark.
    site.client.publish("camera/frame", AtLeastOnce, png(8, 8, [178, 178, 178]));
    for (name, verdict) in [("plain", "pass"), ("strict", "fail"), ("unsure", "uncertain")] {
        let said = site.client.wait_for(&result(name), SOON, |_| true).json();
        assert_eq!(said["verdict"], verdict, "{name}: {said}");
        assert_eq!(said["label"], "bright", "{name}: {said}");
    }
}

#[test]
fn retained_predictions_reach_a_late_subscriber_and_qos_0_is_answered_too() {
    let mut site = Site::new(&[weigh()]);
    let kept = pipeline("kept", "weigh", "kept/frame", "json") + "retain = true\n\n";
    let quick = pipeline("quick", "weigh", "quick/frame", "json").replace("qos = 1", "qos = 0");
    let _daemon = site.run(&(kept + &quick));
    site.client.publish("kept/frame", AtLeastOnce, "[1,1,1]");
    site.client.publish("quick/frame", AtMostOnce, "[2,2,2]");
    assert_eq!(site.client.wait_for(&result("quick"), SOON, |_| true).qos, AtMostOnce);
    site.client.wait_for(&result("kept"), SOON, |_| true);
    site.client.wait_for(STATS, SOON, |_| true);

    let late = Client::connect(site.broker.port, "late");
    late.subscribe("lineside/#", AtLeastOnce);
    let message = late.wait_for(&result("kept"), SOON, |message| message.retain);
    assert!(near(value(&message.json(), "y"), weighed(1.0, 1.0, 1.0)));
    late.wait_for(STATS, SOON, |message| message.retain);
    late.wait_for(AVAILABILITY, SOON, |message| message.retain && message.payload == b"online");
    assert!(late.heard(&result("quick")).is_empty());
}

#[test]
fn stats_count_what_happened_under_the_reason_of_each_loss() {
    let mut site = Site::new(&[weigh()]);
    let _daemon = site.run(&pipeline("scale", "weigh", "s/frame", "json"));
    for payload in ["[1,2,3]", "", "[1,2]", "[4,5,6]", "{", "[1]"] {
        site.client.publish("s/frame", AtLeastOnce, payload);
    }
    let stats = site.stats("scale", |stats| stats["frames"] == 6 && stats["settled"] == 2);
    assert_eq!(stats["predictions"], 2, "{stats}");
    assert_eq!(stats["lost"]["empty_payload"], 1, "{stats}");
    assert_eq!(stats["lost"]["wrong_length"], 2, "{stats}");
    assert_eq!(stats["lost"]["malformed"], 1, "{stats}");
    let whole = site.client.heard(STATS).pop().unwrap().json();
    assert_eq!(whole["schema"], "lineside.stats/1");
    // And they go on coming.
    let heard = site.client.heard(STATS).len();
    site.client.wait_count(STATS, heard + 2, SOON);
}

#[test]
fn availability_is_online_then_stopped_after_sigterm_and_offline_after_a_crash() {
    let site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline("scale", "weigh", "s/frame", "json"));
    assert_eq!(daemon.stop(SOON), Some(0), "SIGTERM is a normal end:\n{}", daemon.log());
    site.client.wait_for(AVAILABILITY, SOON, |message| message.payload == b"stopped");
    let words: Vec<String> = site.client.heard(AVAILABILITY).iter().map(|message| message.text()).collect();
    assert_eq!(words, ["online", "stopped"], "no last will after an orderly end");

    site.client.forget();
    let mut daemon = site.start(&site.folder.path().join("line.toml"));
    daemon.kill();
    site.client.wait_for(AVAILABILITY, SOON, |message| message.payload == b"offline");
    let late = Client::connect(site.broker.port, "late");
    late.subscribe(AVAILABILITY, AtLeastOnce);
    late.wait_for(AVAILABILITY, SOON, |message| message.retain && message.payload == b"offline");
}

#[test]
fn sighup_is_refused_in_the_log_and_work_goes_on() {
    let mut site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline("scale", "weigh", "s/frame", "json"));
    daemon.signal("HUP");
    daemon.wait_log(&["SIGHUP"], SOON);
    assert!(daemon.is_alive());
    site.client.publish("s/frame", AtLeastOnce, "[1,2,3]");
    site.client.wait_for(&result("scale"), SOON, |_| true);
    assert_eq!(daemon.stop(SOON), Some(0));
}

#[test]
fn a_login_and_an_encrypted_line_are_used_and_the_password_stays_out_of_the_log() {
    let setup =
        Setup { users: vec![("press", "s3cret-wörd"), ("test", "test")], tls: true, ..Setup::default() };
    let broker = crate::support::mosquitto::Mosquitto::start_with(setup);
    let mut client = Client::connect_as(broker.port, "test", Some(("test", "test")));
    client.subscribe("lineside/#", AtLeastOnce);
    let folder = crate::support::site::work_folder(&[weigh()]);
    let line = format!(
        "url = \"mqtts://localhost:{}\"\nusername = \"press\"\npassword = \"s3cret-wörd\"\nca_file = \"{}\"",
        broker.tls_port,
        broker.ca_file().display()
    );
    let config = write_config(
        folder.path(),
        &line,
        &folder.path().join("models"),
        &pipeline("scale", "weigh", "s/frame", "json"),
    );
    let daemon = Daemon::spawn(&config);
    client.wait_for(AVAILABILITY, SOON, |message| message.payload == b"online");
    client.publish("s/frame", AtLeastOnce, "[1,2,3]");
    client.wait_for(&result("scale"), SOON, |_| true);
    assert!(!daemon.log().contains("s3cret"), "{}", daemon.log());
}
