//! Requests to bytes, bytes to replies.
//!
//! An ADU is `unit, function, data…, CRC low, CRC high`, at most 256 bytes; numbers are big-endian,
//! the CRC-16 is not. A reply names neither address nor count: only what was [`Asked`] gives it a
//! meaning, and it is held against that.
//! Not here: time. `core` only.

use core::fmt;

use crc::{CRC_16_MODBUS, Crc, Table as CrcTable};

use crate::base::counters::ModbusFault;

/// Longest ADU: "MODBUS over Serial Line", 2.3.
pub const MAX_ADU: usize = 256;
/// Requests with this unit go to all units, and none replies.
pub const BROADCAST: u8 = 0;
/// Units that can be asked; 248 to 255 are reserved.
pub const MAX_UNIT: u8 = 247;
/// Set in the function code of a reply that says why not.
pub const EXCEPTION: u8 = 0x80;
const EXCEPTION_LEN: usize = 5;

static CRC: Crc<u16, CrcTable<1>> = Crc::<u16, CrcTable<1>>::new(&CRC_16_MODBUS);

/// A request or a reply with everything around it.
pub type Adu = heapless::Vec<u8, MAX_ADU>;

/// The four address spaces of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Single bits that can be written ("0x").
    Coils,
    /// Single bits that can only be read ("1x").
    DiscreteInputs,
    /// 16-bit registers that can be written ("4x").
    HoldingRegisters,
    /// 16-bit registers that can only be read ("3x").
    InputRegisters,
}

impl Table {
    /// Whether an address holds one bit; else it holds 16.
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coils | Self::DiscreteInputs)
    }

    /// Most that one request may ask for.
    pub const fn max_count(self) -> u16 {
        if self.is_bits() { 2000 } else { 125 }
    }

    /// For messages: `holding register`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coils => "coil",
            Self::DiscreteInputs => "discrete input",
            Self::HoldingRegisters => "holding register",
            Self::InputRegisters => "input register",
        }
    }
}

/// What is asked of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Functions 1 to 4: `count` addresses from `address` on.
    #[expect(missing_docs, reason = "named after the specification")]
    Read { table: Table, address: u16, count: u16 },
    /// Function 5.
    #[expect(missing_docs, reason = "named after the specification")]
    WriteCoil { address: u16, on: bool },
    /// Function 6.
    #[expect(missing_docs, reason = "named after the specification")]
    WriteRegister { address: u16, value: u16 },
    /// Function 15.
    #[expect(missing_docs, reason = "named after the specification")]
    WriteCoils { address: u16, on: &'a [bool] },
    /// Function 16.
    #[expect(missing_docs, reason = "named after the specification")]
    WriteRegisters { address: u16, values: &'a [u16] },
}

/// A request that no unit could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// None at all, or more than one ADU holds.
    #[error("{count} addresses in one request; 1 to {max} are possible")]
    Count {
        /// Asked for.
        count: usize,
        /// Possible.
        max: u16,
    },
    /// Beyond address 65,535.
    #[error("{count} addresses from {address} on go beyond 65535")]
    Range {
        /// The first.
        address: u16,
        /// How many.
        count: usize,
    },
    /// A reserved unit, or a question to all of them.
    #[error("unit {0} cannot be asked; units are 1 to 247, and 0 takes writes only")]
    Unit(u8),
}

impl Request<'_> {
    /// The function code.
    pub const fn function(&self) -> u8 {
        match self {
            Self::Read { table: Table::Coils, .. } => 1,
            Self::Read { table: Table::DiscreteInputs, .. } => 2,
            Self::Read { table: Table::HoldingRegisters, .. } => 3,
            Self::Read { table: Table::InputRegisters, .. } => 4,
            Self::WriteCoil { .. } => 5,
            Self::WriteRegister { .. } => 6,
            Self::WriteCoils { .. } => 15,
            Self::WriteRegisters { .. } => 16,
        }
    }

    /// Writes the ADU for `unit` into `out`, which is emptied first. What comes back is what the reply
    /// will be held against.
    pub fn encode(&self, unit: u8, out: &mut Adu) -> Result<Asked, RequestError> {
        let is_read = matches!(self, Self::Read { .. });
        if unit > MAX_UNIT || (unit == BROADCAST && is_read) {
            return Err(RequestError::Unit(unit));
        }
        let (address, count, max, operand) = match *self {
            Self::Read { table, address, count } => (address, count.into(), table.max_count(), count),
            Self::WriteCoil { address, on } => (address, 1, 1, if on { 0xff00 } else { 0 }),
            Self::WriteRegister { address, value } => (address, 1, 1, value),
            // The limits leave room in the ADU: 9 + 246 bytes of bits or registers, and the CRC.
            Self::WriteCoils { address, on } => (address, on.len(), 1968, on.len() as u16),
            Self::WriteRegisters { address, values } => (address, values.len(), 123, values.len() as u16),
        };
        if count == 0 || count > usize::from(max) {
            return Err(RequestError::Count { count, max });
        }
        if usize::from(address) + count > 0x1_0000 {
            return Err(RequestError::Range { address, count });
        }
        out.clear();
        let mut put = |bytes: &[u8]| {
            out.extend_from_slice(bytes).expect("the limits on the count keep an ADU within 256 bytes");
        };
        put(&[unit, self.function()]);
        put(&address.to_be_bytes());
        put(&operand.to_be_bytes());
        match self {
            Self::WriteCoils { on, .. } => {
                put(&[on.len().div_ceil(8) as u8]);
                for eight in on.chunks(8) {
                    put(&[eight.iter().rev().fold(0, |byte, on| byte << 1 | u8::from(*on))]);
                }
            }
            Self::WriteRegisters { values, .. } => {
                put(&[2 * values.len() as u8]);
                values.iter().for_each(|value| put(&value.to_be_bytes()));
            }
            Self::Read { .. } | Self::WriteCoil { .. } | Self::WriteRegister { .. } => {}
        }
        let crc = CRC.checksum(out);
        out.extend_from_slice(&crc.to_le_bytes()).expect("as above");
        Ok(Asked { unit, function: self.function(), address, operand })
    }
}

/// What a request asked, as far as its reply is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whom.
    pub unit: u8,
    /// By which function.
    pub function: u8,
    /// From which address on.
    pub address: u16,
    /// How many addresses; of a single write, the value.
    pub operand: u16,
}

/// A reply that answers what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Functions 1 and 2: eight addresses a byte, the lowest in the lowest bit.
    Bits(&'a [u8]),
    /// Functions 3 and 4: two bytes an address.
    Registers(&'a [u8]),
    /// Functions 5, 6, 15, 16: done.
    Written,
}

/// Why a request has no answer. The poll goes on after every one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing came.
    #[error("no answer; check wiring (A and B swapped?), power, unit number, baud and parity")]
    Silent,
    /// The unit understood, and says no.
    #[error("{0}")]
    Exception(Exception),
    /// A whole ADU with a good CRC, of somebody else.
    #[error("unit {0} answered instead; are two units set to one number, or does another master ask here?")]
    OtherUnit(u8),
    /// Beginning and length are right.
    #[error(
        "the reply's CRC is {found:#06x}, its bytes give {computed:#06x}; noise, or a missing terminator?"
    )]
    BadCrc {
        /// In the reply.
        found: u16,
        /// Of its bytes.
        computed: u16,
    },
    /// A whole ADU of the right unit, and not what was asked for.
    #[error("a reply to something else: {0} bytes")]
    OtherReply(usize),
    /// Bytes that are no reply at all.
    #[error("{0} bytes that are no reply; check baud and parity, and who else sends on this bus")]
    Garbage(usize),
}

impl Fault {
    /// Its name in counters.
    pub const fn kind(self) -> ModbusFault {
        match self {
            Self::Silent => ModbusFault::Silent,
            Self::Exception(_) => ModbusFault::Exception,
            Self::OtherUnit(_) => ModbusFault::OtherUnit,
            Self::BadCrc { .. } => ModbusFault::BadCrc,
            Self::OtherReply(_) | Self::Garbage(_) => ModbusFault::Garbage,
        }
    }
}

/// Code of an exception reply: "MODBUS Application Protocol", 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception(pub u8);

impl Exception {
    /// The address is not the unit's, at least not in that table or in one piece.
    pub const ILLEGAL_ADDRESS: Self = Self(2);
    /// Also how some units refuse a count that they do not like.
    pub const ILLEGAL_VALUE: Self = Self(3);
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(code) = *self;
        let meaning = match code {
            1 => "illegal function: this unit has no such table, or does not let it be written",
            2 => {
                "illegal data address: it has no such address; addresses count from 0, so that a manual's 40001 \
                  is holding register 0"
            }
            3 => "illegal data value: it does not take this count or value",
            4 => "server device failure: it broke down while doing it",
            5 => "acknowledge: it needs longer to do it",
            6 => "server device busy: ask again later",
            8 => "memory parity error: its memory is faulty",
            10 => "gateway path unavailable: the gateway is overloaded or wrongly configured",
            11 => "gateway target failed to respond: the unit behind the gateway is silent",
            _ => "not in the specification; see the unit's manual",
        };
        write!(f, "exception {code} ({meaning})")
    }
}

/// What a run of bytes holds in the way of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The answer, and the bytes before and after it that belong to nobody.
    Reply {
        /// What it says.
        reply: Reply<'a>,
        /// Bytes around it.
        stray: usize,
    },
    /// Nothing that is over; more bytes may complete it.
    NotYet,
    /// It came to its end and is wrong; what follows can hardly mend it.
    Fault(Fault),
}

/// More bytes are needed to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished;

impl Asked {
    /// Length of an answer that is no exception.
    pub const fn reply_len(&self) -> usize {
        match self.function {
            1 | 2 => 5 + self.operand.div_ceil(8) as usize,
            3 | 4 => 5 + 2 * self.operand as usize,
            _ => 8,
        }
    }

    /// The table that is read.
    pub const fn table(&self) -> Option<Table> {
        match self.function {
            1 => Some(Table::Coils),
            2 => Some(Table::DiscreteInputs),
            3 => Some(Table::HoldingRegisters),
            4 => Some(Table::InputRegisters),
            _ => None,
        }
    }

    /// The request at the start of `bytes`, with its length; for whoever overhears. `Ok(None)`: there is
    /// none.
    pub fn overheard(bytes: &[u8]) -> Result<Option<(Self, usize)>, Unfinished> {
        let [unit, function, ref rest @ ..] = *bytes else { return Err(Unfinished) };
        let len = match (function, rest) {
            (1..=6, _) => 8,
            (15 | 16, [_, _, high, low, count, ..]) => {
                let operand = usize::from(u16::from_be_bytes([*high, *low]));
                let data = if function == 15 { operand.div_ceil(8) } else { 2 * operand };
                // A length that contradicts itself is noise, and not worth waiting for.
                if data == 0 || data != usize::from(*count) {
                    return Ok(None);
                }
                9 + data
            }
            (15 | 16, _) => return Err(Unfinished),
            _ => return Ok(None),
        };
        if len > MAX_ADU {
            return Ok(None);
        }
        let adu = bytes.get(..len).ok_or(Unfinished)?;
        let asked = Self {
            unit,
            function,
            address: u16::from_be_bytes([adu[2], adu[3]]),
            operand: u16::from_be_bytes([adu[4], adu[5]]),
        };
        let has_sense = match asked.table() {
            Some(table) => unit != BROADCAST && (1..=table.max_count()).contains(&asked.operand),
            None => true,
        };
        Ok((has_sense && is_sealed(adu)).then_some((asked, len)))
    }

    /// Whether `bytes` begin with this very request, as a two-wire adapter hands it back.
    pub fn is_echoed_by(&self, bytes: &[u8]) -> bool {
        matches!(Self::overheard(bytes), Ok(Some((echo, _))) if echo == *self)
    }

    /// Whether `bytes`, an ADU's beginning, can be of an answer to this: as far as they go.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        let [unit, function, rest @ ..] = bytes else { return bytes.first().is_none_or(|b| *b == self.unit) };
        *unit == self.unit
            && (*function == self.function | EXCEPTION
                || *function == self.function
                    && match (self.table(), rest) {
                        (_, []) => true,
                        (Some(_), [count, ..]) => usize::from(*count) == self.reply_len() - 5,
                        (None, echo) => {
                            let [a, b] = self.address.to_be_bytes();
                            let [c, d] = self.operand.to_be_bytes();
                            echo.iter().zip([a, b, c, d]).all(|(found, sent)| *found == sent)
                        }
                    })
    }

    /// Length of the answer that begins like this; at least two bytes.
    const fn len_of(&self, function: u8) -> usize {
        if function & EXCEPTION == 0 { self.reply_len() } else { EXCEPTION_LEN }
    }

    /// The answer that stands at the start of `bytes`, with its length. `None`: another beginning, not
    /// enough bytes, or a wrong CRC.
    pub fn answer_at_start<'a>(&self, bytes: &'a [u8]) -> Option<(Result<Reply<'a>, Exception>, usize)> {
        let [_, function, code, ..] = *bytes else { return None };
        let len = self.len_of(function);
        if !self.may_begin(bytes) || !is_sealed(bytes.get(..len)?) {
            return None;
        }
        let data = || bytes.get(3..len - 2).unwrap_or_default();
        let answer = match (function & EXCEPTION != 0, self.table()) {
            (true, _) => Err(Exception(code)),
            (false, None) => Ok(Reply::Written),
            (false, Some(table)) if table.is_bits() => Ok(Reply::Bits(data())),
            (false, Some(_)) => Ok(Reply::Registers(data())),
        };
        Some((answer, len))
    }

    /// Whether more bytes can still make `bytes` an answer that stands at their start.
    pub fn is_unfinished(&self, bytes: &[u8]) -> bool {
        self.may_begin(bytes) && bytes.get(1).is_none_or(|function| bytes.len() < self.len_of(*function))
    }

    /// Looks for the answer in everything that came since the question. Bytes before it are what a
    /// line without bias resistors, or a driver that is switched on, leaves on the bus.
    pub fn find<'a>(&self, bytes: &'a [u8]) -> Found<'a> {
        let mut unfinished = false;
        let mut spoilt = None;
        for at in 0..bytes.len() {
            let rest = &bytes[at..];
            match self.answer_at_start(rest) {
                Some((Ok(reply), len)) => return Found::Reply { reply, stray: bytes.len() - len },
                Some((Err(exception), _)) => return Found::Fault(Fault::Exception(exception)),
                None if self.is_unfinished(rest) => unfinished = true,
                None if spoilt.is_none() && rest.len() >= 2 && self.may_begin(rest) => {
                    let (body, found) = rest[..self.len_of(rest[1])].split_at(self.len_of(rest[1]) - 2);
                    let (found, computed) = (u16::from_le_bytes([found[0], found[1]]), CRC.checksum(body));
                    spoilt = Some(Fault::BadCrc { found, computed });
                }
                None => {}
            }
        }
        match spoilt {
            Some(fault) if !unfinished => Found::Fault(fault),
            _ => Found::NotYet,
        }
    }

    /// What to say of `bytes` when time is up and no answer was found in them.
    pub fn fault_of(&self, bytes: &[u8]) -> Fault {
        match self.find(bytes) {
            Found::Fault(fault) => return fault,
            Found::Reply { .. } | Found::NotYet if bytes.is_empty() => return Fault::Silent,
            Found::Reply { .. } | Found::NotYet => {}
        }
        // Anybody's whole ADU, told by its CRC.
        if is_sealed(bytes) {
            return match bytes[0] {
                unit if unit == self.unit => Fault::OtherReply(bytes.len()),
                unit => Fault::OtherUnit(unit),
            };
        }
        Fault::Garbage(bytes.len())
    }
}

/// Length of the shortest beginning of `bytes` that ends in the CRC of what stands before it.
pub fn sealed_len(bytes: &[u8]) -> Option<usize> {
    let mut digest = CRC.digest();
    let (start, rest) = bytes.split_at_checked(3)?;
    digest.update(start);
    // The CRC of bytes with their CRC behind them is 0.
    let sealed = rest.iter().position(|byte| {
        digest.update(&[*byte]);
        digest.clone().finalize() == 0
    });
    sealed.map(|at| start.len() + at + 1).filter(|len| *len <= MAX_ADU)
}

/// Whether `adu` ends in the CRC of what stands before it.
pub fn is_sealed(adu: &[u8]) -> bool {
    match adu.split_last_chunk::<2>() {
        Some((body, crc)) => body.len() >= 2 && CRC.checksum(body).to_le_bytes() == *crc,
        None => false,
    }
}
