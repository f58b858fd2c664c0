//! MQTT 3.1.1: a pure machine over rumqttc's packets, and one thread a connection around it.
//!
//! Packets are encoded and decoded by `rumqttc::mqttbytes`. Its event loop is left out: settlement
//! needs acknowledgements in receive order, a token from each publication to its PUBACK, nothing
//! queued out of our sight, oversize payloads skipped rather than fatal, and a watchdog; the event
//! loop offers none of these (`docs/ARCHITECTURE.md` lists them).
//!
//! - [`wire`]: bytes → packets, skipping what is too large to hold
//! - [`link`]: one connection over its whole life, as a function of packets and time
//! - [`acks`]: which frames may be acknowledged, in receive order
//! - [`topic`]: filters with named levels
//! - [`driver`]: the thread, the socket, TLS
//! - [`client`]: sends messages once over the same machine, for tools
//!
//! Not here: what frames mean or what is published; that is a [`link::Role`] of a stage.

pub mod acks;
pub mod client;
pub mod driver;
pub mod link;
pub mod tls;
pub mod topic;
pub mod wire;

pub use acks::Ledger;
pub use driver::{Handle, Settings};
pub use link::{Greeting, LinkError, Role};
pub use topic::{Filter, Template};
pub use wire::{Incoming, Oversize};

/// rumqttc's packets, so that roles name this module only.
pub mod packet {
    pub use rumqttc::SubscribeReasonCode;
    pub use rumqttc::mqttbytes::QoS;
    pub use rumqttc::mqttbytes::v4::{LastWill, Packet, PubAck, Publish, SubAck, Subscribe, SubscribeFilter};
}
