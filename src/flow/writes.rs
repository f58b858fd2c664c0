//! What is to be written to a port, on its way from the workers to the port's thread.
//!
//! A verdict acts on the world in time or not at all: each write has an expiry, and what has not been
//! written by then is dropped and counted. Promise: nobody waits here, and no more than
//! [`MAX_WRITES`] are held; the oldest makes room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Micros;
use crate::base::counters::{PipelineCounters, WriteLoss};
use crate::modbus::Request;

/// Writes that may wait for one port: far more than one takes before they expire.
const MAX_WRITES: usize = 64;

/// One thing to write.
#[derive(Clone, Debug, PartialEq)]
pub struct PortWrite {
    /// Index of the pipeline whose verdict it is.
    pub pipeline: usize,
    /// What.
    pub what: What,
    /// From then on it is too late.
    pub expires_at: Micros,
}

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// These bytes, as they are and in one piece.
    Bytes(Vec<u8>),
    /// A body for a frame of the port's own codec.
    Body(Vec<u8>),
    /// A coil or a register of a Modbus unit.
    Modbus {
        /// Whose.
        unit: u8,
        /// Which, and its value.
        request: Request<'static>,
    },
}

/// The writes of one port.
pub struct Writes {
    waiting: Mutex<VecDeque<PortWrite>>,
    counters: Vec<Arc<PipelineCounters>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Writes {
    /// `counters` in the order of the pipelines; `wake` rings at the port's thread.
    pub fn new(counters: Vec<Arc<PipelineCounters>>, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { waiting: Mutex::default(), counters, wake: Box::new(wake) }
    }

    /// Hands one in; never waits. Those whose time has come go: the port may be away for long.
    pub fn push(&self, now: Micros, write: PortWrite) {
        self.expire(now);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let overtaken = if waiting.len() == MAX_WRITES { waiting.pop_front() } else { None };
        waiting.push_back(write);
        drop(waiting);
        if let Some(overtaken) = overtaken {
            self.lost(overtaken.pipeline, WriteLoss::Overtaken);
        }
        (self.wake)();
    }

    /// The oldest that is still in time. Those that are not are counted and gone.
    pub fn take(&self, now: Micros) -> Option<PortWrite> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(write) = waiting.pop_front() {
            if now < write.expires_at {
                return Some(write);
            }
            self.lost(write.pipeline, WriteLoss::Expired);
        }
        None
    }

    fn expire(&self, now: Micros) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|write| {
            let in_time = now < write.expires_at;
            if !in_time {
                self.lost(write.pipeline, WriteLoss::Expired);
            }
            in_time
        });
    }

    /// It is on the wire, or confirmed where somebody confirms.
    pub fn written(&self, pipeline: usize) {
        self.counters[pipeline].written_back.bump();
    }

    /// It is not, and will not be.
    pub fn lost(&self, pipeline: usize, why: WriteLoss) {
        self.counters[pipeline].write_lost(why).bump();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(byte: u8, expires_at: u64) -> PortWrite {
        PortWrite { pipeline: 0, what: What::Bytes(vec![byte]), expires_at: Micros(expires_at) }
    }

    #[test]
    fn what_is_late_or_too_much_is_counted_and_gone() {
        let counters = vec![Arc::new(PipelineCounters::default())];
        let writes = Writes::new(counters.clone(), || ());
        writes.push(Micros(0), write(1, 10));
        writes.push(Micros(0), write(2, 30));
        assert_eq!(writes.take(Micros(20)), Some(write(2, 30)));
        assert_eq!(writes.take(Micros(20)), None);
        assert_eq!(counters[0].write_lost(WriteLoss::Expired).get(), 1);
        for byte in 0..70 {
            writes.push(Micros(20), write(byte, 100));
        }
        assert_eq!(counters[0].write_lost(WriteLoss::Overtaken).get(), 6);
        assert_eq!(writes.take(Micros(50)), Some(write(6, 100)));
        writes.push(Micros(100), write(0, 200));
        assert_eq!(counters[0].write_lost(WriteLoss::Expired).get(), 64, "counted though nobody takes them");
        assert_eq!(writes.take(Micros(100)), Some(write(0, 200)));
    }
}
