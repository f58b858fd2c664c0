//! Bytes to frames, each with the bytes that it stood in, when they came, and what was wrong.
//!
//! Promise: frames are those that the daemon would take; however the stream is cut into portions, they
//! are the same; memory is bounded by the longest frame.

use std::time::Duration;

use super::adu::{self, Cutter};
use crate::base::Micros;
use crate::base::counters::BadBytes;
use crate::config::serial;
use crate::daemon::port;
use crate::stage::acquire::serial::Marks;
use crate::stage::decode::framing::any::{AnyDeframer, Kind};
use crate::stage::decode::framing::packet;
use crate::stage::decode::framing::sequence::{Continuity, Sequence, SequenceField};
use crate::stage::decode::framing::{Checksum, Deframe, Step, WireError};

/// Bytes on a line of a hexadecimal dump.
const ROW_BYTES: usize = 16;
/// Silence that ends a row before it is full: a person sees no gap of less.
const ROW_ENDS_AFTER: Duration = Duration::from_millis(50);
/// Silence that ends a Modbus ADU, adapters' buffers included (their latency timer is 16 ms).
const ADU_ENDS_AFTER: Duration = Duration::from_millis(20);
/// Wire bytes that are kept to be shown; the beginning of a longer frame is not.
const KEPT_BYTES: usize = 4096;

/// Something that came.
#[derive(Debug)]
pub struct Seen<'a> {
    /// When its first byte came.
    pub at: Micros,
    /// The bytes on the wire, or the last of them.
    pub wire: &'a [u8],
    /// How many there were.
    pub wire_bytes: usize,
    /// What they are.
    pub what: What<'a>,
}

impl Seen<'_> {
    /// A good frame, or an ADU.
    pub fn is_frame(&self) -> bool {
        match self.what {
            What::Frame { .. } => true,
            What::Adu(adu) => adu != adu::Adu::Stray,
            What::Bytes | What::Bad(_) => false,
        }
    }
}

/// What bytes are.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// Not cut into frames.
    Bytes,
    /// A good frame.
    Frame {
        /// Without framing, checksum and sequence number.
        payload: &'a [u8],
        /// Its number, and what that says of the frames before it.
        sequence: Option<(u16, Continuity)>,
    },
    /// No frame.
    Bad(WireError),
    /// On a Modbus bus.
    Adu(adu::Adu<'a>),
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All that came.
    pub bytes: u64,
    /// Good frames; on a Modbus bus, ADUs.
    pub frames: u64,
    /// In the order of [`BadBytes::ALL`].
    pub bad: [u64; BadBytes::ALL.len()],
    /// Missing, by their sequence numbers.
    pub lost: u64,
}

impl Tally {
    /// All frames that were not usable.
    pub fn bad_frames(&self) -> u64 {
        self.bad.iter().sum::<u64>() - self.bad[BadBytes::Stray as usize]
    }

    fn count(&mut self, kind: BadBytes, times: u64) {
        self.bad[kind as usize] += times;
    }
}

/// How the stream is cut.
#[derive(Debug)]
enum Cut {
    Rows { held: usize },
    Frames(Box<Frames>),
    Modbus(Cutter),
}

#[derive(Debug)]
struct Frames {
    deframer: AnyDeframer,
    /// Bytes around a body, where a frame's end is not where the deframer stopped to read.
    around: Option<usize>,
    field: SequenceField,
    is_packet: bool,
    sequences: Vec<(Option<u8>, Sequence)>,
    idle_reset: Duration,
}

/// Hears a line.
#[derive(Debug)]
pub struct Ear {
    cut: Cut,
    marks: Marks,
    /// The last bytes that came, for those who want to see them.
    kept: Vec<u8>,
    /// Position behind them in the stream; wraps.
    end: u32,
    /// Position behind what was told; wraps.
    told: u32,
    heard_at: Micros,
    /// What was counted so far.
    pub tally: Tally,
}

impl Ear {
    /// Cuts nothing: rows of bytes.
    pub fn of_bytes(line: &serial::Line) -> Self {
        Self::new(line, Cut::Rows { held: 0 })
    }

    /// Cuts frames; `is_packet`: their bodies may be packets, with numbers of their own.
    pub fn of_frames(line: &serial::Line, config: &serial::Framing, is_packet: bool) -> Self {
        let framing = port::framing(config);
        let around = match framing.kind {
            Kind::Sized(layout) => Some(layout.header_bytes() + framing.checksum().bytes()),
            Kind::Cobs | Kind::Slip | Kind::Line => None,
        };
        let frames = Frames {
            deframer: framing.deframer(),
            around,
            field: framing.sequence,
            is_packet,
            sequences: Vec::new(),
            idle_reset: config.idle_reset,
        };
        Self::new(line, Cut::Frames(Box::new(frames)))
    }

    /// Cuts what is spoken on a Modbus bus.
    pub fn of_modbus(line: &serial::Line) -> Self {
        Self::new(line, Cut::Modbus(Cutter::default()))
    }

    fn new(line: &serial::Line, cut: Cut) -> Self {
        let marks = Marks::new(line.character_ns());
        let kept = Vec::with_capacity(3 * KEPT_BYTES);
        Self { cut, marks, kept, end: 0, told: 0, heard_at: Micros(0), tally: Tally::default() }
    }

    /// Bytes came.
    pub fn received(&mut self, now: Micros, bytes: &[u8], see: &mut dyn FnMut(Seen<'_>)) {
        self.heard_at = now;
        // A portion is no longer than what is kept: what is told next is there to be shown.
        for portion in bytes.chunks(KEPT_BYTES) {
            if self.kept.len() > 2 * KEPT_BYTES {
                self.kept.drain(..self.kept.len() - KEPT_BYTES);
            }
            self.kept.extend_from_slice(portion);
            self.end = self.end.wrapping_add(portion.len() as u32);
            self.marks.read(portion.len(), now);
            self.tally.bytes += portion.len() as u64;
            match &mut self.cut {
                Cut::Rows { held } => {
                    *held += portion.len();
                    self.rows(false, see);
                }
                Cut::Frames(_) => self.frames(portion, see),
                Cut::Modbus(_) => self.adus(Some(portion), see),
            }
        }
    }

    /// When to call [`Ear::tick`], if nothing comes before it.
    pub fn wake_at(&self) -> Option<Micros> {
        let silence = match &self.cut {
            Cut::Rows { held: 0 } => return None,
            Cut::Rows { .. } => ROW_ENDS_AFTER,
            Cut::Frames(frames) if !frames.deframer.is_midway() => return None,
            Cut::Frames(frames) => frames.idle_reset,
            Cut::Modbus(cutter) if !cutter.is_midway() => return None,
            Cut::Modbus(_) => ADU_ENDS_AFTER,
        };
        Some(self.heard_at + silence)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Micros, see: &mut dyn FnMut(Seen<'_>)) {
        if self.wake_at().is_none_or(|at| now < at) {
            return;
        }
        match &mut self.cut {
            Cut::Rows { .. } => self.rows(true, see),
            Cut::Frames(frames) => {
                frames.deframer.idle();
                self.frames(&[], see);
                // What has no end to wait for stays as it is until more comes.
                self.heard_at = now;
            }
            Cut::Modbus(_) => self.adus(None, see),
        }
    }

    fn rows(&mut self, all: bool, see: &mut dyn FnMut(Seen<'_>)) {
        let Self { cut: Cut::Rows { held }, marks, kept, end, .. } = self else { return };
        while *held >= if all { 1 } else { ROW_BYTES } {
            let row = ROW_BYTES.min(*held);
            let at = marks.time_of(end.wrapping_sub(*held as u32));
            let from = kept.len() - *held;
            see(Seen { at, wire: &kept[from..from + row], wire_bytes: row, what: What::Bytes });
            *held -= row;
        }
    }

    fn adus(&mut self, portion: Option<&[u8]>, see: &mut dyn FnMut(Seen<'_>)) {
        let Self { cut: Cut::Modbus(cutter), marks, told, tally, .. } = self else { return };
        let mut tell = |wire: &[u8], adu: adu::Adu<'_>| {
            match adu {
                adu::Adu::Stray => tally.count(BadBytes::Stray, wire.len() as u64),
                _ => tally.frames += 1,
            }
            let at = marks.time_of(*told);
            *told = told.wrapping_add(wire.len() as u32);
            see(Seen { at, wire, wire_bytes: wire.len(), what: What::Adu(adu) });
        };
        match portion {
            Some(portion) => cutter.push(portion, &mut tell),
            None => cutter.idle(&mut tell),
        }
    }

    fn frames(&mut self, portion: &[u8], see: &mut dyn FnMut(Seen<'_>)) {
        let Self { cut: Cut::Frames(frames), marks, kept, end, told, tally, .. } = self else { return };
        let Frames { deframer, around, is_packet, field, sequences, .. } = &mut **frames;
        // Where a position of the stream stands in what is kept.
        let place = |position: u32| match end.wrapping_sub(position) as i32 {
            back @ 0.. => kept.len().saturating_sub(back as usize),
            _ => kept.len(),
        };
        let mut input = portion;
        loop {
            let (from, to, what) = match deframer.push(input) {
                Step::NeedMore => return,
                Step::Frame { body, began, rest } => {
                    input = rest;
                    let to = match around {
                        Some(around) => began.wrapping_add((body.len() + *around) as u32),
                        None => end.wrapping_sub(rest.len() as u32),
                    };
                    let what = match field.split(body) {
                        None => {
                            tally.count(BadBytes::Short, 1);
                            What::Bad(WireError::Short { bytes: body.len() })
                        }
                        Some((number, payload)) => {
                            tally.frames += 1;
                            let mut number = (*field != SequenceField::None).then_some(number);
                            let mut sensor = None;
                            if *is_packet && let Ok((header, _)) = packet::split(payload) {
                                (sensor, number) = (Some(header.sensor), Some(header.sequence));
                            }
                            let counted = if sensor.is_some() { SequenceField::U16 } else { *field };
                            let sequence =
                                number.map(|number| (number, of(sequences, sensor, counted).next(number)));
                            tally.lost += sequence.map_or(0, |(_, continuity)| continuity.missing().into());
                            What::Frame { payload, sequence }
                        }
                    };
                    (began, to, what)
                }
                Step::Bad { why, rest } => {
                    input = rest;
                    let (kind, times) = port::counted(why);
                    tally.count(kind, times);
                    let to = match why {
                        WireError::Stray { bytes } => told.wrapping_add(bytes),
                        _ => end.wrapping_sub(rest.len() as u32),
                    };
                    (*told, to, What::Bad(why))
                }
            };
            *told = to;
            let wire = kept.get(place(from)..place(to)).unwrap_or_default();
            let wire_bytes = (to.wrapping_sub(from) as i32).max(0) as usize;
            see(Seen { at: marks.time_of(from), wire, wire_bytes, what });
        }
    }
}

/// The count of one sensor, or of all.
fn of(
    sequences: &mut Vec<(Option<u8>, Sequence)>,
    sensor: Option<u8>,
    field: SequenceField,
) -> &mut Sequence {
    let at = sequences.iter().position(|(known, _)| *known == sensor).unwrap_or_else(|| {
        sequences.push((sensor, Sequence::new(field)));
        sequences.len() - 1
    });
    &mut sequences[at].1
}

#[cfg(test)]
mod tests;
