//! `lineside demo`: a whole production line on one machine, with nothing to install.
//!
//! ```text
//!  line: camera ──► broker (rumqttd, loopback) ─┐
//!  line: machine ─► wire (a pty) ───────────────┴─► daemon ─► broker ─► judge: right? how fast? all?
//!        an MQTT client; a firmware's codec     the very code of `run`    table, summary, pictures
//! ```
//!
//! Promise: the daemon is the one of `lineside run`, with a config that a person could write
//! ([`CONFIG`]) and models from `models/`; all that joins it to line and judge is MQTT and a serial port.
//! Truth is known to the judge alone. A demo is complete only if every frame has its prediction.
//!
//! - [`broker`]: an MQTT broker in this process
//! - [`peer`]: ordinary clients of it
//! - [`wire`]: a serial line without a cable
//! - [`render`]: parts as a camera sees them; [`sensor`]: a machine's readings; [`line`](mod@line): both,
//!   sent at a pace
//! - [`judge`]: what was sent, what came back
//! - [`site`]: config and models in a folder of their own
//! - [`table`], [`summary`], [`picture`], [`font`]: what people see
//!
//! Not here: terminals, flags and exit codes (`cli::demo`).

pub mod broker;
pub mod font;
pub mod judge;
pub mod line;
pub mod peer;
pub mod picture;
pub mod render;
pub mod sensor;
pub mod site;
pub mod summary;
pub mod table;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::base::Clock;
use crate::base::clock::SystemClock;
use crate::daemon::{BootError, Daemon};
use judge::{Answer, Board, Standing};
use line::{LineError, Orders};
use peer::{Listener, PeerError};
pub use site::CONFIG;
pub use summary::Summary;
use table::Heading;
use wire::Wire;

/// One frame in so many is a reading of the machine; the others are pictures.
const MACHINE_ONE_IN: u64 = 6;
/// From start to `online`: models are loaded by then, so this is a connection on loopback.
const ONLINE_WITHIN: Duration = Duration::from_secs(20);
/// A frame that is not answered within this never will be: nothing else is going on by then.
const QUIET_AT_MOST: Duration = Duration::from_secs(15);
/// How often the table is drawn.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pictures that wait to be written; more make the judge wait and with it the line.
const PICTURES_WAITING: usize = 16;

/// What to show.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Frames altogether, at least 1.
    pub frames: u64,
    /// Parts a second; `None`: as fast as they are answered.
    pub rate_per_s: Option<f64>,
    /// Of line and machine; not one of [`render::TRAINING_SEEDS`].
    pub seed: u64,
    /// Bad parts in a thousand.
    pub defects_per_mille: u32,
    /// Where annotated pictures go.
    pub save: Option<PathBuf>,
}

/// Why a demo could not be held. Frames without an answer are no error but a [`Summary`] that is not
/// complete.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No broker.
    #[error(transparent)]
    Broker(#[from] broker::BrokerError),
    /// No folder, or a config that does not hold.
    #[error(transparent)]
    Site(#[from] site::SiteError),
    /// The daemon refuses its config or models.
    #[error("the demo's daemon does not start")]
    Boot(#[source] BootError),
    /// The daemon never said `online`.
    #[error("the demo's daemon was not online within {} s", ONLINE_WITHIN.as_secs())]
    Offline,
    /// The judge's client lost the broker.
    #[error(transparent)]
    Judge(#[from] PeerError),
    /// The system gives no pty.
    #[error("cannot make the demo's serial line, a pseudo terminal")]
    Wire(#[source] std::io::Error),
    /// A source lost what it sends to.
    #[error(transparent)]
    Line(#[from] LineError),
    /// No place for pictures.
    #[error(transparent)]
    Save(#[from] picture::SaveError),
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A thread of the demo panicked: a mistake of ours.
    #[error("the demo's {0} thread ended by a panic")]
    Panicked(&'static str),
}

/// Holds a demo. `watch` is shown the standing several times a second, and once before the first frame;
/// `stop` ends the line early, after which every frame sent is still waited for.
pub fn run(
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    mut watch: impl FnMut(&Heading, &Standing),
) -> Result<Summary, DemoError> {
    let gallery = settings.save.clone().map(|folder| Gallery::open(folder, settings.seed)).transpose()?;
    let site = site::Site::unpack()?;
    // Until the daemon has stopped: a line that is hung up takes with it what was not read yet.
    let wire = Arc::new(Wire::open().map_err(DemoError::Wire)?);
    let port = broker::start()?;
    let heading = Heading { seed: settings.seed, port, frames: settings.frames };
    let board = Arc::new(Board::default());
    let listener = listen(port, board.clone(), gallery.as_ref().map(|gallery| gallery.inbox.clone()))?;
    let daemon = Daemon::start(site.config(port, wire.path())?).map_err(DemoError::Boot)?;
    if !board.wait_online(ONLINE_WITHIN) {
        daemon.stop();
        return Err(DemoError::Offline);
    }
    watch(&heading, &board.standing(SystemClock.now()));

    let producers = start_line(settings, port, &wire, &board, stop)?;
    observe(&heading, &board, stop, &producers, &mut watch);
    // A line that waits for answers that will not come is told to end.
    stop.store(true, Ordering::Relaxed);
    let ended = producers.into_iter().map(Producer::join).collect::<Result<Vec<()>, _>>();
    let late_threads = daemon.stop();
    // Only after the daemon's stop: it sends what is left in its outbox.
    let standing = board.standing(SystemClock.now());
    watch(&heading, &standing);
    listener.finish();
    gallery.map_or(Ok(()), Gallery::close)?;
    ended?;
    Ok(Summary { seed: settings.seed, asked: settings.frames, standing, late_threads })
}

/// Watches until all is answered, or nothing happens any more.
fn observe(
    heading: &Heading,
    board: &Board,
    stop: &AtomicBool,
    producers: &[Producer],
    watch: &mut impl FnMut(&Heading, &Standing),
) {
    loop {
        std::thread::sleep(LOOK_EVERY);
        let standing = board.standing(SystemClock.now());
        watch(heading, &standing);
        let all_sent = producers.iter().all(|producer| producer.thread.is_finished());
        let stuck = standing.waiting > 0 && standing.quiet > QUIET_AT_MOST;
        if (all_sent && standing.waiting == 0) || stuck || !standing.problems.is_empty() {
            return;
        }
        // A producer that failed will say so when it is joined; the others need not go on.
        if producers.iter().any(|producer| producer.thread.is_finished() && !producer.is_well()) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

fn listen(port: u16, board: Arc<Board>, gallery: Option<SyncSender<Answer>>) -> Result<Listener, PeerError> {
    let filters = ["lineside/demo/availability", "lineside/demo/+/result", "lineside/demo/+/error"];
    let lost = {
        let board = board.clone();
        move |why| board.with(|judge| judge.problem(format!("the judge lost the broker: {why}")))
    };
    let hear = move |topic: &str, payload: &bytes::Bytes| {
        let answer = board.with(|judge| judge.heard(SystemClock.now(), topic, payload));
        if let (Some(answer), Some(gallery)) = (answer, &gallery) {
            // A gallery that has failed says why at its end.
            let _ = gallery.send(answer);
        }
    };
    Listener::start("demo-judge", port, &filters, hear, lost)
}

struct Producer {
    name: &'static str,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), LineError>>,
}

impl Producer {
    fn start(
        name: &'static str,
        work: impl FnOnce() -> Result<(), LineError> + Send + 'static,
    ) -> Result<Self, DemoError> {
        let failed = Arc::new(AtomicBool::new(false));
        let flag = failed.clone();
        let work = move || {
            let done = work();
            flag.store(done.is_err(), Ordering::Relaxed);
            done
        };
        let thread = Builder::new().name(name.into()).spawn(work).map_err(DemoError::Thread)?;
        Ok(Self { name, failed, thread })
    }

    fn is_well(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    fn join(self) -> Result<(), DemoError> {
        self.thread.join().map_err(|_| DemoError::Panicked(self.name))?.map_err(DemoError::Line)
    }
}

fn start_line(
    settings: &Settings,
    port: u16,
    wire: &Arc<Wire>,
    board: &Arc<Board>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Producer>, DemoError> {
    let readings = settings.frames / MACHINE_ONE_IN;
    let period = settings.rate_per_s.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
    let camera =
        Orders { frames: settings.frames - readings, period, board: board.clone(), stop: stop.clone() };
    // So that both end at about the same time.
    let machine = Orders { frames: readings, period: period * (MACHINE_ONE_IN as u32 - 1), ..camera.clone() };
    let line = render::Line::new(settings.seed, settings.defects_per_mille);
    let keep = settings.save.is_some();
    let (mill, wire) = (sensor::Machine::new(settings.seed), wire.clone());
    Ok(vec![
        Producer::start("camera", move || line::run_camera(&camera, port, &line, keep))?,
        Producer::start("machine", move || line::run_machine(&machine, mill, &mut &*wire))?,
    ])
}

/// Writes annotated pictures beside the demo, so that a slow disk does not delay the judge's clock.
struct Gallery {
    inbox: SyncSender<Answer>,
    thread: JoinHandle<Result<(), picture::SaveError>>,
}

impl Gallery {
    fn open(folder: PathBuf, seed: u64) -> Result<Self, DemoError> {
        picture::prepare(&folder)?;
        let (inbox, answers): (_, Receiver<Answer>) = sync_channel(PICTURES_WAITING);
        let write = move || answers.iter().try_for_each(|answer| picture::save(&folder, seed, &answer));
        let thread = Builder::new().name("gallery".into()).spawn(write).map_err(DemoError::Thread)?;
        Ok(Self { inbox, thread })
    }

    /// After the listener: its sender is gone by then.
    fn close(self) -> Result<(), DemoError> {
        drop(self.inbox);
        self.thread.join().map_err(|_| DemoError::Panicked("gallery"))?.map_err(DemoError::Save)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(frames: u64) -> Settings {
        Settings { frames, rate_per_s: None, seed: 20_260_711, defects_per_mille: 400, save: None }
    }

    #[test]
    fn every_frame_of_a_small_line_is_answered_and_nearly_all_rightly() {
        let pictures = tempfile::tempdir().unwrap();
        let settings = Settings { save: Some(pictures.path().join("parts")), ..settings(60) };
        let mut looks = Vec::new();
        let summary =
            run(&settings, &Arc::default(), |_, standing| looks.push(standing.sum(|score| score.sent)));
        let summary = summary.unwrap();
        assert!(summary.is_complete(), "{:?}", summary.complaints());
        let standing = &summary.standing;
        assert_eq!(standing.scores.each_ref().map(|score| score.answered), [50, 10]);
        assert_eq!(standing.sum(|score| score.duplicates), 0);
        assert!(standing.accuracy() >= Some(0.95), "{:?}", standing.mistakes);
        assert!(standing.scores[0].verdicts[1] > 10, "400 of 1000 parts are bad");
        assert_eq!(std::fs::read_dir(pictures.path().join("parts")).unwrap().count(), 50);
        assert_eq!((looks.first(), looks.last()), (Some(&0), Some(&60)));
    }

    #[test]
    fn a_line_that_is_stopped_has_all_its_frames_answered() {
        let stop = Arc::new(AtomicBool::new(false));
        let summary = run(&settings(1_000_000), &stop, |_, standing| {
            stop.store(standing.sum(|score| score.sent) > 20, Ordering::Relaxed);
        });
        let summary = summary.unwrap();
        let sent = summary.standing.sum(|score| score.sent);
        assert!((20..100_000).contains(&sent), "{sent}");
        assert_eq!(summary.complaints(), [format!("stopped after {sent} of 1000000 frames")]);
    }

    #[test]
    fn a_folder_for_pictures_that_cannot_be_is_found_before_anything_starts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = Settings { save: Some(file.path().join("parts")), ..settings(1) };
        let error = run(&settings, &Arc::default(), |_, _| panic!("nothing is to be seen")).unwrap_err();
        assert!(matches!(error, DemoError::Save(_)), "{error}");
    }
}
