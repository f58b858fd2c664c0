//! What was heard on a port becomes arrivals, and arrivals become queued frames.
//!
//! Promise: frames of one port stay in order; one that has no room yet is held, and with it the port.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::super::{Arrival, Intake, identity};
use super::{Heard, Marks, PortHandle, Route, Settings};
use crate::base::counters::PortCounters;
use crate::base::{Carried, Clock, Frame, Identity, Micros, Origin, SystemClock, UnixMicros};
use crate::flow::{Receipt, Settlement, Ticket};

/// Counts frames that are not settled yet, and rings when the last one is.
struct Unsettled {
    frames: AtomicU64,
    handle: PortHandle,
}

impl Settlement for Unsettled {
    fn settled(&self, _: Receipt) {
        if self.frames.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.handle.wake();
        }
    }

    fn expect_more(&self, _: Receipt, extra: usize) {
        self.frames.fetch_add(extra as u64, Ordering::AcqRel);
    }

    fn left(&self, receipt: Receipt) {
        // A wire delivers nothing again: the port must not wait for it for ever.
        self.settled(receipt);
    }
}

/// Of one port.
pub(super) struct Desk {
    pub(super) settings: Settings,
    intake: Arc<Intake>,
    pub(super) counters: Arc<PortCounters>,
    marks: Marks,
    origins: Vec<(Option<u8>, Origin)>,
    /// Sensors that have sent a frame since somebody asked.
    spoke: Vec<u8>,
    delivery: u64,
    unsettled: Option<Arc<Unsettled>>,
    /// Arrivals for lanes without room.
    held: VecDeque<(usize, Arrival)>,
}

impl Desk {
    /// A desk whose port `handle` wakes.
    pub(super) fn new(
        settings: Settings,
        intake: Arc<Intake>,
        counters: Arc<PortCounters>,
        handle: PortHandle,
    ) -> Self {
        let unsettled = settings.durable.then(|| Arc::new(Unsettled { frames: AtomicU64::new(0), handle }));
        Self {
            marks: Marks::new(settings.line.character_ns()),
            settings,
            intake,
            counters,
            origins: Vec::new(),
            spoke: Vec::new(),
            delivery: identity::random(),
            unsettled,
            held: VecDeque::new(),
        }
    }

    /// So many bytes came.
    pub(super) fn read(&mut self, bytes: usize, now: Micros) {
        self.counters.bytes.add(bytes as u64);
        self.marks.read(bytes, now);
    }

    /// A frame was heard.
    pub(super) fn take(&mut self, now: Micros, heard: Heard<'_>) {
        self.counters.frames.bump();
        let began = self.marks.time_of(heard.began);
        // The date of the first byte: the date now, less the time since.
        let acquired_at =
            UnixMicros(SystemClock.wall().0.saturating_sub(now.since(began).as_micros() as u64));
        self.delivery = self.delivery.wrapping_add(1);
        let identity = Identity { delivery: self.delivery, redelivered: false, key: 0 };
        let origin = self.origin(heard.sensor);
        self.spoke.extend(heard.sensor.filter(|sensor| !self.spoke.contains(sensor)));
        let payload = Bytes::copy_from_slice(heard.payload);
        let mut wanted = false;
        for index in 0..self.settings.routes.len() {
            let Route { pipeline, sensors } = &self.settings.routes[index];
            let listens = |list: &Vec<u8>| heard.sensor.is_some_and(|sensor| list.contains(&sensor));
            if !sensors.as_ref().is_none_or(listens) {
                continue;
            }
            wanted = true;
            let pipeline = *pipeline;
            let frame = Frame {
                payload: payload.clone(),
                origin: origin.clone(),
                identity,
                acquired_at,
                taken_at: now,
                carried: Carried { sequence: heard.sequence, ..Carried::default() },
            };
            self.intake.count(pipeline, payload.len(), false);
            let arrival = Arrival { frame, too_large: None, ticket: self.ticket() };
            // Behind one that waits already: frames stay in order.
            let waits =
                if self.held.is_empty() { self.intake.push(pipeline, arrival) } else { Some(arrival) };
            self.held.extend(waits.map(|arrival| (pipeline, arrival)));
        }
        if !wanted {
            self.counters.unmatched.bump();
        }
    }

    fn ticket(&self) -> Ticket {
        match &self.unsettled {
            None => Ticket::none(),
            Some(unsettled) => {
                unsettled.frames.fetch_add(1, Ordering::AcqRel);
                Ticket::new(unsettled.clone(), Receipt { delivery: self.delivery })
            }
        }
    }

    /// Frames of one sensor share windows; sensors on one port do not.
    fn origin(&mut self, sensor: Option<u8>) -> Origin {
        if let Some((_, origin)) = self.origins.iter().find(|(known, _)| *known == sensor) {
            return origin.clone();
        }
        let port = &self.settings.port;
        let level = port.rsplit('/').next().unwrap_or(port);
        let name = match sensor {
            None => port.as_str().into(),
            Some(sensor) => format!("{port}#{sensor}").into(),
        };
        // What may stand in a topic level: no wildcards of a pattern, no separators.
        let level: String =
            level.chars().map(|c| if "+#*?{}".contains(c) || c.is_control() { '_' } else { c }).collect();
        let sensor_level = sensor.map(|sensor| ("sensor".into(), sensor.to_string()));
        let levels = [("port".into(), level)].into_iter().chain(sensor_level).collect();
        let origin = Origin { name, levels };
        // At most 256 sensors and none: this list is short.
        self.origins.push((sensor, origin.clone()));
        origin
    }

    /// Sensors that have sent a frame since the last call.
    pub(super) fn spoke(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spoke)
    }

    /// Queues what is held, as far as there is room.
    pub(super) fn push_held(&mut self) {
        while let Some((pipeline, arrival)) = self.held.pop_front() {
            if let Some(waits) = self.intake.push(pipeline, arrival) {
                self.held.push_front((pipeline, waits));
                return;
            }
        }
    }

    /// Whether more may be read.
    pub(super) fn takes_more(&self) -> bool {
        let settled =
            self.unsettled.as_ref().is_none_or(|unsettled| unsettled.frames.load(Ordering::Acquire) == 0);
        self.held.is_empty() && settled
    }
}
