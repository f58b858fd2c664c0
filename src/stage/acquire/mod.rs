//! World to bytes: a frame is taken, named and queued, with the ticket that settles it.
//!
//! Promise: whatever a source took is either in a lane, or counted and settled. A new kind of source
//! is one file here and one line below.
//! Not here: what the bytes mean (`decode`).

pub mod identity;
pub mod memory;
pub mod mqtt;
pub mod serial;
mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::counters::PipelineCounters;
use crate::base::{Frame, Reason};
use crate::flow::{Lanes, Pushed, Ticket};
use crate::mqtt::wire::LONGEST_PROPERTIES;

/// A frame on its way to a worker.
#[derive(Debug)]
pub struct Arrival {
    /// The frame; without its payload when that was refused.
    pub frame: Frame,
    /// Set when the payload was too large to be held.
    pub too_large: Option<TooLarge>,
    /// Settles the frame with its source.
    pub ticket: Ticket,
}

/// What was not held of a frame, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// A payload over `max_payload_bytes`.
    #[error("the payload has {bytes} bytes; max_payload_bytes of this pipeline's source is {limit}")]
    Payload {
        /// Bytes that came.
        bytes: usize,
        /// Bytes that are taken.
        limit: usize,
    },
    /// MQTT 5: more beside the payload than is carried along.
    #[error("the frame has {bytes} bytes of properties; at most {LONGEST_PROPERTIES} are taken")]
    Properties {
        /// Bytes that came.
        bytes: usize,
        /// Bytes of the payload that came with them.
        payload_bytes: usize,
    },
}

impl TooLarge {
    /// Bytes of the frame's payload.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Payload { bytes, .. } => *bytes,
            Self::Properties { payload_bytes, .. } => *payload_bytes,
        }
    }
}

/// Book-keeping for an arrival beside its payload: what it counts for in a lane's bytes.
const OVERHEAD_BYTES: usize = size_of::<Arrival>();

/// Where sources put frames: the lanes, with counting.
pub struct Intake {
    lanes: Arc<Lanes<Arrival>>,
    counters: Vec<Arc<PipelineCounters>>,
    stopping: AtomicBool,
}

impl Intake {
    /// `counters` in the order of the pipelines, as the lanes are.
    pub fn new(lanes: Arc<Lanes<Arrival>>, counters: Vec<Arc<PipelineCounters>>) -> Self {
        Self { lanes, counters, stopping: AtomicBool::new(false) }
    }

    /// A frame came for `pipeline`: count it. Once a frame, before it is pushed.
    pub fn count(&self, pipeline: usize, bytes: usize, redelivered: bool) {
        let counters = &self.counters[pipeline];
        counters.frames.bump();
        counters.frame_bytes.add(bytes as u64);
        counters.redelivered.add(u64::from(redelivered));
    }

    /// A frame came again that is being answered, or has been: count that.
    pub fn count_again(&self, pipeline: usize) {
        self.counters[pipeline].redelivered.bump();
    }

    /// Queues the arrival; [`Intake::wake`] tells the workers. `Some`: there is no room and the source is
    /// to wait and try again.
    pub fn push(&self, pipeline: usize, arrival: Arrival) -> Option<Arrival> {
        let Frame { payload, carried, .. } = &arrival.frame;
        let bytes = payload.len() + carried.bytes() + OVERHEAD_BYTES;
        match self.lanes.push(pipeline, arrival, bytes) {
            Pushed::Queued => None,
            Pushed::DroppedOldest(dropped) => {
                for arrival in dropped {
                    self.drop_by_choice(pipeline, arrival, Reason::QueueDropOldest);
                }
                None
            }
            Pushed::Refused(arrival) if self.is_stopping() => {
                // Its ticket is not settled: the broker keeps the frame for the next start.
                self.counters[pipeline].lost(Reason::Stopped).bump();
                arrival.ticket.leave();
                None
            }
            Pushed::Refused(arrival) => {
                self.drop_by_choice(pipeline, arrival, Reason::QueueDropNewest);
                None
            }
            Pushed::Full(arrival) => Some(arrival),
        }
    }

    /// Tells the workers of what was queued. To be called before the source waits for anything.
    pub fn wake(&self) {
        self.lanes.wake();
    }

    fn drop_by_choice(&self, pipeline: usize, arrival: Arrival, reason: Reason) {
        self.counters[pipeline].lost(reason).bump();
        arrival.ticket.settle();
    }

    /// Sources take no more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether sources are to take no more.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
