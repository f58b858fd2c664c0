//! How long after power-on is the line watched again? From the start of the process, with every
//! shipped model, to `online` (verified and subscribed) and to the first prediction, of a frame that
//! waited with the broker.
//!
//!     cargo bench --bench start -- --runs 10

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::support::daemon::Daemon;
use common::support::site::{AVAILABILITY, Site, pipeline, pipeline_with_ids, result};
use common::support::{SOON, shipped_models};
use common::{Bound, Figure, percentile, report, setting};
use rumqttc::QoS::AtLeastOnce;

const FRAME: &str = r#"{"id":"0","type":1,"air_temperature_k":300,"process_temperature_k":310,"rotational_speed_rpm":1500,"torque_nm":40,"tool_wear_min":100}"#;

/// One pipeline for each shipped model, with the payload that its card asks for.
fn every_model() -> (String, usize) {
    let mut text = String::new();
    let mut count = 0;
    for entry in std::fs::read_dir(shipped_models()).expect("the project ships models").flatten() {
        let Ok(card) = std::fs::read_to_string(entry.path().join("model.toml")) else { continue };
        let name = entry.file_name().into_string().expect("models have plain names");
        let image = card.lines().any(|line| line.split_whitespace().collect::<String>() == "kind=\"image\"");
        let topic = format!("{name}/frame");
        text += &if image {
            pipeline(&name, &name, &topic, "image")
        } else {
            pipeline_with_ids(&name, &name, &topic)
        };
        count += 1;
    }
    (text, count)
}

fn main() -> ExitCode {
    let runs: usize = setting("runs", 10);
    let mut site = Site::new(&[]);
    std::fs::remove_dir(site.models()).expect("it was made empty");
    std::os::unix::fs::symlink(shipped_models(), site.models()).expect("the temporary folder is writable");
    let (pipelines, models) = every_model();
    let config = site.configure(&pipelines);
    // The first start makes the session with the broker, and fills the page cache as a warm boot has it.
    drop(stopped(site.start(&config)));

    let (mut online_s, mut first_s) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        site.client.publish("machine-failure/frame", AtLeastOnce, FRAME);
        site.client.flush();
        site.client.forget();
        let begun = Instant::now();
        let daemon = Daemon::spawn(&config);
        site.client.wait_for(&result("machine-failure"), SOON, |_| true);
        first_s.push(begun.elapsed().as_secs_f64());
        site.client.wait_for(AVAILABILITY, SOON, |message| message.payload == b"online");
        online_s.push(begun.elapsed().as_secs_f64());
        stopped(daemon);
    }
    report(
        "start",
        &[
            Figure { name: "models", value: models as f64, bound: Bound::Least(5.0) },
            Figure { name: "online_p50_s", value: percentile(&online_s, 0.5), bound: Bound::None },
            Figure {
                name: "first_prediction_p50_s",
                value: percentile(&first_s, 0.5),
                bound: Bound::Most(0.5),
            },
            Figure { name: "first_prediction_worst_s", value: percentile(&first_s, 1.0), bound: Bound::None },
        ],
    )
}

fn stopped(mut daemon: Daemon) -> Daemon {
    let code = daemon.stop(Duration::from_secs(20));
    assert_eq!(code, Some(0), "{}", daemon.log());
    daemon
}
