//! A serial port's two halves joined: what reads it (`acquire`) and what knows its framing (`decode`).

use std::sync::Arc;
use std::time::Duration;

use crate::base::Micros;
use crate::base::counters::{BadBytes, PortCounters};
use crate::config::serial::{self, CrcFrom, FramingKind, LengthCounts};
use crate::stage::acquire::serial::{Heard, Talk};
use crate::stage::decode::framing::any::{AnyDeframer, Framing, Kind};
use crate::stage::decode::framing::packet;
use crate::stage::decode::framing::sequence::{Continuity, Sequence, SequenceField};
use crate::stage::decode::framing::sized::{Counts, Layout, Part, Size};
use crate::stage::decode::framing::{Deframe, Step, WireError};

/// The framing that a config describes.
pub fn framing(config: &serial::Framing) -> Framing {
    let part = |from| match from {
        CrcFrom::Body => Part::Body,
        CrcFrom::Length => Part::Length,
        CrcFrom::Sync => Part::Sync,
    };
    let layout = |sync: &serial::SyncWord, size, from| {
        let layout = Layout::new(sync.as_bytes(), size, part(from));
        Kind::Sized(layout.expect("the config's own bounds are no wider"))
    };
    let kind = match &config.kind {
        FramingKind::Cobs => Kind::Cobs,
        FramingKind::Slip => Kind::Slip,
        FramingKind::Line => Kind::Line,
        FramingKind::Length { sync, bytes, order, counts, crc_from } => {
            let counts = match counts {
                LengthCounts::Body => Counts::Body,
                LengthCounts::BodyAndCrc => Counts::BodyAndChecksum,
                LengthCounts::Whole => Counts::Whole,
            };
            layout(sync, Size::Field { bytes: usize::from(*bytes), order: *order, counts }, *crc_from)
        }
        FramingKind::Fixed { sync, bytes, crc_from } => layout(sync, Size::Fixed(bytes.get()), *crc_from),
    };
    let sequence = match (config.sequence_bytes, kind) {
        (0, _) => SequenceField::None,
        (_, Kind::Line) => SequenceField::Decimal,
        (1, _) => SequenceField::U8,
        _ => SequenceField::U16,
    };
    let max_body_bytes = config.max_frame_bytes.get();
    Framing { kind, crc: config.crc, crc_order: config.crc_order, sequence, max_body_bytes }
}

/// Listens to frames of a framing.
pub struct Listener {
    deframer: AnyDeframer,
    field: SequenceField,
    sequences: Sequences,
    /// Bodies are packets: sensor and sequence number stand in their headers.
    is_packet: bool,
    idle_reset: Duration,
    heard_at: Micros,
    counters: Arc<PortCounters>,
}

/// One sequence for all frames, or one a sensor.
struct Sequences {
    field: SequenceField,
    all: Sequence,
    by_sensor: Vec<(u8, Sequence)>,
}

impl Sequences {
    fn of(&mut self, sensor: Option<u8>) -> &mut Sequence {
        let Some(sensor) = sensor else { return &mut self.all };
        let at = self.by_sensor.iter().position(|(known, _)| *known == sensor).unwrap_or_else(|| {
            self.by_sensor.push((sensor, Sequence::new(self.field)));
            self.by_sensor.len() - 1
        });
        &mut self.by_sensor[at].1
    }
}

impl Listener {
    /// A listener that counts into `counters`.
    pub fn new(config: &serial::Framing, is_packet: bool, counters: Arc<PortCounters>) -> Self {
        let framing = framing(config);
        // A packet's own number is one of 16 bits, and one for each sensor.
        let counted = if is_packet { SequenceField::U16 } else { framing.sequence };
        Self {
            deframer: framing.deframer(),
            field: framing.sequence,
            sequences: Sequences { field: counted, all: Sequence::new(counted), by_sensor: Vec::new() },
            is_packet,
            idle_reset: config.idle_reset,
            heard_at: Micros(0),
            counters,
        }
    }

    fn drain(&mut self, input: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        let Self { deframer, field, sequences, is_packet, counters, .. } = self;
        let mut input = input;
        loop {
            match deframer.push(input) {
                Step::NeedMore => return,
                Step::Frame { body, began, rest } => {
                    input = rest;
                    let Some((number, payload)) = field.split(body) else {
                        counters.bad(BadBytes::Short).bump();
                        continue;
                    };
                    let mut number = (*field != SequenceField::None).then_some(number);
                    let mut sensor = None;
                    // What is no packet goes on as well: its pipeline says why it cannot be used.
                    if *is_packet && let Ok((header, _)) = packet::split(payload) {
                        sensor = Some(header.sensor);
                        number = Some(header.sequence);
                    }
                    if let Some(number) = number {
                        match sequences.of(sensor).next(number) {
                            Continuity::First | Continuity::Next => {}
                            Continuity::Lost(frames) => counters.sequence_lost.add(u64::from(frames)),
                            Continuity::Repeated => counters.sequence_repeated.bump(),
                            Continuity::Restarted => counters.sequence_restarts.bump(),
                        }
                    }
                    hear(Heard { payload, began, sensor });
                }
                Step::Bad { why, rest } => {
                    input = rest;
                    let (kind, count) = match why {
                        WireError::Checksum { .. } => (BadBytes::Checksum, 1),
                        WireError::Short { .. } => (BadBytes::Short, 1),
                        WireError::Overlong { .. } | WireError::Length { .. } => (BadBytes::Overlong, 1),
                        WireError::Malformed | WireError::BrokenOff { .. } => (BadBytes::Malformed, 1),
                        WireError::Stray { bytes } => (BadBytes::Stray, u64::from(bytes)),
                    };
                    counters.bad(kind).add(count);
                }
            }
        }
    }
}

impl Talk for Listener {
    fn opened(&mut self, now: Micros) {
        // What was half received before the port went away will not be completed.
        self.heard_at = now;
        self.deframer.idle();
    }

    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        self.heard_at = now;
        self.drain(bytes, hear);
    }

    fn pump(&mut self, now: Micros, _: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        if !self.deframer.is_midway() {
            return None;
        }
        let due = self.heard_at + self.idle_reset;
        if now < due {
            return Some(due);
        }
        self.deframer.idle();
        self.drain(&[], hear);
        // What has no end to wait for stays as it is until more comes.
        None
    }
}
