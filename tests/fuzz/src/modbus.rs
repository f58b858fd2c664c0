//! Modbus: any bytes at any time are survived, nothing is invented from them, and afterwards the bus
//! is heard as before.

use std::sync::Arc;
use std::time::Duration;

use lineside::base::Micros;
use lineside::base::counters::ModbusCounters;
use lineside::modbus::wire::{Adu, Asked, Found, is_sealed};
use lineside::modbus::{Listener, Master, Order, Register, Request, Table, Timing, Type, listener, master};

fn timing() -> Timing {
    Timing::new(19_200, 1, 1, Duration::from_millis(100))
}

fn registers() -> Vec<Register> {
    let register = |unit, table, address, kind| Register {
        name: "r".into(),
        unit,
        table,
        address,
        kind,
        order: Order::Abcd,
        scale: 1.0,
        offset: 0.0,
    };
    vec![
        register(1, Table::HoldingRegisters, 10, Type::U16),
        register(1, Table::HoldingRegisters, 11, Type::F32),
        register(2, Table::Coils, 3, Type::Bit),
    ]
}

/// The CRC-16 of the standard, bit by bit: another one than the library's.
fn sealed(mut adu: Vec<u8>) -> Vec<u8> {
    let mut crc = 0xffffu16;
    for byte in &adu {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xa001 };
        }
    }
    adu.extend(crc.to_le_bytes());
    adu
}

/// What a unit answers to a request for registers or bits: zeros.
fn answer(request: &[u8]) -> Vec<u8> {
    let count = usize::from(u16::from_be_bytes([request[4], request[5]]));
    let bytes = if request[1] <= 2 { count.div_ceil(8) } else { 2 * count };
    let mut reply = vec![request[0], request[1], bytes as u8];
    reply.extend(vec![0; bytes]);
    sealed(reply)
}

/// The first bytes choose a question; the rest is what comes instead of an answer, or with it.
pub fn modbus_wire(data: &[u8]) {
    let [unit, table, address, count, stream @ ..] = data else { return };
    let table = [Table::Coils, Table::DiscreteInputs, Table::HoldingRegisters, Table::InputRegisters]
        [usize::from(*table) % 4];
    let request =
        Request::Read { table, address: u16::from(*address) * 7, count: 1 + u16::from(*count) % 125 };
    let mut adu = Adu::new();
    let Ok(asked) = request.encode(1 + unit % 247, &mut adu) else { return };
    assert!(is_sealed(&adu) && sealed(adu[..adu.len() - 2].to_vec()) == adu[..]);
    assert_eq!(Asked::overheard(&adu), Ok(Some((asked, adu.len()))));
    if let Found::Reply { stray, .. } = asked.find(stream) {
        assert_eq!(stray, stream.len() - asked.reply_len());
    }
    let _ = asked.fault_of(stream);
    if let Ok(Some((heard, len))) = Asked::overheard(stream) {
        assert!(len <= stream.len() && is_sealed(&stream[..len]), "{heard:?}");
    }
    // Bytes that cannot be the beginning of the answer do not hide it.
    let clean: Vec<u8> = stream.iter().map(|byte| if *byte == asked.unit { 0xff } else { *byte }).collect();
    let heard = [&clean[..], &answer(&adu)].concat();
    let found = asked.find(&heard);
    assert!(matches!(found, Found::Reply { stray, .. } if stray == clean.len()), "{found:?}");
}

/// Portions of 1 to 16 bytes with pauses of up to 150 ms: a byte says how long each, and how many.
fn portions(data: &[u8]) -> Vec<(Duration, &[u8])> {
    let mut rest = data;
    let mut portions = Vec::new();
    while let [head, behind @ ..] = rest
        && !behind.is_empty()
    {
        let bytes = (1 + usize::from(head & 15)).min(behind.len());
        portions.push((Duration::from_millis(u64::from(head >> 4) * 10), &behind[..bytes]));
        rest = &behind[bytes..];
    }
    portions
}

struct Ear {
    listener: Listener,
    counters: Arc<ModbusCounters>,
    rounds: Vec<Vec<Option<f64>>>,
}

impl Ear {
    fn new() -> Self {
        let counters = Arc::new(ModbusCounters::default());
        let listener = Listener::new(timing(), Duration::from_secs(1), registers(), counters.clone());
        Self { listener, counters, rounds: Vec::new() }
    }

    fn hear(&mut self, now: Micros, bytes: &[u8]) {
        let rounds = &mut self.rounds;
        self.listener.received(now, bytes, &mut |event| {
            if let listener::Event::Round(values) = event {
                rounds.push(values.to_vec());
            }
        });
    }
}

/// Overheard: in portions of one byte it is the same, and after a silence all is well.
pub fn modbus_listener(data: &[u8]) {
    let (mut whole, mut bytewise, mut now) = (Ear::new(), Ear::new(), Micros(1_000_000));
    for (pause, bytes) in portions(data) {
        now = now + pause;
        whole.hear(now, bytes);
        bytes.iter().for_each(|byte| bytewise.hear(now, std::slice::from_ref(byte)));
    }
    now = now + Duration::from_secs(3);
    whole.hear(now, &[]);
    bytewise.hear(now, &[]);
    // NaN is a value, and no number equals it.
    assert_eq!(format!("{:?}", whole.rounds), format!("{:?}", bytewise.rounds), "portions matter");
    let counts = |ear: &Ear| {
        let ModbusCounters { replies, requests, stray_bytes, .. } = &*ear.counters;
        [replies, requests, stray_bytes].map(|counter| counter.get())
    };
    assert_eq!(counts(&whole), counts(&bytewise), "portions matter");
    whole.rounds.clear();
    for (unit, table, address, count) in [(1, Table::HoldingRegisters, 10, 3), (2, Table::Coils, 0, 8)] {
        let mut adu = Adu::new();
        Request::Read { table, address, count }.encode(unit, &mut adu).expect("a good request");
        whole.hear(now, &adu);
        whole.hear(now, &answer(&adu));
    }
    assert_eq!(whole.rounds, [vec![Some(0.0); 3]], "after the noise the bus is heard");
}

/// Asking: one request at a time, and the poll goes on whatever comes.
pub fn modbus_master(data: &[u8]) {
    let settings = master::Settings { timing: timing(), period: Duration::from_secs(1), retries: 1 };
    let mut now = Micros(1_000_000);
    let mut poll = Master::new(settings, registers(), Arc::default(), now);
    let mut out = Vec::new();
    for (pause, bytes) in portions(data) {
        out.clear();
        poll.pump(now, &mut out, &mut |_| ());
        assert!(out.len() <= 8, "one request at a time: {out:x?}");
        poll.received(now, bytes, &mut |_| ());
        now = now + pause;
    }
    // What is out runs into its time-out; a unit that was rested comes back.
    now = now + Duration::from_secs(40);
    poll.pump(now, &mut Vec::new(), &mut |_| ());
    now = now + Duration::from_secs(2);
    let mut last = None;
    for _ in 0..8_000 {
        out.clear();
        let mut tell = |event: master::Event<'_>| {
            if let master::Event::Round(values) = event {
                last = Some(values.to_vec());
            }
        };
        poll.pump(now, &mut out, &mut tell);
        if !out.is_empty() {
            now = now + Duration::from_millis(20);
            poll.received(now, &answer(&out), &mut tell);
        }
        if last.as_ref().is_some_and(|values| values.iter().all(Option::is_some)) {
            return;
        }
        now = now + Duration::from_millis(5);
    }
    panic!("the poll does not go on: {last:?}");
}
