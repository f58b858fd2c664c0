//! What happened, counted: the single truth behind `stats`, metrics and the tests' assertions.
//!
//! Relaxed atomics: a counter is read for people, it orders nothing.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Reason;

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
    losses: [Counter; Reason::ALL.len()],
}

impl PipelineCounters {
    /// The counter of frames that got no prediction for `reason`.
    pub fn lost(&self, reason: Reason) -> &Counter {
        &self.losses[reason as usize]
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
