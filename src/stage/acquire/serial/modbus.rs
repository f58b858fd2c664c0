//! Modbus RTU on a port: rounds become frames, verdicts become writes, faults become log lines.
//!
//! A round is one frame, laid out as the pipeline's `[pipeline.decode]` says: a JSON object with a field
//! for each register, or their values in the order of the config. What a round lacks is `null`, a blank
//! or NaN, and the card decides what that means; a round without any value is no frame.
//! Not here: the protocol ([`crate::modbus`]).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Heard, Talk};
use crate::base::Micros;
use crate::base::counters::{ModbusCounters, WriteLoss};
use crate::config::serial::{Line, Parity};
use crate::config::{self, Format};
use crate::flow::{PortWrite, What, Writes};
use crate::modbus::master::{Event, NotWritten, Settings};
use crate::modbus::{Listener, Master, Register, Timing, Trouble, Write, listener};

/// What stands between a port and its Modbus machine.
struct Desk {
    port: String,
    registers: Vec<Register>,
    format: Format,
    payload: Vec<u8>,
    /// Bytes that the port ever gave.
    taken: u32,
    writes: Option<Arc<Writes>>,
    /// With the writes to each unit.
    write_troubles: Vec<(u8, Trouble)>,
}

/// A port on which we ask.
pub struct ModbusMaster {
    desk: Desk,
    master: Master,
}

/// A port on which we overhear.
pub struct ModbusListener {
    desk: Desk,
    listener: Listener,
}

fn timing(line: &Line, reply_timeout: Duration) -> Timing {
    let parity_bits = u32::from(line.parity != Parity::None);
    Timing::new(line.baud, parity_bits, u32::from(line.stop_bits), reply_timeout)
}

impl ModbusMaster {
    /// Polls what `config` names, as frames of `format`, and writes what comes through `writes`.
    pub fn new(
        port: &str,
        line: &Line,
        config: &config::Modbus,
        format: Format,
        counters: Arc<ModbusCounters>,
        writes: Option<Arc<Writes>>,
    ) -> Self {
        let settings = Settings {
            timing: timing(line, config.reply_timeout),
            period: config.period,
            retries: config.retries,
        };
        let master = Master::new(settings, config.registers.clone(), counters, Micros(0));
        Self { desk: Desk::new(port, config.registers.clone(), format, writes), master }
    }
}

impl ModbusListener {
    /// Overhears what `config` names, as frames of `format`.
    pub fn new(
        port: &str,
        line: &Line,
        config: &config::Modbus,
        format: Format,
        counters: Arc<ModbusCounters>,
    ) -> Self {
        let timing = timing(line, config.reply_timeout);
        let listener = Listener::new(timing, config.period, config.registers.clone(), counters);
        Self { desk: Desk::new(port, config.registers.clone(), format, None), listener }
    }
}

impl Desk {
    fn new(port: &str, registers: Vec<Register>, format: Format, writes: Option<Arc<Writes>>) -> Self {
        Self {
            port: port.into(),
            registers,
            format,
            payload: Vec::new(),
            taken: 0,
            writes,
            write_troubles: Vec::new(),
        }
    }

    fn round(&mut self, values: &[Option<f64>], hear: &mut dyn FnMut(Heard<'_>)) {
        self.payload.clear();
        lay_out(&self.registers, values, self.format, &mut self.payload);
        // The round is complete with the byte that came last.
        hear(Heard {
            payload: &self.payload,
            began: self.taken.wrapping_sub(1),
            sensor: None,
            sequence: None,
        });
    }

    fn names(&self, registers: &[usize]) -> String {
        let names: Vec<&str> = registers.iter().map(|index| self.registers[*index].name.as_str()).collect();
        names.join(", ")
    }

    fn write_trouble(&mut self, unit: u8) -> &mut Trouble {
        let at = self.write_troubles.iter().position(|(known, _)| *known == unit).unwrap_or_else(|| {
            self.write_troubles.push((unit, Trouble::default()));
            self.write_troubles.len() - 1
        });
        &mut self.write_troubles[at].1
    }

    fn master(&mut self, now: Micros, event: Event<'_>, hear: &mut dyn FnMut(Heard<'_>)) {
        let port = self.port.clone();
        match event {
            Event::Round(values) => self.round(values, hear),
            Event::Trouble { unit, registers, fault } => {
                let names = self.names(registers);
                log::warn!(
                    "port {port}: unit {unit} ({names}): {fault}; its values are missing, the poll goes on"
                );
            }
            Event::Recovered { unit } => log::info!("port {port}: unit {unit} answers again"),
            Event::Apart { unit, registers } => {
                let names = self.names(registers);
                log::info!("port {port}: unit {unit} does not give {names} in one piece; asking one by one");
            }
            Event::Babble => log::warn!(
                "port {port}: the bus is never silent, so nothing can be asked; with another master on it use \
                 role = \"listener\""
            ),
            Event::Written(write) => {
                self.tell(write.tag, None);
                if self.write_trouble(write.unit).well(now) {
                    log::info!("port {port}: unit {} takes verdicts again", write.unit);
                }
            }
            Event::NotWritten { write, why } => {
                self.tell(write.tag, Some(loss(why)));
                if self.write_trouble(write.unit).fault(loss(why) as u8) {
                    log::warn!("port {port}: a verdict was not written to unit {}: {why}", write.unit);
                }
            }
        }
    }

    fn tell(&self, pipeline: usize, lost: Option<WriteLoss>) {
        let Some(writes) = &self.writes else { return };
        match lost {
            None => writes.written(pipeline),
            Some(why) => writes.lost(pipeline, why),
        }
    }

    fn listener(&mut self, event: listener::Event<'_>, hear: &mut dyn FnMut(Heard<'_>)) {
        let port = self.port.clone();
        match event {
            listener::Event::Round(values) => self.round(values, hear),
            listener::Event::Trouble { unit, fault } => {
                log::warn!("port {port}: overheard: unit {unit}: {fault}");
            }
            listener::Event::Recovered { unit } => log::info!("port {port}: unit {unit} answers again"),
        }
    }
}

fn loss(why: NotWritten) -> WriteLoss {
    match why {
        NotWritten::Expired(_) => WriteLoss::Expired,
        NotWritten::Refused(_) => WriteLoss::Refused,
        NotWritten::Overtaken => WriteLoss::Overtaken,
    }
}

impl Talk for ModbusMaster {
    fn opened(&mut self, now: Micros) {
        self.master.restart(now);
    }

    fn asks(&self) -> bool {
        true
    }

    fn has_room(&mut self, has_room: bool) {
        self.master.polls(has_room);
    }

    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        let Self { desk, master } = self;
        desk.taken = desk.taken.wrapping_add(bytes.len() as u32);
        master.received(now, bytes, &mut |event| desk.master(now, event, hear));
    }

    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        // The port takes nothing: what would be sent behind it now would come out when nobody waits for it.
        if !out.is_empty() {
            return None;
        }
        let Self { desk, master } = self;
        while let Some(write) = desk.writes.as_ref().and_then(|writes| writes.take(now)) {
            // Config sends nothing else to a Modbus port.
            if let PortWrite { pipeline, what: What::Modbus { unit, request }, expires_at } = write {
                let write = Write { tag: pipeline, unit, request, expires_at };
                master.write(write, &mut |event| desk.master(now, event, hear));
            }
        }
        master.pump(now, out, &mut |event| desk.master(now, event, hear));
        Some(master.wake_at())
    }
}

impl Talk for ModbusListener {
    fn opened(&mut self, _: Micros) {
        self.listener.restart();
    }

    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        let Self { desk, listener } = self;
        desk.taken = desk.taken.wrapping_add(bytes.len() as u32);
        listener.received(now, bytes, &mut |event| desk.listener(event, hear));
    }

    fn pump(&mut self, now: Micros, _: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        let Self { desk, listener } = self;
        listener.tick(now, &mut |event| desk.listener(event, hear));
        Some(listener.wake_at())
    }
}

/// One round as the payload of a frame.
fn lay_out(registers: &[Register], values: &[Option<f64>], format: Format, out: &mut Vec<u8>) {
    match format {
        Format::F32le => {
            out.extend(values.iter().flat_map(|value| (value.unwrap_or(f64::NAN) as f32).to_le_bytes()));
        }
        Format::Csv => {
            let cell = |value: &Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let cells: Vec<String> = values.iter().map(cell).collect();
            out.extend_from_slice(cells.join(",").as_bytes());
        }
        // Config lets no other format come here.
        _ => {
            let mut text = String::from("{");
            for (register, value) in registers.iter().zip(values) {
                let separator = if text.len() > 1 { "," } else { "" };
                let name = serde_json::Value::from(register.name.as_str());
                let value = serde_json::Value::from(*value);
                write!(text, "{separator}{name}:{value}").expect("a string takes everything");
            }
            text.push('}');
            out.extend_from_slice(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::{Order, Table, Type};

    fn register(name: &str) -> Register {
        Register {
            name: name.into(),
            unit: 1,
            table: Table::HoldingRegisters,
            address: 0,
            kind: Type::U16,
            order: Order::Abcd,
            scale: 1.0,
            offset: 0.0,
        }
    }

    #[test]
    fn a_port_that_takes_nothing_is_given_no_request_on_top_of_the_one_before() {
        let line = Line {
            baud: 19_200,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            flow: config::serial::FlowControl::Hardware,
            rs485: false,
        };
        let config = config::Modbus { registers: vec![register("a")], ..config::Modbus::writes_only() };
        let mut bus = ModbusMaster::new("p", &line, &config, Format::Json, Arc::default(), None);
        let mut out = Vec::new();
        for second in 1..100 {
            bus.pump(Micros(second * 1_000_000), &mut out, &mut |_| ());
        }
        assert_eq!(out.len(), 8);
        out.clear();
        for second in 100..102 {
            bus.pump(Micros(second * 1_000_000), &mut out, &mut |_| ());
        }
        assert_eq!(out.len(), 8, "asked again once it was taken");
    }

    #[test]
    fn what_is_written_to_a_unit_is_told_once_in_trouble_however_much_is_lost_in_between() {
        let mut desk = Desk::new("p", Vec::new(), Format::Json, None);
        let trouble = desk.write_trouble(3);
        assert!(trouble.fault(WriteLoss::Overtaken as u8));
        let told = (1..1_000).filter(|n| {
            let now = Micros(n * 100_000);
            trouble.well(now) || trouble.fault(WriteLoss::Overtaken as u8)
        });
        assert_eq!(told.count(), 0);
        assert!(desk.write_trouble(4).fault(WriteLoss::Overtaken as u8), "another unit is another matter");
    }

    #[test]
    fn a_round_is_laid_out_as_the_pipeline_decodes_it() {
        let registers = [register("a"), register("a \"b\""), register("c")];
        let values = [Some(1.5), None, Some(-2e30)];
        let laid = |format| {
            let mut out = Vec::new();
            lay_out(&registers, &values, format, &mut out);
            out
        };
        let json = String::from_utf8(laid(Format::Json)).unwrap();
        assert_eq!(json, r#"{"a":1.5,"a \"b\"":null,"c":-2e+30}"#);
        let csv = String::from_utf8(laid(Format::Csv)).unwrap();
        assert_eq!(csv, "1.5,,-2000000000000000000000000000000");
        let floats = laid(Format::F32le);
        assert_eq!(floats[..4], 1.5f32.to_le_bytes());
        assert!(f32::from_le_bytes(floats[4..8].try_into().unwrap()).is_nan());
    }
}
