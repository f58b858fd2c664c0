//! The two sources of the demo, each a thread of its own: a camera over the belt, which is an MQTT client,
//! and a machine's sensor on a serial line.
//!
//! Promise: each frame is announced to the board before it is sent, frames go out at the asked pace, and
//! never more than a window of them is unanswered: a slow device slows the line down and loses nothing.
//! The pace that was reached is in the summary.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::judge::{Board, Judge, Stream};
use super::peer::{PeerError, Speaker};
use super::render::Line;
use super::sensor::{CHANNELS, Machine, Reading, SCHEMA};
use crate::base::Clock;
use crate::base::clock::SystemClock;
use crate::stage::decode::framing::packet::{HEADER_BYTES, Header, SampleType};
use crate::stage::decode::framing::{Sum, cobs};

/// As a machine-vision camera would be set: good, and a tenth of the raw size.
const JPEG_QUALITY: u8 = 90;
/// How often a waiting line looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);
/// What guards the sensor's frames: `crc` of `demo.toml`.
const CRC: Sum<u16> = Sum::<u16>::new(&crc::CRC_16_IBM_3740);
const PACKET_BYTES: usize = HEADER_BYTES + 2 * CHANNELS;
/// The packet, its checksum, and what the framing adds.
const FRAME_BYTES: usize = cobs::encoded_bytes(PACKET_BYTES + 2);

/// What both sources need.
#[derive(Clone)]
pub struct Orders {
    /// Frames to send.
    pub frames: u64,
    /// Between two of them; zero: as fast as they are answered.
    pub period: Duration,
    /// Where they are announced.
    pub board: Arc<Board>,
    /// Ends the line early.
    pub stop: Arc<AtomicBool>,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The camera's client.
    #[error(transparent)]
    Camera(#[from] PeerError),
    /// The sensor's end of the serial line.
    #[error("the machine's sensor cannot write to its serial line")]
    Sensor(#[source] io::Error),
}

/// Renders parts and publishes them through the broker on `port`. `keep`: the board gets the pictures as
/// well.
pub fn run_camera(orders: &Orders, port: u16, line: &Line, keep: bool) -> Result<(), LineError> {
    let mut speaker = Speaker::start("demo-camera", port)?;
    let shoot = |index| {
        let part = line.part(index);
        let (truth, jpeg) = (part.truth.label(), part.jpeg(JPEG_QUALITY));
        let part = keep.then(|| Arc::new(part));
        let announce = move |judge: &mut Judge| {
            judge.sent(SystemClock.now(), Stream::Inspection, index, truth, part);
        };
        ((format!("camera/{index:06}/frame"), jpeg), announce)
    };
    run(orders, Stream::Inspection, shoot, |(topic, jpeg)| speaker.publish(topic, jpeg))?;
    Ok(speaker.finish()?)
}

/// Sends a machine's readings over `wire`, as a microcontroller would: a packet, its checksum, the framing.
pub fn run_machine(orders: &Orders, mut machine: Machine, wire: &mut impl Write) -> Result<(), LineError> {
    let switched_on = Instant::now();
    let read = |index: u64| {
        let Reading { numbers, truth } = machine.reading();
        let header = Header {
            samples: SampleType::I16,
            sensor: 1,
            schema: SCHEMA,
            // Both wrap, as on a microcontroller.
            sequence: index as u16,
            time_us: switched_on.elapsed().as_micros() as u32,
            channels: CHANNELS as u8,
        };
        let (mut packet, mut frame) = ([0; PACKET_BYTES], [0; FRAME_BYTES]);
        let bytes = header.write_i16(&numbers, &mut packet).expect("it has room for one reading");
        let bytes = cobs::encode(&packet[..bytes], &CRC, &mut frame).expect("it has room for one packet");
        let announce = move |judge: &mut Judge| {
            judge.sent(SystemClock.now(), Stream::Machine, index, truth, None);
        };
        ((frame, bytes), announce)
    };
    run(orders, Stream::Machine, read, |(frame, bytes)| wire.write_all(&frame[..bytes]))
        .map_err(LineError::Sensor)
}

fn run<F, A: FnOnce(&mut Judge), E>(
    orders: &Orders,
    stream: Stream,
    mut make: impl FnMut(u64) -> (F, A),
    mut send: impl FnMut(F) -> Result<(), E>,
) -> Result<(), E> {
    let mut due = Instant::now();
    for index in 0..orders.frames {
        let (frame, announce) = make(index);
        if !wait(orders, stream, due) {
            break;
        }
        // Late (rendering, or waiting for answers): the belt goes on from now, without a burst.
        due = due.max(Instant::now().checked_sub(orders.period).unwrap_or(due)) + orders.period;
        orders.board.with(announce);
        send(frame)?;
    }
    Ok(())
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
    use crate::stage::decode::framing::{Deframe, Step, packet};

    /// Answers every reading at once, as a daemon would.
    struct Echo {
        board: Arc<Board>,
        deframer: cobs::Deframer<Sum<u16>, [u8; 64]>,
    }

    impl Echo {
        fn new(board: &Arc<Board>) -> Self {
            Self { board: board.clone(), deframer: cobs::Deframer::new(CRC, [0; 64]) }
        }
    }

    impl Write for Echo {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut rest = bytes;
            loop {
                let body = match self.deframer.push(rest) {
                    Step::NeedMore => return Ok(bytes.len()),
                    Step::Bad { why, .. } => panic!("{why}"),
                    Step::Frame { body, rest: behind, .. } => {
                        rest = behind;
                        body
                    }
                };
                let (header, samples) = packet::split(body).unwrap();
                assert_eq!((header.channels, samples.len()), (6, 12));
                let answer = serde_json::json!({
                    "schema": "lineside.prediction/1", "pipeline": "machine", "verdict": "pass", "label": "ok",
                    "source": {"port": "x", "sequence": header.sequence},
                });
                let answer = answer.to_string().into_bytes();
                self.board.with(|judge| judge.heard(SystemClock.now(), "a/result", &answer));
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn orders(frames: u64, period: Duration) -> Orders {
        Orders { frames, period, board: Arc::default(), stop: Arc::default() }
    }

    #[test]
    fn a_line_without_a_pace_runs_as_fast_as_it_is_answered_and_in_full_across_the_wrap() {
        let orders = orders(66_000, Duration::ZERO);
        run_machine(&orders, Machine::new(1), &mut Echo::new(&orders.board)).unwrap();
        let standing = orders.board.standing(SystemClock.now());
        assert_eq!((standing.scores[1].sent, standing.scores[1].answered), (66_000, 66_000));
        assert_eq!((standing.waiting, standing.problems.len()), (0, 0));
    }

    #[test]
    fn a_pace_is_kept() {
        let orders = orders(40, Duration::from_millis(10));
        let started = Instant::now();
        run_machine(&orders, Machine::new(1), &mut Echo::new(&orders.board)).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(385), "{:?}", started.elapsed());
    }

    #[test]
    fn nobody_answers_so_the_line_stands_still_until_it_is_stopped() {
        let orders = orders(1_000, Duration::ZERO);
        let stop = orders.stop.clone();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
        });
        run_machine(&orders, Machine::new(1), &mut io::sink()).unwrap();
        stopper.join().unwrap();
        let standing = orders.board.standing(SystemClock.now());
        assert_eq!(standing.waiting, crate::demo::judge::WINDOW);
    }

    #[test]
    fn a_line_that_is_cut_is_an_error() {
        let mut nowhere: &mut [u8] = &mut [];
        let error = run_machine(&orders(1, Duration::ZERO), Machine::new(1), &mut nowhere).unwrap_err();
        assert!(error.to_string().contains("serial line"), "{error}");
    }
}
