//! Does memory grow with frames? Resident memory after 1,000 and after 100,000 frames: nine JSON rows
//! to each picture, with a refused frame in every hundred, so that error paths are walked too.
//!
//!     cargo bench --bench memory -- --frames 100000

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::load::{Listener, Sender};
use common::support::pictures::jpeg;
use common::support::shipped_models;
use common::support::site::{DEVICE, Site, pipeline, pipeline_with_ids};
use common::{Bound, Figure, report, setting};

/// Frames under way at once: fewer than the pipelines' queues hold.
const UNDER_WAY: usize = 32;

fn main() -> ExitCode {
    let frames: usize = setting("frames", 100_000);
    let site = Site::new(&[]);
    std::fs::remove_dir(site.models()).expect("it was made empty");
    std::os::unix::fs::symlink(shipped_models(), site.models()).expect("the temporary folder is writable");
    let daemon = site.run(
        &(pipeline_with_ids("mill", "machine-failure", "mill/frame")
            + &pipeline("screw", "surface-pitting", "camera/{camera}/frame", "image")),
    );
    let mut sender = Sender::connect(site.broker.port, "sender", 1);
    let answers = Listener::connect(site.broker.port, "listener", &format!("lineside/{DEVICE}/+/+"));
    let pictures: Vec<Vec<u8>> =
        (0..16).map(|level| jpeg(64, 64, [level * 16, 128, 255 - level * 16])).collect();

    let begun = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    let mut after = [0; 2];
    for (mark, rss_kb) in [1_000, frames].into_iter().zip(&mut after) {
        while answered < mark {
            while sent < mark && sent - answered < UNDER_WAY {
                match sent % 100 {
                    50 => sender.publish("mill/frame", b"{\"type\":"),
                    n if n % 10 == 0 => {
                        sender.publish(&format!("camera/{}/frame", n / 10), &pictures[sent / 10 % 16])
                    }
                    n => sender.publish("mill/frame", row(sent, n).as_bytes()),
                }
                sent += 1;
            }
            sender.flush();
            answers.next(Duration::from_secs(20)).expect("every frame gets a prediction or an error");
            answered += 1;
        }
        // Once settled, so that frames under way do not count.
        std::thread::sleep(Duration::from_secs(2));
        *rss_kb = daemon.memory_kb("VmRSS");
    }
    let [early_kb, late_kb] = after.map(|kb| kb as f64);
    report(
        "memory",
        &[
            Figure { name: "frames", value: frames as f64, bound: Bound::None },
            Figure { name: "seconds", value: begun.elapsed().as_secs_f64(), bound: Bound::None },
            Figure { name: "rss_after_1000_mb", value: early_kb / 1024.0, bound: Bound::None },
            Figure { name: "rss_growth_mb", value: (late_kb - early_kb) / 1024.0, bound: Bound::Most(1.0) },
            Figure {
                name: "rss_peak_mb",
                value: daemon.memory_kb("VmHWM") as f64 / 1024.0,
                bound: Bound::None,
            },
        ],
    )
}

fn row(id: usize, n: usize) -> String {
    format!(
        "{{\"id\":\"{id}\",\"type\":{},\"air_temperature_k\":{},\"process_temperature_k\":310.5,\
         \"rotational_speed_rpm\":{},\"torque_nm\":{},\"tool_wear_min\":{}}}",
        n % 3,
        298 + n % 5,
        1300 + n * 4,
        30 + n % 30,
        n * 2
    )
}
