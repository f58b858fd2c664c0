//! What happened on a Modbus bus.

use super::Counter;

/// Why a Modbus request has no good reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModbusFault {
    /// Nothing came.
    Silent,
    /// The unit says no.
    Exception,
    /// Another unit answered.
    OtherUnit,
    /// An answer with a wrong CRC.
    BadCrc,
    /// Something that is no answer.
    Garbage,
}

impl ModbusFault {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::Silent, Self::Exception, Self::OtherUnit, Self::BadCrc, Self::Garbage];

    /// The `fault` label of metrics, and the key in `stats`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Exception => "exception",
            Self::OtherUnit => "other_unit",
            Self::BadCrc => "bad_crc",
            Self::Garbage => "garbage",
        }
    }
}

/// Counters of one Modbus bus.
#[derive(Debug, Default)]
pub struct ModbusCounters {
    /// Requests sent; as a listener: overheard.
    pub requests: Counter,
    /// Good replies.
    pub replies: Counter,
    /// Rounds over all registers.
    pub rounds: Counter,
    /// Rounds that did not begin because the one before took too long, or the bus was never silent.
    pub rounds_skipped: Counter,
    /// Values that a round went without.
    pub values_missing: Counter,
    /// Bytes that belong to no reply.
    pub stray_bytes: Counter,
    faults: [Counter; ModbusFault::ALL.len()],
}

impl ModbusCounters {
    /// The counter of requests without a good reply for this reason.
    pub fn fault(&self, kind: ModbusFault) -> &Counter {
        &self.faults[kind as usize]
    }
}
