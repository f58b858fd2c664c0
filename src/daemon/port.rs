//! A serial port's two halves joined: what reads it (`acquire`) and what knows its framing (`decode`).

use std::sync::Arc;
use std::time::Duration;

use crate::base::Micros;
use crate::base::counters::{BadBytes, ModbusCounters, PipelineCounters, PortCounters, WriteLoss};
use crate::config::serial::{self, CrcFrom, FramingKind, LengthCounts, Wire};
use crate::config::write_back::Form;
use crate::config::{self, Format, ModbusRole, SourceKind};
use crate::flow::{PortWrite, What, Writes};
use crate::modbus::wire::MAX_ADU;
use crate::stage::acquire::serial::modbus::{ModbusListener, ModbusMaster};
use crate::stage::acquire::serial::{Expects, Heard, PortHandle, Route, Settings, Talk};
use crate::stage::decode::framing::any::{AnyDeframer, Enframer, Framing, Kind};
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
        (1, Kind::Line) => SequenceField::DecimalU8,
        (_, Kind::Line) => SequenceField::DecimalU16,
        (1, _) => SequenceField::U8,
        _ => SequenceField::U16,
    };
    let max_body_bytes = config.max_frame_bytes.get();
    Framing { kind, crc: config.crc, crc_order: config.crc_order, sequence, max_body_bytes }
}

/// What bytes that are no frame count as, and how often.
pub fn counted(why: WireError) -> (BadBytes, u64) {
    match why {
        WireError::Checksum { .. } => (BadBytes::Checksum, 1),
        WireError::Short { .. } => (BadBytes::Short, 1),
        WireError::Overlong { .. } | WireError::Length { .. } => (BadBytes::Overlong, 1),
        WireError::Malformed | WireError::BrokenOff { .. } => (BadBytes::Malformed, 1),
        WireError::Stray { bytes } => (BadBytes::Stray, u64::from(bytes)),
    }
}

/// A port, and everybody who reads or writes it.
pub(super) struct Port {
    pub(super) settings: Settings,
    /// `None`: nobody reads it.
    wire: Option<Wire>,
    /// The readers' format, where all that comes is packets, or a round is laid out.
    format: Option<Format>,
    writers: Vec<Form>,
    pub(super) counters: Arc<PortCounters>,
    /// Where Modbus is spoken.
    pub(super) modbus: Option<Arc<ModbusCounters>>,
}

/// Each port of the config once: those that are read, then those that are only written.
pub(super) fn ports<'p>(pipelines: impl Iterator<Item = &'p config::Pipeline> + Clone) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for (index, pipeline) in pipelines.clone().enumerate() {
        let source = &pipeline.source;
        let SourceKind::Serial(serial) = &source.kind else { continue };
        let route = Route { pipeline: index, sensors: serial.sensors.clone() };
        if let Some(port) = ports.iter_mut().find(|port| port.settings.port == serial.port) {
            let stale_after = &mut port.settings.stale_after;
            *stale_after = [*stale_after, source.stale_after].into_iter().flatten().min();
            port.settings.routes.push(route);
            if pipeline.decode.format == Format::Packet {
                port.format = Some(Format::Packet);
            }
            continue;
        }
        let settings = Settings {
            port: serial.port.clone(),
            line: serial.line,
            max_frame_bytes: match &serial.wire {
                Wire::Frames(framing) => framing.max_frame_bytes.get(),
                Wire::Modbus(_) => MAX_ADU,
            },
            stale_after: source.stale_after,
            durable: serial.durable,
            expects: match serial.modbus().map(|modbus| modbus.role) {
                None => Expects::Frames,
                Some(ModbusRole::Listener) => Expects::Rounds,
                Some(ModbusRole::Master) => Expects::Nothing,
            },
            routes: vec![route],
        };
        ports.push(Port::new(settings, Some(serial.wire.clone()), Some(pipeline.decode.format)));
    }
    for write_back in pipelines.filter_map(|pipeline| pipeline.write_back.as_ref()) {
        let index =
            ports.iter().position(|port| port.settings.port == write_back.port).unwrap_or_else(|| {
                let settings = Settings {
                    port: write_back.port.clone(),
                    line: write_back.line.expect("the config knows the line of a port that nobody reads"),
                    max_frame_bytes: 0,
                    stale_after: None,
                    durable: false,
                    expects: Expects::Nothing,
                    routes: Vec::new(),
                };
                ports.push(Port::new(settings, None, None));
                ports.len() - 1
            });
        ports[index].writers.push(write_back.form.clone());
    }
    for port in &mut ports {
        if port.speaks_modbus() {
            port.modbus = Some(Arc::default());
        }
    }
    ports
}

impl Port {
    fn new(settings: Settings, wire: Option<Wire>, format: Option<Format>) -> Self {
        Self { settings, wire, format, writers: Vec::new(), counters: Arc::default(), modbus: None }
    }

    fn speaks_modbus(&self) -> bool {
        let writes = |form: &Form| matches!(form, Form::Coil { .. } | Form::Register { .. });
        matches!(self.wire, Some(Wire::Modbus(_))) || self.writers.iter().any(writes)
    }

    /// The queue of those who write to it.
    pub(super) fn writes(
        &self,
        counters: &[Arc<PipelineCounters>],
        handle: &PortHandle,
    ) -> Option<Arc<Writes>> {
        let handle = handle.clone();
        (!self.writers.is_empty()).then(|| Arc::new(Writes::new(counters.to_vec(), move || handle.wake())))
    }

    /// What is spoken on it.
    pub(super) fn talk(&self, writes: Option<Arc<Writes>>) -> Box<dyn Talk> {
        let Settings { port, line, .. } = &self.settings;
        let format = self.format.unwrap_or(Format::Json);
        match (&self.wire, &self.modbus) {
            (Some(Wire::Frames(framing)), _) => {
                Box::new(Listener::new(framing, format == Format::Packet, self.counters.clone(), writes))
            }
            (Some(Wire::Modbus(modbus)), Some(counters)) if modbus.role == ModbusRole::Listener => {
                Box::new(ModbusListener::new(port, line, modbus, format, counters.clone()))
            }
            (Some(Wire::Modbus(modbus)), Some(counters)) => {
                Box::new(ModbusMaster::new(port, line, modbus, format, counters.clone(), writes))
            }
            (None, Some(counters)) => Box::new(ModbusMaster::new(
                port,
                line,
                &config::Modbus::writes_only(),
                format,
                counters.clone(),
                writes,
            )),
            (_, None) => Box::new(Speaker { writes }),
        }
    }
}

/// Writes to a port that nobody reads.
struct Speaker {
    writes: Option<Arc<Writes>>,
}

impl Talk for Speaker {
    fn opened(&mut self, _: Micros) {}

    fn received(&mut self, _: Micros, _: &[u8], _: &mut dyn FnMut(Heard<'_>)) {}

    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, _: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        write_verdicts(self.writes.as_deref(), now, None, out);
        None
    }
}

/// Hands verdicts to the port, one after the other: the next when the one before is on the wire, so that
/// a port that takes nothing holds one, and the others can still expire.
fn write_verdicts(
    writes: Option<&Writes>,
    now: Micros,
    mut codec: Option<(&mut Enframer, &mut u16)>,
    out: &mut Vec<u8>,
) {
    let Some(writes) = writes else { return };
    while out.is_empty() {
        let Some(PortWrite { pipeline, what, .. }) = writes.take(now) else { return };
        match (what, &mut codec) {
            (What::Bytes(bytes), _) => out.extend_from_slice(&bytes),
            (What::Body(body), Some((enframer, sequence))) => {
                if enframer.encode(**sequence, &body, out).is_err() {
                    writes.lost(pipeline, WriteLoss::Refused);
                    continue;
                }
                **sequence = sequence.wrapping_add(1);
            }
            // Config sends bodies to ports with a codec only, and Modbus to Modbus.
            (What::Body(_) | What::Modbus { .. }, _) => {
                writes.lost(pipeline, WriteLoss::Refused);
                continue;
            }
        }
        writes.written(pipeline);
    }
}

/// Listens to frames of a framing, and answers in it.
pub struct Listener {
    deframer: AnyDeframer,
    field: SequenceField,
    sequences: Sequences,
    /// Bodies are packets: sensor and sequence number stand in their headers.
    is_packet: bool,
    idle_reset: Duration,
    heard_at: Micros,
    counters: Arc<PortCounters>,
    writes: Option<Arc<Writes>>,
    enframer: Enframer,
    /// Of the next frame that we send.
    sequence: u16,
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
    /// A listener that counts into `counters`, and writes what comes through `writes`.
    pub fn new(
        config: &serial::Framing,
        is_packet: bool,
        counters: Arc<PortCounters>,
        writes: Option<Arc<Writes>>,
    ) -> Self {
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
            writes,
            enframer: framing.enframer(),
            sequence: 0,
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
                    hear(Heard { payload, began, sensor, sequence: number });
                }
                Step::Bad { why, rest } => {
                    input = rest;
                    let (kind, count) = counted(why);
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

    fn patience(&self) -> Duration {
        // Bytes that lie unread are no silence.
        self.idle_reset / 4
    }

    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        self.heard_at = now;
        self.drain(bytes, hear);
    }

    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        let codec = (&mut self.enframer, &mut self.sequence);
        write_verdicts(self.writes.as_deref(), now, Some(codec), out);
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
