//! The two sources of the demo, each a thread with a client of its own: a camera over the belt and a
//! machine's controller.
//!
//! Promise: each frame is announced to the board before it is published, frames go out at the asked
//! pace, and never more than a window of them is unanswered: a slow device slows the line down and
//! loses nothing. The pace that was reached is in the summary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::judge::{Board, Judge, Stream};
use super::peer::{PeerError, Speaker};
use super::render::Line;
use super::sensor::Machine;
use crate::base::Clock;
use crate::base::clock::SystemClock;

/// As a machine-vision camera would be set: good, and a tenth of the raw size.
const JPEG_QUALITY: u8 = 90;
/// How often a waiting line looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// What both sources need.
#[derive(Clone)]
pub struct Orders {
    /// Loopback port of the broker.
    pub port: u16,
    /// Frames to publish.
    pub frames: u64,
    /// Between two of them; zero: as fast as they are answered.
    pub period: Duration,
    /// Where they are announced.
    pub board: Arc<Board>,
    /// Ends the line early.
    pub stop: Arc<AtomicBool>,
}

/// Renders and publishes parts. `keep`: the board gets the pictures as well.
pub fn run_camera(orders: &Orders, line: &Line, keep: bool) -> Result<(), PeerError> {
    run(orders, Stream::Inspection, "demo-camera", |index| {
        let part = line.part(index);
        let (truth, jpeg) = (part.truth.label(), part.jpeg(JPEG_QUALITY));
        let part = keep.then(|| Arc::new(part));
        (format!("camera/{index:06}/frame"), jpeg, move |judge: &mut Judge| {
            judge.sent(SystemClock.now(), Stream::Inspection, index, truth, part);
        })
    })
}

/// Publishes a machine's readings.
pub fn run_machine(orders: &Orders, mut machine: Machine) -> Result<(), PeerError> {
    run(orders, Stream::Machine, "demo-machine", |index| {
        let reading = machine.reading(&format!("{index:06}"));
        ("machine/mill-1/state".to_owned(), reading.json.into_bytes(), move |judge: &mut Judge| {
            judge.sent(SystemClock.now(), Stream::Machine, index, reading.truth, None);
        })
    })
}

fn run<A: FnOnce(&mut Judge)>(
    orders: &Orders,
    stream: Stream,
    client: &'static str,
    mut frame: impl FnMut(u64) -> (String, Vec<u8>, A),
) -> Result<(), PeerError> {
    let mut speaker = Speaker::start(client, orders.port)?;
    let mut due = Instant::now();
    for index in 0..orders.frames {
        let (topic, payload, announce) = frame(index);
        if !wait(orders, stream, due) {
            break;
        }
        // Late (rendering, or waiting for answers): the belt goes on from now, without a burst.
        due = due.max(Instant::now().checked_sub(orders.period).unwrap_or(due)) + orders.period;
        orders.board.with(announce);
        speaker.publish(topic, payload)?;
    }
    speaker.finish()
}

/// Until the frame is due and has room; `false`: the line is to stop.
fn wait(orders: &Orders, stream: Stream, due: Instant) -> bool {
    loop {
        if orders.stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left.min(GLANCE));
        } else if orders.board.wait_room(stream, GLANCE) {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::broker;
    use crate::demo::peer::Listener;

    /// Answers every reading with the truth, as a daemon would.
    fn echo(port: u16, board: Arc<Board>) -> Listener {
        let hear = move |_: &str, payload: &bytes::Bytes| {
            let reading: serde_json::Value = serde_json::from_slice(payload).unwrap();
            let answer = serde_json::json!({
                "schema": "lineside.prediction/1", "pipeline": "machine", "verdict": "pass", "label": "ok",
                "source": {"topic": "x", "frame_id": reading["id"]},
            });
            board.with(|judge| judge.heard(SystemClock.now(), "a/result", answer.to_string().as_bytes()));
        };
        Listener::start("demo-echo", port, &["machine/+/state"], hear, |why| panic!("{why}")).unwrap()
    }

    fn orders(frames: u64, period: Duration) -> Orders {
        let port = broker::start().unwrap();
        Orders { port, frames, period, board: Arc::default(), stop: Arc::default() }
    }

    #[test]
    fn a_line_without_a_pace_runs_as_fast_as_it_is_answered_and_in_full() {
        let orders = orders(400, Duration::ZERO);
        let ear = echo(orders.port, orders.board.clone());
        run_machine(&orders, Machine::new(1)).unwrap();
        orders.board.wait_settled(Duration::from_secs(10));
        let standing = orders.board.standing(SystemClock.now());
        assert_eq!((standing.scores[1].sent, standing.scores[1].answered), (400, 400));
        assert_eq!((standing.waiting, standing.problems.len()), (0, 0));
        ear.finish();
    }

    #[test]
    fn a_pace_is_kept() {
        let orders = orders(40, Duration::from_millis(10));
        let ear = echo(orders.port, orders.board.clone());
        let started = Instant::now();
        run_machine(&orders, Machine::new(1)).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(385), "{:?}", started.elapsed());
        ear.finish();
    }

    #[test]
    fn nobody_answers_so_the_line_stands_still_until_it_is_stopped() {
        let orders = orders(1_000, Duration::ZERO);
        let stop = orders.stop.clone();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
        });
        run_machine(&orders, Machine::new(1)).unwrap();
        stopper.join().unwrap();
        let standing = orders.board.standing(SystemClock.now());
        assert_eq!(standing.waiting, crate::demo::judge::WINDOW);
    }
}
