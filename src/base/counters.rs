//! What happened, counted: the single truth behind `stats`, metrics and the tests' assertions.
//!
//! Relaxed atomics: a counter is read for people, it orders nothing.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Reason;
pub use modbus::{ModbusCounters, ModbusFault};
pub use write_back::WriteLoss;

mod modbus;
mod write_back;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn bump(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// `n` less, down to zero: what is only estimated may be taken away twice.
    pub fn take(&self, n: u64) {
        let less = |now: u64| Some(now.saturating_sub(n));
        // The update never refuses.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Looked up anew.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// As it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of one pipeline, from taking a frame to its settlement.
#[derive(Debug, Default)]
pub struct PipelineCounters {
    /// Frames taken from the source, refused ones included.
    pub frames: Counter,
    /// Bytes of those frames.
    pub frame_bytes: Counter,
    /// Frames that the transport marked as delivered before.
    pub redelivered: Counter,
    /// Frames that filled a window or a state and wanted no prediction of their own.
    pub absorbed: Counter,
    /// Predictions made.
    pub predictions: Counter,
    /// Predictions acknowledged by the broker (at QoS 0: handed to the network).
    pub settled: Counter,
    /// Predictions sent a second time because no acknowledgement came.
    pub resent: Counter,
    /// Windows or recurrent states dropped because more sources than `max_sources` spoke.
    pub sources_evicted: Counter,
    /// Windows begun anew because of a gap in time.
    pub gaps: Counter,
    /// Verdicts written to a port; where the other side confirms: confirmed.
    pub written_back: Counter,
    write_losses: [Counter; WriteLoss::ALL.len()],
    losses: [Counter; Reason::ALL.len()],
}

impl PipelineCounters {
    /// The counter of frames that got no prediction for `reason`.
    pub fn lost(&self, reason: Reason) -> &Counter {
        &self.losses[reason as usize]
    }

    /// The counter of verdicts that were not written to a port for this reason.
    pub fn write_lost(&self, why: WriteLoss) -> &Counter {
        &self.write_losses[why as usize]
    }

    /// All frames without a prediction.
    pub fn lost_total(&self) -> u64 {
        self.losses.iter().map(Counter::get).sum()
    }
}

/// Counters of one broker connection.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Connections that reached CONNACK.
    pub connects: Counter,
    /// Connections lost, and attempts that failed.
    pub failures: Counter,
    /// Frames that arrived on a topic that no pipeline asked for.
    pub unmatched: Counter,
    /// Turns of its loop: a sign of life.
    pub turns: Counter,
    /// 1 while connected and, for intake, subscribed; else 0.
    pub up: AtomicU64,
}

/// Counters of one serial port.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Times that it was opened.
    pub opens: Counter,
    /// Times that it could not be opened, and times that it went away.
    pub failures: Counter,
    /// Bytes read.
    pub bytes: Counter,
    /// Frames that held their checksum.
    pub frames: Counter,
    /// Frames missing, by their sequence numbers.
    pub sequence_lost: Counter,
    /// Frames whose sequence number came twice.
    pub sequence_repeated: Counter,
    /// Senders that began to count anew.
    pub sequence_restarts: Counter,
    /// Frames that nobody asked for: of a sensor that no pipeline names.
    pub unmatched: Counter,
    bad: [Counter; BadBytes::ALL.len()],
    line: [Counter; LineFault::ALL.len()],
    /// 1 while open; else 0.
    pub up: AtomicU64,
    /// 1 while no frame has come for `stale_after_ms`; else 0.
    pub stalled: AtomicU64,
}

impl PortCounters {
    /// The counter of bytes or frames that were not usable.
    pub fn bad(&self, kind: BadBytes) -> &Counter {
        &self.bad[kind as usize]
    }

    /// The counter of what the driver tells.
    pub fn line(&self, fault: LineFault) -> &Counter {
        &self.line[fault as usize]
    }

    /// All frames that were not usable.
    pub fn bad_frames(&self) -> u64 {
        BadBytes::ALL.iter().filter(|kind| **kind != BadBytes::Stray).map(|kind| self.bad(*kind).get()).sum()
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// Name in `stats` and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// What came over a wire and is no good frame.
    BadBytes {
        /// Frames whose checksum does not hold.
        Checksum = "checksum",
        /// Frames that break the rules of their framing, or break off.
        Malformed = "malformed",
        /// Frames longer than `max_frame_bytes`.
        Overlong = "overlong",
        /// Frames too short for checksum, sequence number or packet header.
        Short = "short",
        /// Bytes outside of any frame; counted in bytes.
        Stray = "stray_bytes",
    }
}

named! {
    /// What a serial driver counts.
    LineFault {
        /// A stop bit that was none.
        Framing = "framing",
        /// A parity bit that does not fit.
        Parity = "parity",
        /// Bytes that the hardware lost because nobody fetched them in time.
        Overrun = "overrun",
        /// Bytes that the kernel lost because we did not read in time.
        BufferOverrun = "buffer_overrun",
        /// The line held at 0 for longer than a character.
        Break = "break",
    }
}
