//! What must hold of any bytes that come over a wire. A target for each framing and each side of
//! Modbus; every input is a few bytes of choice and the stream behind them.

mod framing;
mod modbus;

pub use framing::{cobs, fixed, length, line, packet, slip};
pub use modbus::{modbus_listener, modbus_master, modbus_wire};

/// Every target by its name, which is that of its corpus.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("cobs", cobs),
    ("slip", slip),
    ("line", line),
    ("length", length),
    ("fixed", fixed),
    ("packet", packet),
    ("modbus_wire", modbus_wire),
    ("modbus_listener", modbus_listener),
    ("modbus_master", modbus_master),
];
