//! What people and machines see of a running daemon: logs, stats, metrics, health.
//!
//! Promise: all of it is made from one [`Snapshot`] of plain values, so that the retained `stats`
//! message, `/stats`, `/metrics` and the readiness page cannot contradict each other. Looking never
//! changes what is seen, never waits for a frame, and holds a bounded amount of memory.
//! Not here: counting (`base::counters`), and who fills the snapshot (`daemon`).

pub mod board;
pub mod date;
pub mod http;
pub mod latency;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod stats;

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::counters::{
    BadBytes, LineFault, LinkCounters, ModbusCounters, ModbusFault, PipelineCounters, PortCounters, WriteLoss,
};
use crate::base::{Reason, UnixMicros};

pub use board::BoardView;
pub use http::{Server, serve};
pub use latency::{Latencies, LatencyView, Part, Summary};
pub use memory::Memory;
pub use stats::stats_json;

/// A daemon at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// `[device] id`.
    pub device: String,
    /// Version of the daemon.
    pub version: String,
    /// The moment.
    pub at: UnixMicros,
    /// The board's date can be trusted.
    pub clock_synced: bool,
    /// Since the process began.
    pub uptime: Duration,
    /// Where it is between starting and having stopped.
    pub phase: Phase,
    /// `None`: frames are taken as ever.
    pub safe_mode: Option<SafeModeView>,
    /// Connections to brokers.
    pub links: Vec<LinkView>,
    /// Serial ports, in the order of the config.
    pub ports: Vec<PortView>,
    /// Predictions on their way out.
    pub outbox: OutboxView,
    /// In the order of the config.
    pub pipelines: Vec<PipelineView>,
    /// `None` where the system does not tell.
    pub memory: Option<Memory>,
    /// What we run on.
    pub board: BoardView,
}

/// Where a daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Models are being loaded and checked.
    Starting,
    /// Frames are taken.
    Running,
    /// No more frames are taken; those under way are finished.
    Stopping,
}

/// The board restarted over and over; it is given a rest before it takes load again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafeModeView {
    /// Boots in a row that were short.
    pub short_boots: u32,
    /// Until frames are taken.
    pub resumes_in: Duration,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// What it is for: `intake`, `publish`.
    pub name: String,
    /// Connected and, for intake, subscribed.
    pub up: bool,
    /// Connections that reached CONNACK.
    pub connects: u64,
    /// Connections lost, and attempts that failed.
    pub failures: u64,
    /// Frames on a topic that no pipeline asked for.
    pub unmatched: u64,
}

impl LinkView {
    /// Reads the counters of a link.
    pub fn of(name: &str, counters: &LinkCounters) -> Self {
        Self {
            name: name.into(),
            up: counters.up.load(Ordering::Relaxed) == 1,
            connects: counters.connects.get(),
            failures: counters.failures.get(),
            unmatched: counters.unmatched.get(),
        }
    }
}

/// One serial port; counts are since the process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// As configured.
    pub name: String,
    /// Open.
    pub up: bool,
    /// No frame has come for `stale_after_ms`.
    pub stalled: bool,
    /// Times that it was opened.
    pub opens: u64,
    /// Times that it could not be opened, and times that it went away.
    pub failures: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Frames that held their checksum.
    pub frames: u64,
    /// Frames missing, by their sequence numbers.
    pub sequence_lost: u64,
    /// Frames whose sequence number came twice.
    pub sequence_repeated: u64,
    /// Senders that began to count anew.
    pub sequence_restarts: u64,
    /// Frames that nobody asked for.
    pub unmatched: u64,
    /// What was no good frame, by kind.
    pub bad: Vec<(BadBytes, u64)>,
    /// What the driver counts, by kind.
    pub line: Vec<(LineFault, u64)>,
    /// Where Modbus is spoken.
    pub modbus: Option<ModbusView>,
}

/// One Modbus bus; counts are since the process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModbusView {
    /// Requests sent; as a listener: overheard.
    pub requests: u64,
    /// Good replies.
    pub replies: u64,
    /// Rounds over all registers.
    pub rounds: u64,
    /// Rounds that did not begin in time.
    pub rounds_skipped: u64,
    /// Values that a round went without.
    pub values_missing: u64,
    /// Bytes that belong to no reply.
    pub stray_bytes: u64,
    /// Requests without a good reply, by kind.
    pub faults: Vec<(ModbusFault, u64)>,
}

impl ModbusView {
    /// Reads the counters of a bus.
    pub fn of(counters: &ModbusCounters) -> Self {
        Self {
            requests: counters.requests.get(),
            replies: counters.replies.get(),
            rounds: counters.rounds.get(),
            rounds_skipped: counters.rounds_skipped.get(),
            values_missing: counters.values_missing.get(),
            stray_bytes: counters.stray_bytes.get(),
            faults: ModbusFault::ALL.iter().map(|kind| (*kind, counters.fault(*kind).get())).collect(),
        }
    }
}

impl PortView {
    /// Reads the counters of a port.
    pub fn of(name: &str, counters: &PortCounters, modbus: Option<&ModbusCounters>) -> Self {
        Self {
            name: name.into(),
            up: counters.up.load(Ordering::Relaxed) == 1,
            stalled: counters.stalled.load(Ordering::Relaxed) == 1,
            opens: counters.opens.get(),
            failures: counters.failures.get(),
            bytes: counters.bytes.get(),
            frames: counters.frames.get(),
            sequence_lost: counters.sequence_lost.get(),
            sequence_repeated: counters.sequence_repeated.get(),
            sequence_restarts: counters.sequence_restarts.get(),
            unmatched: counters.unmatched.get(),
            bad: BadBytes::ALL.iter().map(|kind| (*kind, counters.bad(*kind).get())).collect(),
            line: LineFault::ALL.iter().map(|fault| (*fault, counters.line(*fault).get())).collect(),
            modbus: modbus.map(ModbusView::of),
        }
    }
}

/// The durable queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxView {
    /// Predictions that wait for their acknowledgement.
    pub depth_predictions: u64,
    /// Their bytes.
    pub bytes: u64,
    /// `[outbox] max_bytes`.
    pub max_bytes: u64,
    /// The part of them on disk.
    pub disk: DiskView,
}

/// The disk under the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskView {
    /// `ready`, `full`, `failing`, `absent`.
    pub state: &'static str,
    /// Predictions on disk, those of earlier processes included.
    pub depth_predictions: u64,
    /// Bytes of the files that hold them.
    pub bytes: u64,
    /// Predictions written since the start.
    pub written_predictions: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Groups made safe since the start.
    pub syncs: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Bytes that could not be read as predictions.
    pub damaged_bytes: u64,
    /// Predictions dropped to make room whose pipeline is not of this configuration.
    pub dropped_unnamed: u64,
}

/// The model of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelView {
    /// Its folder's name.
    pub name: String,
    /// Version of its weights.
    pub version: String,
}

/// Frames that wait for a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// How many.
    pub depth_frames: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// One pipeline; counts are since the process began.
#[derive(Clone, Debug)]
pub struct PipelineView {
    /// `[[pipeline]] name`.
    pub name: String,
    /// What decides.
    pub model: ModelView,
    /// Frames taken from the source, refused ones included.
    pub frames: u64,
    /// Bytes of those frames.
    pub frame_bytes: u64,
    /// Frames that the transport marked as delivered before.
    pub redelivered: u64,
    /// Frames that filled a window or a state and wanted no prediction of their own.
    pub absorbed: u64,
    /// Predictions made.
    pub predictions: u64,
    /// Predictions acknowledged.
    pub settled: u64,
    /// Predictions sent a second time.
    pub resent: u64,
    /// Windows or states dropped because too many sources spoke.
    pub sources_evicted: u64,
    /// Windows begun anew because of a gap in time.
    pub gaps: u64,
    /// Verdicts written to a port.
    pub written_back: u64,
    /// Verdicts that were not, for every reason.
    pub write_lost: Vec<(WriteLoss, u64)>,
    /// Frames without a prediction, for every reason.
    pub lost: Vec<(Reason, u64)>,
    /// Frames that wait.
    pub queue: QueueView,
    /// Time spent.
    pub latency: LatencyView,
}

impl PipelineView {
    /// Reads the counters of a pipeline.
    pub fn of(
        name: &str,
        model: ModelView,
        counters: &PipelineCounters,
        queue: QueueView,
        latency: LatencyView,
    ) -> Self {
        Self {
            name: name.into(),
            model,
            frames: counters.frames.get(),
            frame_bytes: counters.frame_bytes.get(),
            redelivered: counters.redelivered.get(),
            absorbed: counters.absorbed.get(),
            predictions: counters.predictions.get(),
            settled: counters.settled.get(),
            resent: counters.resent.get(),
            sources_evicted: counters.sources_evicted.get(),
            gaps: counters.gaps.get(),
            written_back: counters.written_back.get(),
            write_lost: WriteLoss::ALL.iter().map(|why| (*why, counters.write_lost(*why).get())).collect(),
            lost: Reason::ALL.iter().map(|reason| (*reason, counters.lost(*reason).get())).collect(),
            queue,
            latency,
        }
    }

    /// All frames without a prediction.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }
}

impl Snapshot {
    /// What keeps the daemon from answering frames, in words; empty: it is ready.
    pub fn not_ready(&self) -> Vec<String> {
        let phase = match self.phase {
            Phase::Starting => Some("models are being loaded and checked".into()),
            Phase::Running => None,
            Phase::Stopping => Some("the daemon is stopping".into()),
        };
        let safe_mode = self.safe_mode.map(|mode| {
            format!(
                "safe mode after {} short boots in a row; frames are taken in {} s",
                mode.short_boots,
                mode.resumes_in.as_secs()
            )
        });
        let down = self.links.iter().filter(|link| !link.up);
        let closed = self.ports.iter().filter(|port| !port.up);
        phase
            .into_iter()
            .chain(safe_mode)
            .chain(down.map(|link| format!("link `{}` to the broker is down", link.name)))
            .chain(closed.map(|port| format!("port {} is not open", port.name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Latency;

    /// A daemon with two pipelines, one of them yet without a frame.
    pub(super) fn snapshot() -> Snapshot {
        let counters = PipelineCounters::default();
        counters.frames.add(1000);
        counters.frame_bytes.add(64_000);
        counters.predictions.add(990);
        counters.settled.add(985);
        counters.resent.add(3);
        counters.lost(Reason::Malformed).add(7);
        counters.lost(Reason::Stale).add(3);
        let latencies = Latencies::new();
        for i in 1..=100 {
            latencies.record(&Latency {
                queue_us: i,
                decode_us: 2 * i,
                featurize_us: 5,
                infer_us: 1000,
                total_us: 2000 + i,
            });
        }
        latencies.rotate();
        let model = |name: &str| ModelView { name: name.into(), version: "1.2.0".into() };
        let queue = QueueView { depth_frames: 4, bytes: 4096 };
        let link = LinkCounters::default();
        link.connects.bump();
        link.up.store(1, Ordering::Relaxed);
        let port = PortCounters::default();
        port.up.store(1, Ordering::Relaxed);
        port.frames.add(1000);
        port.bad(BadBytes::Checksum).add(2);
        Snapshot {
            device: "press-07".into(),
            version: "0.1.0".into(),
            at: UnixMicros(1_709_251_199_000_001),
            clock_synced: true,
            uptime: Duration::from_millis(61_500),
            phase: Phase::Running,
            safe_mode: None,
            links: vec![LinkView::of("intake", &link), LinkView::of("publish", &link)],
            ports: vec![PortView::of("/dev/ttyUSB0", &port, Some(&ModbusCounters::default()))],
            outbox: OutboxView {
                depth_predictions: 5,
                bytes: 2500,
                max_bytes: 1 << 26,
                disk: DiskView {
                    state: "ready",
                    depth_predictions: 3,
                    bytes: 1500,
                    written_predictions: 7,
                    written_bytes: 3500,
                    syncs: 2,
                    ..DiskView::default()
                },
            },
            pipelines: vec![
                PipelineView::of("screw", model("pitting"), &counters, queue, latencies.view()),
                PipelineView::of(
                    "an \"odd\" one",
                    model("cooler"),
                    &PipelineCounters::default(),
                    QueueView::default(),
                    Latencies::new().view(),
                ),
            ],
            memory: Some(Memory { resident_bytes: 30_000_000, peak_bytes: 40_000_000 }),
            board: BoardView {
                temperature_celsius: Some(51.5),
                throttled: Some(false),
                memory_available_bytes: Some(300_000_000),
                disk_free_bytes: Some(12_000_000_000),
            },
        }
    }

    #[test]
    fn readiness_names_all_that_is_missing() {
        let mut snapshot = snapshot();
        assert_eq!(snapshot.not_ready(), Vec::<String>::new());
        snapshot.phase = Phase::Starting;
        snapshot.links[1].up = false;
        assert_eq!(
            snapshot.not_ready(),
            ["models are being loaded and checked", "link `publish` to the broker is down"]
        );
        let resumes_in = Duration::from_secs(29);
        let safe_mode = Some(SafeModeView { short_boots: 3, resumes_in });
        assert_eq!(
            Snapshot { safe_mode, ..tests::snapshot() }.not_ready(),
            ["safe mode after 3 short boots in a row; frames are taken in 29 s"]
        );
    }

    #[test]
    fn a_view_says_what_the_counters_say() {
        let snapshot = snapshot();
        let [busy, idle] = &snapshot.pipelines[..] else { panic!("two pipelines") };
        assert_eq!((busy.frames, busy.predictions, busy.lost_total()), (1000, 990, 10));
        assert_eq!((idle.frames, idle.lost_total()), (0, 0));
        assert!(snapshot.links.iter().all(|link| link.up && link.connects == 1));
    }
}
