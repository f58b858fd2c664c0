//! `[pipeline.source.modbus]` as meant: who asks, how often, and what is read.

use std::time::Duration;

use crate::modbus::Register;

/// `[pipeline.source.modbus]`
#[derive(Clone, Debug, PartialEq)]
pub struct Modbus {
    /// Who asks.
    pub role: ModbusRole,
    /// From the start of a round to the start of the next; of a listener, a round's longest time.
    pub period: Duration,
    /// How long a unit may think.
    pub reply_timeout: Duration,
    /// How often a request is repeated within a round.
    pub retries: u32,
    /// What is read; names are unique.
    pub registers: Vec<Register>,
}

impl Modbus {
    /// Of a bus on which nothing is read and verdicts are written.
    pub fn writes_only() -> Self {
        Self {
            role: ModbusRole::Master,
            period: Duration::from_secs(1),
            reply_timeout: Duration::from_millis(500),
            retries: 0,
            registers: Vec::new(),
        }
    }
}

/// Who asks on a Modbus bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModbusRole {
    /// We do.
    Master,
    /// Somebody else does, and we overhear it.
    Listener,
}
