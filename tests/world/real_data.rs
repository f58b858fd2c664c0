//! Real data through the whole way: what is published equals what onnxruntime says offline, frame by
//! frame.

use std::time::Duration;

use rumqttc::QoS::AtLeastOnce;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::oracle::{self, Case};
use crate::support::site::{Site, pipeline, pipeline_with_ids, result};
use crate::support::{shared, shipped_models};

const LONG: Duration = Duration::from_secs(180);

/// Cases of a shipped model from a shared data set; `None`: there is no shared data.
fn cases(kind: &str, model: &str, data: &str) -> Option<Vec<Case>> {
    let data = shared(&format!("{model} on {data}"))?.join("data").join(data);
    let out = TempDir::with_prefix("lineside-oracle-").unwrap();
    Some(oracle::ask(kind, &shipped_models().join(model), out.path(), &[&data]))
}

/// A site whose models are the shipped ones.
fn shipped() -> Site {
    let site = Site::new(&[]);
    std::fs::remove_dir(site.models()).unwrap();
    std::os::unix::fs::symlink(shipped_models(), site.models()).unwrap();
    site
}

/// Scores within `tolerance`; label and verdict equal wherever the right answer is no closer call
/// than that.
fn assert_classified(said: &Value, right: &Value, tolerance: f64) {
    for (label, score) in right["scores"].as_object().unwrap() {
        let (ours, theirs) = (said["scores"][label].as_f64(), score.as_f64().unwrap());
        let ours = ours.unwrap_or_else(|| panic!("no score of {label} in {said}"));
        assert!((ours - theirs).abs() <= tolerance, "{label}: {ours}, onnxruntime {theirs}: {said}");
    }
    if right["margin"].as_f64() > Some(2.0 * tolerance) {
        assert_eq!(said["label"], right["label"], "{said}, expected {right}");
    }
    if right["distance"].as_f64() > Some(2.0 * tolerance) {
        assert_eq!(said["verdict"], right["verdict"], "{said}, expected {right}");
    }
}

#[test]
fn bsdata_patches_get_onnxruntimes_scores_picture_by_picture() {
    let Some(cases) = cases("patches", "surface-pitting", "bsdata/patches64_360.npz") else { return };
    let mut site = shipped();
    // Pictures carry no id of their own: each comes from a camera of its own.
    let _daemon = site.run(&pipeline("screw", "surface-pitting", "camera/{camera}/frame", "image"));
    for (n, case) in cases.iter().enumerate() {
        site.client.publish(&format!("camera/{n}/frame"), AtLeastOnce, case.payload.clone());
    }
    let said = site.client.wait_count(&result("screw"), cases.len(), LONG);
    assert_eq!(said.len(), cases.len());
    let mut seen = vec![false; cases.len()];
    for message in said {
        let said = message.json();
        let topic = said["source"]["topic"].as_str().unwrap().to_owned();
        let n: usize = topic.split('/').nth(1).unwrap().parse().unwrap();
        assert!(!std::mem::replace(&mut seen[n], true), "picture {n} was answered twice");
        // PNG gives both sides the same bytes; JPEG decoders may round a level differently.
        let lossless = cases[n].answer["lossless"] == true;
        assert_classified(&said, &cases[n].answer, if lossless { 1e-4 } else { 2e-2 });
    }
    assert!(seen.iter().all(|seen| *seen));
}

fn cycles_of(model: &str) {
    let Some(cases) = cases("cycles", model, "hydraulic_1hz/hydraulic_1hz.npz") else { return };
    let mut site = shipped();
    let _daemon = site.run(&pipeline_with_ids("rig", model, "rig/frame"));
    for case in &cases {
        site.client.publish("rig/frame", AtLeastOnce, case.payload.clone());
    }
    let right: Vec<&Case> = cases.iter().filter(|case| !case.answer.is_null()).collect();
    let said = site.client.wait_count(&result("rig"), right.len(), LONG);
    for (message, case) in said.iter().zip(&right) {
        let said = message.json();
        assert_eq!(said["source"]["frame_id"], case.answer["id"], "a cycle is answered with its last sample");
        assert_classified(&said, &case.answer, 1e-4);
    }
    let labels: std::collections::BTreeSet<&str> =
        right.iter().filter_map(|case| case.answer["label"].as_str()).collect();
    assert!(labels.len() > 1, "a test on one class shows little: {labels:?}");
}

#[test]
fn hydraulic_cycles_streamed_as_json_get_onnxruntimes_scores_of_the_cooler() {
    cycles_of("hydraulic-cooler");
}

#[test]
fn hydraulic_cycles_streamed_as_json_get_onnxruntimes_scores_of_the_pump() {
    cycles_of("hydraulic-pump");
}

#[test]
fn the_nab_series_sample_by_sample_equals_one_run_over_the_sequence() {
    let Some(cases) = cases("series", "machine-temperature", "nab/machine_temperature_system_failure.csv")
    else {
        return;
    };
    let mut site = shipped();
    let daemon = site.run(&pipeline_with_ids("bearing", "machine-temperature", "bearing/frame"));
    for case in &cases {
        site.client.publish("bearing/frame", AtLeastOnce, case.payload.clone());
    }
    let last = cases.last().unwrap().answer["id"].as_str().unwrap();
    let frame_id = |said: &Value| said["source"]["frame_id"].as_str().unwrap_or_default().to_owned();
    site.client.wait_for(&result("bearing"), LONG, |message| frame_id(&message.json()) == last);
    let said: std::collections::BTreeMap<String, Value> = site
        .client
        .heard(&result("bearing"))
        .iter()
        .map(|message| (frame_id(&message.json()), message.json()))
        .collect();
    // The first frame has no forecast before it.
    assert!(
        said.len() >= cases.len() - 1,
        "{} answers to {} frames\n{}",
        said.len(),
        cases.len(),
        daemon.log()
    );
    for case in &cases[1..] {
        let (id, right) = (case.answer["id"].as_str().unwrap(), &case.answer);
        let said = said.get(id).unwrap_or_else(|| panic!("no answer to frame {id}"));
        for (name, theirs) in right["expected"].as_object().unwrap() {
            let (ours, theirs) =
                (said["expected"][name].as_f64().unwrap_or(f64::NAN), theirs.as_f64().unwrap());
            assert!((ours - theirs).abs() <= 2e-3, "frame {id}: {name} {ours}, onnxruntime {theirs}: {said}");
        }
        // How smoothing starts is the daemon's choice; after 300 frames nothing of it is left.
        if right["index"].as_u64() > Some(300) {
            let (ours, theirs) = (
                said["anomaly_score"].as_f64().unwrap_or(f64::NAN),
                right["anomaly_score"].as_f64().unwrap(),
            );
            assert!((ours - theirs).abs() <= 1e-3 * theirs.max(1.0), "frame {id}: {ours}, expected {theirs}");
        }
    }
}

#[test]
fn ai4i_rows_with_missing_readings_get_onnxruntimes_scores() {
    let Some(cases) = cases("rows", "machine-failure", "ai4i/ai4i2020.csv") else { return };
    let mut site = shipped();
    let _daemon = site.run(&pipeline_with_ids("mill", "machine-failure", "mill/frame"));
    for case in &cases {
        site.client.publish("mill/frame", AtLeastOnce, case.payload.clone());
    }
    let said = site.client.wait_count(&result("mill"), cases.len(), LONG);
    let by_id: std::collections::BTreeMap<String, &Value> =
        cases.iter().map(|case| (case.answer["id"].as_str().unwrap().to_owned(), &case.answer)).collect();
    let mut failing = 0;
    for message in &said {
        let said = message.json();
        let right = by_id[said["source"]["frame_id"].as_str().unwrap()];
        assert_classified(&said, right, 1e-4);
        failing += usize::from(said["verdict"] == "fail");
    }
    assert!(failing > 20 && failing < said.len(), "{failing} of {} fail", said.len());
}
