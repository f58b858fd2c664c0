//! What a line may throw at the daemon: each bad frame costs itself, is reported and counted, and
//! the next good one is answered.

use std::time::Duration;

use rumqttc::QoS::AtLeastOnce;

use crate::support::SOON;
use crate::support::client::Client;
use crate::support::models::{bright, bright_grey, brittle, lookup, means, total, weigh, weighed};
use crate::support::pictures::{grey_png, jpeg, png, png_bomb, rgba_png};
use crate::support::site::{DEVICE, Site, error, pipeline, pipeline_with_ids, result, value};

/// Publishes one bad frame after the other, each followed by a good one.
struct Trial<'s> {
    site: &'s mut Site,
    pipeline: &'static str,
    topic: &'static str,
    good: Vec<u8>,
    sent: u64,
}

impl Trial<'_> {
    /// `payload` must be refused for one of `reasons`, the good frame behind it answered.
    fn refused(&mut self, what: &str, payload: impl Into<Vec<u8>>, reasons: &[&str]) -> String {
        let payload = payload.into();
        let length = payload.len();
        self.site.client.forget();
        self.site.client.publish(self.topic, AtLeastOnce, payload);
        self.site.client.publish(self.topic, AtLeastOnce, self.good.clone());
        self.site.client.flush();
        let report = self.site.client.wait_for(&error(self.pipeline), SOON, |_| true).json();
        let reason = report["reason"].as_str().unwrap_or_default().to_owned();
        assert!(reasons.contains(&reason.as_str()), "{what}: expected {reasons:?} in {report}");
        assert_eq!(report["schema"], "lineside.error/1", "{what}");
        assert_eq!(report["device"], DEVICE, "{what}");
        assert_eq!(report["pipeline"], self.pipeline, "{what}");
        assert_eq!(report["source"]["topic"], self.topic, "{what}");
        assert_eq!(report["payload_bytes"], length, "{what}: {report}");
        for key in ["id", "acquired_at", "failed_at", "stage", "message"] {
            assert!(report[key].as_str().is_some_and(|text| !text.is_empty()), "{what}: {key} in {report}");
        }
        self.site.client.wait_for(&result(self.pipeline), SOON, |_| true);
        self.sent += 2;
        let (sent, answered) = (self.sent, self.sent / 2);
        let stats =
            self.site.stats(self.pipeline, |stats| stats["frames"] == sent && stats["settled"] == answered);
        assert!(stats["lost"][&reason].as_u64() >= Some(1), "{what}: {stats}");
        assert_eq!(
            self.site.client.heard(&result(self.pipeline)).len(),
            1,
            "{what}: a bad frame was answered"
        );
        assert_eq!(self.site.client.heard(&error(self.pipeline)).len(), 1, "{what}: reported once");
        report["message"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn bad_numbers_cost_one_frame_each() {
    let mut site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline("scale", "weigh", "s/frame", "json"));
    let mut trial =
        Trial { site: &mut site, pipeline: "scale", topic: "s/frame", good: b"[1,2,3]".to_vec(), sent: 0 };
    trial.refused("empty payload", "", &["empty_payload"]);
    trial.refused("one byte", "x", &["malformed"]);
    trial.refused("one brace", "{", &["malformed"]);
    trial.refused("not UTF-8", b"\xff\xfe\x00".to_vec(), &["malformed"]);
    trial.refused("NaN", r#"{"a":NaN,"b":1,"c":1}"#, &["malformed", "not_finite"]);
    trial.refused("infinity by overflow", r#"{"a":1e999,"b":1,"c":1}"#, &["malformed", "not_finite"]);
    let message = trial.refused("null without imputation", r#"{"a":1,"b":null,"c":1}"#, &["missing_feature"]);
    assert!(message.contains('b'), "names the feature: {message}");
    let message = trial.refused("missing feature", r#"{"b":1,"c":1}"#, &["missing_feature"]);
    assert!(message.contains('a'), "names the feature: {message}");
    let message = trial.refused("extra feature", r#"{"a":1,"b":1,"c":1,"pressure":9}"#, &["unknown_feature"]);
    assert!(message.contains("pressure"), "names the feature: {message}");
    let message =
        trial.refused("renamed feature", r#"{"a":1,"bee":1,"c":1}"#, &["unknown_feature", "missing_feature"]);
    assert!(message.contains("bee") || message.contains('b'), "names the feature: {message}");
    trial.refused("text for a number", r#"{"a":"heavy","b":1,"c":1}"#, &["malformed"]);
    trial.refused("too short", "[1,2]", &["wrong_length"]);
    trial.refused("too long", "[1,2,3,4]", &["wrong_length"]);
    trial.refused("no numbers", "[]", &["wrong_length", "malformed"]);
    trial.refused("rubbish behind", "[1,2,3] [", &["malformed"]);
    trial.refused("deep nesting", "[".repeat(200_000), &["malformed"]);
    trial.refused("deep objects", r#"{"values":"#.repeat(50_000), &["malformed"]);
    trial.refused("a picture", png(8, 8, [1, 2, 3]), &["malformed"]);
    assert!(daemon.is_alive());
}

#[test]
fn bad_lines_of_csv_cost_one_frame_each() {
    let mut site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline("scale", "weigh", "s/frame", "csv"));
    let mut trial =
        Trial { site: &mut site, pipeline: "scale", topic: "s/frame", good: b"1,2,3".to_vec(), sent: 0 };
    trial.refused("empty payload", "", &["empty_payload"]);
    trial.refused("a header alone", "a,b,c\n", &["malformed", "wrong_length", "empty_payload"]);
    trial.refused("too few", "1,2", &["wrong_length"]);
    trial.refused("too many", "1,2,3,4", &["wrong_length"]);
    trial.refused("a word", "1,two,3", &["malformed"]);
    trial.refused("a blank without imputation", "1,,3", &["missing_feature"]);
    trial.refused("not a number", "1,NaN,3", &["not_finite", "malformed", "missing_feature"]);
    trial.refused("a header with another name", "a,bee,c\n1,2,3\n", &["unknown_feature", "missing_feature"]);
    trial.refused("bytes", vec![0u8; 64], &["malformed", "wrong_length"]);
    assert!(daemon.is_alive());
}

#[test]
fn bad_pictures_cost_one_frame_each_and_a_bomb_is_not_unpacked() {
    let mut site = Site::new(&[bright(), bright_grey()]);
    let config = pipeline("look", "bright", "camera/frame", "image")
        .replace("qos = 1\nqueue_frames", "qos = 1\nmax_payload_bytes = 16_777_216\nqueue_frames")
        + &pipeline("grey", "bright-grey", "grey/frame", "image");
    let mut daemon = site.run(&config);
    let good = png(16, 16, [200, 200, 200]);
    let mut trial = Trial { site: &mut site, pipeline: "look", topic: "camera/frame", good, sent: 0 };
    let whole = jpeg(640, 480, [90, 120, 30]);
    trial.refused("empty payload", "", &["empty_payload"]);
    trial.refused("one byte", [0xff], &["malformed"]);
    trial.refused("truncated JPEG", &whole[..whole.len() / 2], &["malformed"]);
    trial.refused("JPEG header alone", &whole[..20], &["malformed"]);
    let small = png(64, 64, [7, 7, 7]);
    trial.refused("truncated PNG", &small[..small.len() - 20], &["malformed"]);
    let mut broken = small.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    trial.refused("flipped bits", broken, &["malformed"]);
    trial.refused("JSON", "[1,2,3]", &["malformed"]);
    trial.refused("a GIF", *b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", &["malformed"]);
    trial.refused("no pixels", png_bomb(0, 0), &["malformed"]);
    trial.refused("transparent pixels", rgba_png(16, 16, [9, 9, 9, 100]), &["wrong_channels"]);

    let before_kb = daemon.memory_kb("VmHWM");
    trial.refused("20,000 × 20,000 pixels", png_bomb(20_000, 20_000), &["image_too_large"]);
    let grown_kb = daemon.memory_kb("VmHWM") - before_kb;
    assert!(grown_kb < 100_000, "1.2 GB of pixels were unpacked in part: {grown_kb} kB more");

    let good = grey_png(4, 4, 200);
    let mut trial = Trial { site: &mut site, pipeline: "grey", topic: "grey/frame", good, sent: 0 };
    trial.refused("alpha for grey", rgba_png(4, 4, [9, 9, 9, 9]), &["wrong_channels"]);
    trial.refused(
        "5 × 4 where the card says exact",
        grey_png(5, 4, 9),
        &["wrong_length", "malformed", "wrong_channels"],
    );
    assert!(daemon.is_alive());
}

#[test]
fn a_payload_over_the_limit_is_skipped_once_and_never_comes_again() {
    let mut site = Site::new(&[weigh()]);
    let config = pipeline("scale", "weigh", "s/frame", "json")
        .replace("queue_frames = 64", "max_payload_bytes = 4096\nqueue_frames = 64");
    let mut daemon = site.run(&config);
    let over = format!("[1,2,3{}]", " ".repeat(3 << 20));
    site.client.publish("s/frame", AtLeastOnce, "[1,0,0]");
    site.client.publish("s/frame", AtLeastOnce, over.clone());
    site.client.publish("s/frame", AtLeastOnce, "[2,0,0]");
    site.client.flush();
    let report = site.client.wait_for(&error("scale"), SOON, |_| true).json();
    assert_eq!(report["reason"], "payload_too_large", "{report}");
    assert_eq!(report["payload_bytes"], over.len(), "{report}");
    let said = site.client.wait_count(&result("scale"), 2, SOON);
    let mut values: Vec<f64> = said.iter().map(|message| value(&message.json(), "y")).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, [weighed(1.0, 0.0, 0.0), weighed(2.0, 0.0, 0.0)]);

    // Neither a pause nor a new process meets it again.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.client.heard(&error("scale")).len(), 1, "a redelivery loop:\n{}", daemon.log());
    assert_eq!(daemon.stop(SOON), Some(0));
    site.client.forget();
    let _again = site.start(&site.folder.path().join("line.toml"));
    site.client.publish("s/frame", AtLeastOnce, "[3,0,0]");
    site.client.wait_for(&result("scale"), SOON, |_| true);
    assert!(site.client.heard(&error("scale")).is_empty(), "it came again after a restart");
}

#[test]
fn a_model_that_panics_or_errs_costs_that_frame_and_not_the_daemon() {
    let mut site = Site::new(&[brittle(), lookup()]);
    let mut daemon = site.run(
        &(pipeline("divides", "brittle", "d/frame", "json")
            + &pipeline("looks-up", "lookup", "l/frame", "json")),
    );
    // Which of the two an operator does is the engine's affair; a frame's fate is the same.
    let reasons = &["infer_failed", "infer_panicked"];
    for (name, topic) in [("divides", "d/frame"), ("looks-up", "l/frame")] {
        let mut trial = Trial { site: &mut site, pipeline: name, topic, good: b"[3]".to_vec(), sent: 0 };
        for x in ["[9]", "[-77]", "[123456]"] {
            trial.refused(&format!("{name} on {x}"), x, reasons);
        }
        let said = site.client.heard(&result(name)).pop().unwrap().json();
        assert_eq!((&said["label"], &said["verdict"]), (&"q3".into(), &"fail".into()), "{said}");
    }
    assert!(daemon.is_alive());
}

#[test]
fn a_bad_sample_leaves_the_window_of_its_neighbours_whole() {
    let mut site = Site::new(&[means()]);
    let _daemon = site.run(&pipeline("power", "means", "power/frame", "json"));
    for sample in ["[1,1]", "[2,2]", "[1]", "{}", "", "[3,3]", "[4,4]", "[null,5]", "[5,5]"] {
        site.client.publish("power/frame", AtLeastOnce, sample);
    }
    let said = site.client.wait_for(&result("power"), SOON, |_| true).json();
    assert!((value(&said, "u_mean") - 3.0).abs() < 1e-5, "{said}");
    site.client.wait_count(&error("power"), 4, SOON);
}

#[test]
fn a_frame_whose_scores_are_refused_leaves_the_recurrent_state_as_it_was() {
    let mut site = Site::new(&[total()]);
    let _daemon = site.run(&pipeline("sum", "total", "tank/{tank}/flow", "json"));
    // Twice the largest number is infinite, and infinity would stay in the sum for good.
    for frame in ["[3e38]", "[3e38]", "[[-1e38],[3e38],[3e38],[3e38]]", "[-3e38]", "[1]"] {
        site.client.publish("tank/a/flow", AtLeastOnce, frame);
    }
    site.client.wait_count(&error("sum"), 2, SOON);
    let said = site.client.wait_count(&result("sum"), 3, SOON);
    let sums: Vec<f32> = said.iter().map(|message| value(&message.json(), "total") as f32).collect();
    assert_eq!(sums, [3e38, 0.0, 1.0]);
}

#[test]
fn a_refused_frame_is_reported_with_the_id_that_it_carries() {
    let mut site = Site::new(&[weigh()]);
    let csv = pipeline("lines", "weigh", "l/frame", "csv").replace("\"csv\"", "\"csv\"\nid_field = \"id\"");
    let _daemon = site.run(&(pipeline_with_ids("scale", "weigh", "s/frame") + &csv));
    for (frame, id) in [
        (r#"{"id":"A1","a":1,"bee":1,"c":1}"#, Some("A1")),
        (r#"{"a":"heavy","b":1,"c":1,"id":17}"#, Some("17")),
        (r#"{"id":"A3","a":1,"b":NaN,"c":1}"#, Some("A3")),
        (r#"{"a":1,"id":["A4"]}"#, None),
        (r#"{"id":"A5","id":"A6"}"#, None),
        (r#"{"a":1,"b":"#, None),
    ] {
        site.client.forget();
        site.client.publish("s/frame", AtLeastOnce, frame);
        let report = site.client.wait_for(&error("scale"), SOON, |_| true).json();
        assert_eq!(report["source"]["frame_id"].as_str(), id, "{frame}: {report}");
    }
    for (frame, id) in [
        ("id,a,bee,c\nA1,1,1,1\n", Some("A1")),
        ("a;b;c;id\r\n1;x;1;A2\r\n", Some("A2")),
        ("a,b,c,id\n1,1,1,A3\n1,1,1,A4\n", None),
        ("a,b,c,id\n1,1,A5\n", None),
    ] {
        site.client.forget();
        site.client.publish("l/frame", AtLeastOnce, frame);
        let report = site.client.wait_for(&error("lines"), SOON, |_| true).json();
        assert_eq!(report["source"]["frame_id"].as_str(), id, "{frame}: {report}");
    }
    // Refused and then mended: one frame to its sender, and one id.
    site.client.forget();
    site.client.publish("s/frame", AtLeastOnce, r#"{"a":null,"b":1,"c":1,"id":"B"}"#);
    site.client.publish("s/frame", AtLeastOnce, r#"{"a":1,"b":1,"c":1,"id":"B"}"#);
    let refused = site.client.wait_for(&error("scale"), SOON, |_| true).json();
    assert_eq!(site.client.wait_for(&result("scale"), SOON, |_| true).json()["id"], refused["id"]);
}

#[test]
fn frames_nobody_asked_for_and_odd_topics_do_no_harm() {
    let site = Site::new(&[weigh()]);
    let mut daemon = site.run(&pipeline("scale", "weigh", "s/{part}/frame", "json"));
    let mut other = Client::connect(site.broker.port, "other");
    for topic in ["s//frame", "s/ünï cödé/frame", "s/{part}/frame", "s/$x/frame", "s/a/b/frame", "t/a/frame"]
    {
        other.publish(topic, AtLeastOnce, "[1,2,3]");
    }
    other.flush();
    // The first four are frames of this pipeline, the last two of nobody.
    let said = site.client.wait_count(&result("scale"), 4, SOON);
    let mut topics: Vec<String> =
        said.iter().map(|message| message.json()["source"]["topic"].as_str().unwrap().to_owned()).collect();
    topics.sort();
    assert_eq!(topics, ["s/$x/frame", "s//frame", "s/{part}/frame", "s/ünï cödé/frame"]);
    let stats = site.stats("scale", |stats| stats["settled"] == 4);
    assert_eq!(stats["frames"], 4, "{stats}");
    assert!(daemon.is_alive());
}
