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
        let named = serial.sensors.iter().flatten().copied();
        let watched: Vec<_> = named.zip(source.stale_after.into_iter().cycle()).collect();
        if let Some(port) = ports.iter_mut().find(|port| port.settings.port == serial.port) {
            let stale_after = &mut port.settings.stale_after;
            *stale_after = [*stale_after, source.stale_after].into_iter().flatten().min();
            port.settings.routes.push(route);
            port.settings.sensors.extend(watched);
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
            sensors: watched,
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
                    sensors: Vec::new(),
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
                let mouth = Mouth::new(line, writes);
                Box::new(Listener::new(framing, line, format == Format::Packet, self.counters.clone(), mouth))
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
            (_, None) => Box::new(Mouth::new(line, writes)),
        }
    }
}

/// Bytes that a port may have been given before the wire has had those before them: a thread that wakes a
/// little late leaves no gap then.
const AHEAD: Duration = Duration::from_millis(20);

/// Says verdicts on a port, no faster than its line carries them: what waits in the kernel cannot expire
/// any more. By itself it speaks on a port that nobody reads.
struct Mouth {
    writes: Option<Arc<Writes>>,
    character_ns: u64,
    /// When the wire will have had what was said.
    silent_at: Micros,
}

impl Mouth {
    fn new(line: &serial::Line, writes: Option<Arc<Writes>>) -> Self {
        Self { writes, character_ns: line.character_ns(), silent_at: Micros(0) }
    }

    /// Hands one verdict to the port: the next when the one before is taken, so that a port that takes
    /// nothing holds one, and the others can still expire. Gives the time from which on there is room again.
    fn say(
        &mut self,
        now: Micros,
        mut codec: Option<(&mut Enframer, &mut u16)>,
        out: &mut Vec<u8>,
    ) -> Option<Micros> {
        let writes = self.writes.as_deref()?;
        while out.is_empty() {
            if self.silent_at > now + AHEAD {
                return Some(Micros(self.silent_at.0 - AHEAD.as_micros() as u64));
            }
            let PortWrite { pipeline, what, .. } = writes.take(now)?;
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
            let on_the_wire = Duration::from_nanos(out.len() as u64 * self.character_ns);
            self.silent_at = self.silent_at.max(now) + on_the_wire;
        }
        None
    }
}

impl Talk for Mouth {
    fn opened(&mut self, now: Micros) {
        self.silent_at = now;
    }

    fn received(&mut self, _: Micros, _: &[u8], _: &mut dyn FnMut(Heard<'_>)) {}

    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, _: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        self.say(now, None, out)
    }
}

/// Listens to frames of a framing, and answers in it.
struct Listener {
    deframer: AnyDeframer,
    field: SequenceField,
    sequences: Sequences,
    /// Bodies are packets: sensor and sequence number stand in their headers.
    is_packet: bool,
    idle_reset: Duration,
    heard_at: Micros,
    counters: Arc<PortCounters>,
    mouth: Mouth,
    enframer: Enframer,
    /// Of the next frame that we send.
    sequence: u16,
}

/// One sequence for all frames where they are numbered, else one a sensor.
struct Sequences {
    all: Sequence,
    by_sensor: Vec<(u8, Sequence)>,
}

impl Sequences {
    fn of(&mut self, sensor: Option<u8>) -> &mut Sequence {
        let Some(sensor) = sensor else { return &mut self.all };
        let at = self.by_sensor.iter().position(|(known, _)| *known == sensor).unwrap_or_else(|| {
            // A packet's own number has 16 bits.
            self.by_sensor.push((sensor, Sequence::new(SequenceField::U16)));
            self.by_sensor.len() - 1
        });
        &mut self.by_sensor[at].1
    }

    fn cut(&mut self) {
        self.all.cut();
        self.by_sensor.iter_mut().for_each(|(_, sequence)| sequence.cut());
    }
}

impl Listener {
    /// A listener on `line` that counts into `counters`, and answers through `mouth`.
    fn new(
        config: &serial::Framing,
        line: &serial::Line,
        is_packet: bool,
        counters: Arc<PortCounters>,
        mouth: Mouth,
    ) -> Self {
        let framing = framing(config);
        Self {
            deframer: framing.deframer(),
            field: framing.sequence,
            sequences: Sequences { all: Sequence::new(framing.sequence), by_sensor: Vec::new() },
            is_packet,
            // Bytes are heard when they are whole: on a slow line their own time is no silence.
            idle_reset: config.idle_reset + Duration::from_nanos(line.character_ns()),
            heard_at: Micros(0),
            counters,
            mouth,
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
                    let of_frame = (*field != SequenceField::None).then_some(number);
                    // What is no packet goes on as well: its pipeline says why it cannot be used.
                    let packet = is_packet.then(|| packet::split(payload).ok()).flatten();
                    let (sensor, of_packet) =
                        packet.map(|(header, _)| (header.sensor, header.sequence)).unzip();
                    // A number in front of every frame misses more than those in some of the packets.
                    let continuity = match (of_frame, of_packet) {
                        (Some(number), _) => Some(sequences.of(None).next(number)),
                        (None, Some(number)) => Some(sequences.of(sensor).next(number)),
                        (None, None) => None,
                    };
                    if let Some(continuity) = continuity {
                        counters.sequence_lost.add(continuity.missing().into());
                        match continuity {
                            Continuity::First | Continuity::Next | Continuity::Lost(_) => {}
                            Continuity::Repeated => counters.sequence_repeated.bump(),
                            Continuity::Restarted(_) => counters.sequence_restarts.bump(),
                        }
                    }
                    hear(Heard { payload, began, sensor, sequence: of_packet.or(of_frame) });
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
        self.mouth.opened(now);
        self.sequences.cut();
        if let Some(why) = self.deframer.cut() {
            let (kind, count) = counted(why);
            self.counters.bad(kind).add(count);
        }
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
        let room_at = self.mouth.say(now, Some(codec), out);
        if !self.deframer.is_midway() {
            return room_at;
        }
        let due = self.heard_at + self.idle_reset;
        if now < due {
            return Some(room_at.map_or(due, |room_at| room_at.min(due)));
        }
        self.deframer.idle();
        self.drain(&[], hear);
        // What has no end to wait for stays as it is until more comes.
        room_at
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::config::serial::Line;
    use crate::stage::decode::framing::packet::{Header, SampleType};

    const LINE: Line = Line::USUAL;

    fn config(kind: FramingKind, sequence_bytes: u8) -> serial::Framing {
        serial::Framing {
            kind,
            crc: None,
            crc_order: None,
            sequence_bytes,
            max_frame_bytes: NonZeroUsize::new(64).unwrap(),
            idle_reset: Duration::from_millis(200),
        }
    }

    struct Bench {
        listener: Listener,
        counters: Arc<PortCounters>,
        now: Micros,
        heard: Vec<Vec<u8>>,
    }

    impl Bench {
        fn new(kind: FramingKind, sequence_bytes: u8, is_packet: bool, line: Line) -> Self {
            let counters = Arc::new(PortCounters::default());
            let mouth = Mouth::new(&line, None);
            let config = config(kind, sequence_bytes);
            let listener = Listener::new(&config, &line, is_packet, counters.clone(), mouth);
            Self { listener, counters, now: Micros(1_000_000), heard: Vec::new() }
        }

        fn receive(&mut self, bytes: &[u8]) {
            let heard = &mut self.heard;
            let hear = &mut |frame: Heard<'_>| heard.push(frame.payload.to_vec());
            self.listener.pump(self.now, &mut Vec::new(), hear);
            self.listener.received(self.now, bytes, hear);
        }
    }

    #[test]
    fn a_line_that_began_before_its_port_went_away_is_damaged_and_joined_to_nothing() {
        let mut bench = Bench::new(FramingKind::Line, 0, false, LINE);
        bench.receive(b"1,2\n298.9,1");
        bench.listener.opened(bench.now);
        bench.receive(b"410,65.7\n3,4\n");
        assert_eq!(bench.heard, [b"1,2".to_vec(), b"410,65.7".to_vec(), b"3,4".to_vec()]);
        assert_eq!(bench.counters.bad(BadBytes::Malformed).get(), 1);
    }

    #[test]
    fn a_sensor_that_begins_anew_with_its_power_is_a_restart_and_no_gap_of_a_whole_round() {
        let mut bench = Bench::new(FramingKind::Line, 2, false, LINE);
        bench.receive(b"999:x\n1000:x\n");
        bench.listener.opened(bench.now);
        bench.receive(b"20:x\n21:x\n");
        assert_eq!(bench.counters.sequence_restarts.get(), 1);
        assert_eq!(bench.counters.sequence_lost.get(), 20);
    }

    #[test]
    fn where_all_frames_are_numbered_their_numbers_count_and_not_those_of_the_packets_among_them() {
        let mut bench = Bench::new(FramingKind::Cobs, 1, true, LINE);
        let mut sender = framing(&config(FramingKind::Cobs, 1)).enframer();
        let header =
            Header { samples: SampleType::I16, sensor: 1, schema: 1, sequence: 0, time_us: 0, channels: 1 };
        for number in (0..600).filter(|number| *number != 300) {
            let (mut packet, mut wire) = ([0; 13], Vec::new());
            let body = if number % 2 == 0 {
                let header = Header { sequence: number / 2, ..header };
                header.write_i16(&[7], &mut packet).unwrap();
                &packet[..]
            } else {
                b"no packet"
            };
            sender.encode(number, body, &mut wire).unwrap();
            bench.receive(&wire);
        }
        assert_eq!((bench.heard.len(), bench.counters.sequence_lost.get()), (599, 1));
    }

    #[test]
    fn at_50_baud_the_time_of_a_character_is_no_silence() {
        let sync = serial::SyncWord::parse("AA55").unwrap();
        let kind = FramingKind::Fixed { sync, bytes: NonZeroUsize::new(2).unwrap(), crc_from: CrcFrom::Body };
        let mut bench = Bench::new(kind, 0, false, Line { baud: 50, ..LINE });
        for byte in [0xaa, 0x55, 1, 2] {
            bench.now = bench.now + Duration::from_millis(205);
            bench.receive(&[byte]);
        }
        assert_eq!(bench.heard, [vec![1, 2]]);
    }

    #[test]
    fn a_slow_line_is_given_no_more_than_it_carries_so_that_what_waits_can_expire() {
        let counters = vec![Arc::new(PipelineCounters::default())];
        let writes = Arc::new(Writes::new(counters.clone(), || ()));
        let mut mouth = Mouth::new(&Line { baud: 1_000, ..LINE }, Some(writes.clone()));
        let second = Micros(1_000_000);
        for _ in 0..20 {
            let what = What::Bytes(vec![b'x'; 10]);
            writes.push(second, PortWrite { pipeline: 0, what, expires_at: second + Duration::from_secs(1) });
        }
        let (mut now, mut sent) = (second, 0);
        loop {
            let mut out = Vec::new();
            let room_at = mouth.say(now, None, &mut out);
            if out.is_empty() && room_at.is_none() {
                break;
            }
            sent += out.len();
            assert!(
                sent as u64 <= 10 + (now.since(second) + AHEAD).as_millis() as u64 / 10,
                "{sent} at {now:?}"
            );
            now = now.max(room_at.unwrap_or(now));
        }
        assert_eq!(counters[0].written_back.get() + counters[0].write_lost(WriteLoss::Expired).get(), 20);
        assert!((10..=11).contains(&counters[0].written_back.get()), "{}", counters[0].written_back.get());
    }
}
