//! Modbus RTU: registers of meters, drives and controllers on a two-wire bus.
//!
//! The protocol as pure functions of bytes and time ("MODBUS over Serial Line V1.02" and "MODBUS
//! Application Protocol V1.1b3"): what a request looks like ([`wire`]), how long everything takes
//! ([`timing`]), what a register means ([`register`]), and the two sides that we can be: a [`master`]
//! that asks, or a [`listener`] on a bus that somebody else drives.
//!
//! Promise: any bytes in any portions are survived; a reply is believed only if it comes from the unit
//! that was asked, answers what was asked and carries the right CRC; whatever else came is counted.
//! Not here: the port (`stage::acquire`), what the values mean to a model (`stage::decode`).
//!
//! Why not a crate: `rmodbus` (`no_std`, the referee of our tests) answers a bad reply with a bare
//! kind, neither unit nor value, and has no listener and no time; `tokio-modbus` opens the port itself
//! through a second serial crate. What remains to write without them is one file, `wire.rs`.

pub mod listener;
pub mod master;
pub mod register;
pub mod timing;
mod trouble;
pub mod wire;

#[cfg(test)]
mod tests;

pub use listener::Listener;
pub use master::{Master, Write};
pub use register::{Order, Register, Type};
pub use timing::Timing;
pub use trouble::Trouble;
pub use wire::{Adu, Asked, Exception, Fault, Request, Table};
