//! MQTT 3.1.1 and 5: a pure machine over packets, and one thread a connection around it.
//!
//! At QoS 0 and 1 a client's side of MQTT is small, and settlement needs of it what client libraries do
//! not offer: acknowledgements in receive order, a token from each publication to its PUBACK, nothing
//! queued out of our sight, oversize payloads skipped rather than fatal, a watchdog
//! (`docs/ARCHITECTURE.md` lists them). So packets and machine are our own; tests hold them against
//! rumqttc's codec and against mosquitto.
//!
//! - [`packet`]: packets as values, one form for both versions
//! - [`wire`]: bytes → packets, skipping what is too large to hold
//! - [`link`]: one connection over its whole life, as a function of packets and time
//! - [`acks`]: which frames may be acknowledged, in receive order
//! - [`topic`]: filters with named levels
//! - [`talk`]: what is said on one connection, as a function of bytes and time
//! - [`driver`]: the thread, the socket, TLS
//! - [`client`]: sends messages once over the same machine, for tools
//!
//! Not here: what frames mean or what is published; that is a [`link::Role`] of a stage.

pub mod acks;
pub mod client;
pub mod driver;
pub mod link;
pub mod packet;
pub mod talk;
pub mod tls;
pub mod topic;
pub mod wire;

pub use acks::Ledger;
pub use driver::{Handle, Settings};
pub use link::{Greeting, LinkError, Role};
pub use topic::{Filter, Template};
pub use wire::{Incoming, Oversize};
