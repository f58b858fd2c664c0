//! The binary from outside, among real peers: Debian's mosquitto, the embedded broker, onnxruntime,
//! pymodbus, pyserial, a chip in qemu.
//!
//! One binary for all themes, because linking one is quicker than linking six. Every test ends in
//! a check on what was *published*; `tests/run` installs what is needed.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bad_setup;
mod delivery;
mod embedded_broker;
mod firmware;
mod five_commands;
mod listen;
mod main_way;
mod modbus;
mod mqtt5;
mod notebook;
mod outbox;
mod overload;
mod peers;
mod real_data;
mod safe_mode;
mod serial;
mod serial_page;
mod tls;
