//! A prediction, or why there is none, as the JSON that is published.
//!
//! Promise: one object on one line, its fields always in the order of `prediction.schema.json` and
//! `error.schema.json` beside this file, with `resent` last, so that sending it again changes a few
//! bytes at the end ([`mark_resent`]). Numbers are the shortest that read back as the same `f32` or
//! `f64`; no NaN or infinity is ever written (they would be `null`).
//! Not here: topics, and whether and when it is sent.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use crate::base::{FrameId, Origin, Prediction, Reason, Scored, UnixMicros};

/// JSON Schema of a prediction.
pub const PREDICTION_SCHEMA: &str = include_str!("prediction.schema.json");
/// JSON Schema of an error.
pub const ERROR_SCHEMA: &str = include_str!("error.schema.json");

/// Longest `message` of an error: it may quote a frame's own field names, which are anyone's.
const MAX_MESSAGE_BYTES: usize = 512;

/// What [`mark_resent`] looks for.
const NOT_RESENT: &[u8] = b"\"resent\":false}";
const RESENT: &[u8] = b"\"resent\":true}";

/// What an [`Origin`]'s name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// An MQTT topic.
    Topic,
    /// A serial port's path.
    Port,
    /// A file's path.
    File,
}

impl OriginKind {
    const fn key(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Port => "port",
            Self::File => "file",
        }
    }
}

/// What is the same in all messages of a pipeline, written once.
#[derive(Clone, Debug)]
pub struct PayloadContext {
    /// `,"device":…,"pipeline":…,"model":{…},"source":{"topic":`
    middle: Vec<u8>,
}

/// A frame that got no prediction.
#[derive(Clone, Debug)]
pub struct Unanswered<'a> {
    /// The id that its prediction would have had.
    pub id: FrameId,
    /// Where it came from.
    pub origin: &'a Origin,
    /// The id that it carried itself, as far as it could be read.
    pub frame_id: Option<&'a str>,
    /// Its number in its sender's count.
    pub sequence: Option<u16>,
    /// When it came.
    pub acquired_at: UnixMicros,
    /// When it was given up.
    pub failed_at: UnixMicros,
    /// Under which name it is counted.
    pub reason: Reason,
    /// What was wrong, for people.
    pub message: &'a str,
    /// Size of its payload.
    pub payload_bytes: usize,
    /// The broker had kept it for later subscribers.
    pub retained: bool,
    /// The transport delivered it before.
    pub redelivered: bool,
}

impl PayloadContext {
    /// Prepares what a pipeline's messages share. `origin` says what its origins' names are.
    pub fn new(
        device: &str,
        pipeline: &str,
        model_name: &str,
        model_version: &str,
        origin: OriginKind,
    ) -> Self {
        let mut middle = Vec::new();
        field(&mut middle, "device", device);
        field(&mut middle, "pipeline", pipeline);
        middle.extend_from_slice(b",\"model\":{\"name\":");
        json(&mut middle, model_name);
        field(&mut middle, "version", model_version);
        middle.extend_from_slice(b"},\"source\":{\"");
        middle.extend_from_slice(origin.key().as_bytes());
        middle.extend_from_slice(b"\":");
        Self { middle }
    }

    /// The prediction as `lineside.prediction/1`. `clock_synced`: the board's date can be trusted.
    ///
    /// A frame that the transport delivered before starts out as `resent`: its first answer may be
    /// under way already.
    pub fn prediction_json(&self, prediction: &Prediction, clock_synced: bool) -> Vec<u8> {
        // A class's label and score take some 20 bytes; the rest is under 700 with ordinary names.
        let mut out = Vec::with_capacity(700 + 24 * numbers(&prediction.scored));
        out.extend_from_slice(b"{\"schema\":\"lineside.prediction/1\"");
        let Prediction { id, origin, frame_id, sequence, retained, .. } = prediction;
        self.head(&mut out, *id, origin, frame_id.as_deref(), *sequence, *retained);
        text_field(&mut out, "acquired_at", prediction.acquired_at);
        text_field(&mut out, "inferred_at", prediction.inferred_at);
        field(&mut out, "clock_synced", &clock_synced);
        let latency = &prediction.latency;
        out.extend_from_slice(b",\"latency_us\":{\"queue\":");
        json(&mut out, &latency.queue_us);
        field(&mut out, "decode", &latency.decode_us);
        field(&mut out, "featurize", &latency.featurize_us);
        field(&mut out, "infer", &latency.infer_us);
        field(&mut out, "total", &latency.total_us);
        out.push(b'}');
        field(&mut out, "verdict", prediction.verdict.as_str());
        scored(&mut out, &prediction.scored);
        tail(out, prediction.redelivered)
    }

    /// Why a frame got no prediction, as `lineside.error/1`.
    pub fn error_json(&self, unanswered: &Unanswered<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"{\"schema\":\"lineside.error/1\"");
        let Unanswered { id, origin, frame_id, sequence, retained, .. } = unanswered;
        self.head(&mut out, *id, origin, *frame_id, *sequence, *retained);
        text_field(&mut out, "acquired_at", unanswered.acquired_at);
        text_field(&mut out, "failed_at", unanswered.failed_at);
        field(&mut out, "stage", unanswered.reason.stage().as_str());
        field(&mut out, "reason", unanswered.reason.as_str());
        let kept = unanswered.message.floor_char_boundary(MAX_MESSAGE_BYTES);
        if kept < unanswered.message.len() {
            field(&mut out, "message", &format!("{}…", &unanswered.message[..kept]));
        } else {
            field(&mut out, "message", unanswered.message);
        }
        field(&mut out, "payload_bytes", &unanswered.payload_bytes);
        tail(out, unanswered.redelivered)
    }

    /// `id` to `source`.
    fn head(
        &self,
        out: &mut Vec<u8>,
        id: FrameId,
        origin: &Origin,
        frame_id: Option<&str>,
        sequence: Option<u16>,
        retained: bool,
    ) {
        text_field(out, "id", id);
        out.extend_from_slice(&self.middle);
        json(out, &*origin.name);
        if !origin.levels.is_empty() {
            out.extend_from_slice(b",\"levels\":");
            object(out, origin.levels.iter().map(|(key, value)| (&**key, value)));
        }
        if let Some(frame_id) = frame_id {
            field(out, "frame_id", frame_id);
        }
        if let Some(sequence) = sequence {
            field(out, "sequence", &sequence);
        }
        if retained {
            field(out, "retained", &true);
        }
        out.push(b'}');
    }
}

/// Turns the final `"resent":false}` of a message into `"resent":true}`, in constant time; a message
/// that says so already, or that is not one of ours, stays as it is.
pub fn mark_resent(payload: &mut Vec<u8>) {
    if payload.ends_with(NOT_RESENT) {
        payload.truncate(payload.len() - NOT_RESENT.len());
        payload.extend_from_slice(RESENT);
    }
}

fn scored(out: &mut Vec<u8>, scored: &Scored) {
    let named = |scores: &'_ [(String, f32)], out: &mut Vec<u8>| {
        out.extend_from_slice(b",\"scores\":");
        object(out, scores.iter().map(|(label, score)| (label.as_str(), score)));
    };
    match scored {
        Scored::Class { label, score, scores } => {
            field(out, "label", label);
            field(out, "score", score);
            named(scores, out);
        }
        Scored::Labels { labels, scores } => {
            field(out, "labels", labels);
            named(scores, out);
        }
        Scored::Values { values } => {
            #[derive(Serialize)]
            struct Quantity<'a> {
                value: f64,
                unit: &'a str,
            }
            out.extend_from_slice(b",\"values\":");
            let quantity = |value: &f64, unit| Quantity { value: *value, unit };
            object(out, values.iter().map(|(name, value, unit)| (name.as_str(), quantity(value, unit))));
        }
        Scored::Anomaly { anomaly_score, expected } => {
            field(out, "anomaly_score", anomaly_score);
            out.extend_from_slice(b",\"expected\":");
            object(out, expected.iter().map(|(name, value)| (name.as_str(), value)));
        }
    }
}

fn numbers(scored: &Scored) -> usize {
    match scored {
        Scored::Class { scores, .. } | Scored::Labels { scores, .. } => scores.len(),
        Scored::Values { values } => values.len(),
        Scored::Anomaly { expected, .. } => expected.len(),
    }
}

fn tail(mut out: Vec<u8>, resent: bool) -> Vec<u8> {
    out.push(b',');
    out.extend_from_slice(if resent { RESENT } else { NOT_RESENT });
    out
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("memory takes every byte, and no map has keys other than text");
}

/// `,"key":value`; the key is one of ours and needs no escapes.
fn field<T: Serialize + ?Sized>(out: &mut Vec<u8>, key: &str, value: &T) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    json(out, value);
}

/// `,"key":"value"` of a value whose text needs no escapes (ids, dates).
fn text_field(out: &mut Vec<u8>, key: &str, value: impl Display) {
    write!(out, ",\"{key}\":\"{value}\"").expect("memory takes every byte");
}

fn object<'a, T: Serialize>(out: &mut Vec<u8>, entries: impl Iterator<Item = (&'a str, T)>) {
    out.push(b'{');
    for (i, (key, value)) in entries.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json(out, key);
        out.push(b':');
        json(out, &value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Latency, Micros, Verdict};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn context() -> PayloadContext {
        PayloadContext::new("press-07", "screw", "pitting", "1.2.0", OriginKind::Topic)
    }

    fn origin() -> Origin {
        Origin { name: "camera/left/frame".into(), levels: [("camera".into(), "left".into())].into() }
    }

    fn prediction(scored: Scored) -> Prediction {
        Prediction {
            id: FrameId(0xabc),
            origin: origin(),
            frame_id: Some("part \"17\"".into()),
            sequence: None,
            acquired_at: UnixMicros(1_709_251_199_000_001),
            inferred_at: UnixMicros(1_709_251_200_500_000),
            taken_at: Micros(5),
            latency: Latency { queue_us: 1, decode_us: 2, featurize_us: 3, infer_us: 4, total_us: 10 },
            verdict: Verdict::Fail,
            scored,
            retained: false,
            redelivered: false,
        }
    }

    fn class() -> Scored {
        Scored::Class {
            label: "pitting".into(),
            score: 0.9,
            scores: vec![("ok".into(), 0.1), ("pitting".into(), 0.9)],
        }
    }

    fn unanswered<'a>(origin: &'a Origin, message: &'a str) -> Unanswered<'a> {
        Unanswered {
            id: FrameId(u128::MAX),
            origin,
            frame_id: None,
            sequence: None,
            acquired_at: UnixMicros(0),
            failed_at: UnixMicros(1),
            reason: Reason::Malformed,
            message,
            payload_bytes: 12,
            retained: false,
            redelivered: true,
        }
    }

    /// The part of JSON Schema that our two files use; anything else in them is a failure.
    fn check(schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        for (rule, wanted) in schema.as_object().expect("a schema is an object") {
            let met = match rule.as_str() {
                "$schema" | "$id" | "title" | "description" => true,
                "type" => match wanted.as_str().expect("one type") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64(),
                    other => panic!("unknown type {other}"),
                },
                "const" => value == wanted,
                "enum" => wanted.as_array().expect("enum").contains(value),
                "required" => wanted
                    .as_array()
                    .expect("names")
                    .iter()
                    .all(|key| value.get(key.as_str().expect("name")).is_some()),
                "properties" => {
                    for (key, schema) in wanted.as_object().expect("properties") {
                        if let Some(value) = value.get(key) {
                            check(schema, value, &format!("{place}.{key}"))?;
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    let known = schema.get("properties").and_then(Value::as_object);
                    for (key, value) in value.as_object().into_iter().flatten() {
                        if known.is_some_and(|known| known.contains_key(key)) {
                            continue;
                        }
                        match wanted {
                            Value::Bool(false) => return Err(format!("{place}.{key} is not in the schema")),
                            schema => check(schema, value, &format!("{place}.{key}"))?,
                        }
                    }
                    true
                }
                "items" => {
                    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
                        check(wanted, value, &format!("{place}[{i}]"))?;
                    }
                    true
                }
                "oneOf" => {
                    let fits = wanted.as_array().expect("schemas").iter();
                    fits.filter(|schema| check(schema, value, place).is_ok()).count() == 1
                }
                "minLength" | "maxLength" => {
                    let len = value.as_str().map_or(0, |text| text.chars().count()) as u64;
                    let bound = wanted.as_u64().expect("a length");
                    if rule == "minLength" { len >= bound } else { len <= bound }
                }
                "format" => {
                    assert_eq!(wanted, "date-time");
                    let text = value.as_str().unwrap_or_default().as_bytes();
                    text.len() == 27 && text[10] == b'T' && text[26] == b'Z'
                }
                other => panic!("{place}: the check does not know `{other}`"),
            };
            if !met {
                return Err(format!("{place}: {value} breaks {rule} {wanted}"));
            }
        }
        Ok(())
    }

    fn conforms(schema: &str, message: &[u8]) -> Value {
        let schema = serde_json::from_str(schema).expect("the schema is JSON");
        let value = serde_json::from_slice(message).expect("the message is JSON");
        check(&schema, &value, "$").expect("the message keeps to its schema");
        value
    }

    #[test]
    fn a_classification_reads_as_documented() {
        let message = context().prediction_json(&prediction(class()), true);
        let wanted = concat!(
            r#"{"schema":"lineside.prediction/1","id":"00000000000000000000000000000abc","device":"press-07","#,
            r#""pipeline":"screw","model":{"name":"pitting","version":"1.2.0"},"source":{"topic":"camera/left/frame","#,
            r#""levels":{"camera":"left"},"frame_id":"part \"17\""},"acquired_at":"2024-02-29T23:59:59.000001Z","#,
            r#""inferred_at":"2024-03-01T00:00:00.500000Z","clock_synced":true,"#,
            r#""latency_us":{"queue":1,"decode":2,"featurize":3,"infer":4,"total":10},"verdict":"fail","#,
            r#""label":"pitting","score":0.9,"scores":{"ok":0.1,"pitting":0.9},"resent":false}"#,
        );
        assert_eq!(String::from_utf8(message).expect("UTF-8"), wanted);
    }

    #[test]
    fn every_kind_keeps_to_the_schema() {
        let kinds = [
            (class(), json!({"label": "pitting", "score": 0.9})),
            (
                Scored::Labels { labels: vec!["heat".into()], scores: vec![("heat".into(), 0.75)] },
                json!({"labels": ["heat"], "scores": {"heat": 0.75}}),
            ),
            (Scored::Labels { labels: vec![], scores: vec![] }, json!({"labels": [], "scores": {}})),
            (
                Scored::Values { values: vec![("wear".into(), 1.5, "µm".into())] },
                json!({"values": {"wear": {"value": 1.5, "unit": "µm"}}}),
            ),
            (
                Scored::Anomaly { anomaly_score: 2.5, expected: vec![("temp".into(), 20.0)] },
                json!({"anomaly_score": 2.5, "expected": {"temp": 20.0}}),
            ),
            (
                Scored::Anomaly { anomaly_score: 0.0, expected: vec![] },
                json!({"anomaly_score": 0.0, "expected": {}}),
            ),
        ];
        for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Uncertain, Verdict::None] {
            for (scored, wanted) in &kinds {
                let prediction = Prediction { verdict, ..prediction(scored.clone()) };
                let value = conforms(PREDICTION_SCHEMA, &context().prediction_json(&prediction, false));
                assert_eq!(value["verdict"], verdict.as_str());
                for (key, wanted) in wanted.as_object().expect("an object") {
                    assert_eq!(&value[key], wanted, "{key}");
                }
            }
        }
    }

    #[test]
    fn the_schema_check_can_fail() {
        let message = context().prediction_json(&prediction(class()), true);
        let value: Value = serde_json::from_slice(&message).expect("JSON");
        let schema = serde_json::from_str(PREDICTION_SCHEMA).expect("JSON");
        let broken = |change: fn(&mut Value)| {
            let mut value = value.clone();
            change(&mut value);
            check(&schema, &value, "$").is_err()
        };
        assert!(!broken(|_| ()));
        assert!(broken(|value| value["verdict"] = json!("good")));
        assert!(broken(|value| value["latency_us"]["queue"] = json!(-1)));
        assert!(broken(|value| value["values"] = json!({}))); // two kinds at once
        assert!(broken(|value| value["scores"]["ok"] = json!(null)));
        assert!(broken(|value| drop(value.as_object_mut().expect("an object").remove("resent"))));
        assert!(broken(|value| value["acquired_at"] = json!("yesterday")));
    }

    #[test]
    fn an_error_says_where_and_why() {
        let message = context().error_json(&unanswered(&origin(), "torn \"JPEG\"\n"));
        let value = conforms(ERROR_SCHEMA, &message);
        assert_eq!(value["stage"], "decode");
        assert_eq!(value["reason"], "malformed");
        assert_eq!(value["message"], "torn \"JPEG\"\n");
        assert_eq!(value["id"], "f".repeat(32));
        assert_eq!(value["payload_bytes"], 12);
        assert_eq!(value["resent"], true);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "é".repeat(10_000);
        let value = conforms(ERROR_SCHEMA, &context().error_json(&unanswered(&origin(), &long)));
        assert_eq!(value["message"], format!("{}…", "é".repeat(256)));
    }

    #[test]
    fn schemas_know_every_reason_stage_and_verdict() {
        let error: Value = serde_json::from_str(ERROR_SCHEMA).expect("JSON");
        let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(error["properties"]["reason"]["enum"], json!(reasons));
        let mut stages: Vec<_> = Reason::ALL.iter().map(|reason| reason.stage().as_str()).collect();
        stages.dedup();
        assert_eq!(error["properties"]["stage"]["enum"], json!(stages));
    }

    #[test]
    fn sent_again_only_the_end_changes() {
        let mut message = context().prediction_json(&prediction(class()), true);
        let first = message.clone();
        mark_resent(&mut message);
        let mut value = conforms(PREDICTION_SCHEMA, &message);
        assert_eq!(value["resent"], true);
        value["resent"] = json!(false);
        assert_eq!(value, conforms(PREDICTION_SCHEMA, &first));
        let second = message.clone();
        mark_resent(&mut message);
        assert_eq!(message, second);
        let mut foreign = b"not ours".to_vec();
        mark_resent(&mut foreign);
        assert_eq!(foreign, b"not ours");
    }

    #[test]
    fn a_frame_delivered_before_starts_out_as_resent() {
        let prediction = Prediction { redelivered: true, ..prediction(class()) };
        let value = conforms(PREDICTION_SCHEMA, &context().prediction_json(&prediction, true));
        assert_eq!(value["resent"], true);
    }

    #[test]
    fn a_sequence_number_is_told_and_is_no_id() {
        let prediction = Prediction { sequence: Some(65_535), frame_id: None, ..prediction(class()) };
        let value = conforms(PREDICTION_SCHEMA, &context().prediction_json(&prediction, true));
        assert_eq!(value["source"]["sequence"], 65_535);
        assert_eq!(value["source"].get("frame_id"), None);
    }

    #[test]
    fn a_port_or_a_file_is_named_as_such() {
        for (kind, key) in [(OriginKind::Port, "port"), (OriginKind::File, "file")] {
            let context = PayloadContext::new("d", "p", "m", "v", kind);
            let prediction = Prediction { origin: Origin::new("/dev/ttyUSB0"), ..prediction(class()) };
            let value = conforms(PREDICTION_SCHEMA, &context.prediction_json(&prediction, true));
            assert_eq!(value["source"], json!({ key: "/dev/ttyUSB0", "frame_id": "part \"17\"" }));
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_and_the_scores_they_read_back(
            name in any::<String>(), level in any::<String>(), label in any::<String>(),
            score in any::<f32>().prop_filter("finite", |v| v.is_finite()),
            value in any::<f64>().prop_filter("finite", |v| v.is_finite()),
        ) {
            let scored = Scored::Class { label: label.clone(), score, scores: vec![(label.clone(), score)] };
            let origin = Origin { name: name.as_str().into(), levels: [(level.as_str().into(), name.clone())].into() };
            let message = context().prediction_json(&Prediction { origin, ..prediction(scored) }, true);
            let read = conforms(PREDICTION_SCHEMA, &message);
            prop_assert_eq!(&read["source"]["topic"], &json!(name));
            prop_assert_eq!(&read["source"]["levels"][&level], &json!(name));
            prop_assert_eq!(&read["label"], &json!(label));
            prop_assert_eq!(read["score"].as_f64().map(|v| v as f32), Some(score));
            let values = Scored::Values { values: vec![(label.clone(), value, level)] };
            let read = conforms(PREDICTION_SCHEMA, &context().prediction_json(&prediction(values), true));
            prop_assert_eq!(read["values"][&label]["value"].as_f64(), Some(value));
        }
    }
}
