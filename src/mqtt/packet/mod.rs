//! The packets of MQTT 3.1.1 and 5 that a client at QoS 0 and 1 meets, as values; one form for both.
//!
//! [`read`] takes what a server sends, [`Out`] encodes what we send. What only MQTT 5 has (properties,
//! reasons in words, limits of the server) is empty or at its default under 3.1.1, so that nobody
//! further inside asks for the version.

mod out;
mod properties;
pub mod read;
mod reason;

use bytes::Bytes;

pub use out::{Out, PacketTooLarge};
pub use properties::{Properties, PublishProperties, properties_bytes};
pub use reason::Reason;

use crate::config::Qos;

/// A packet from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The answer to CONNECT.
    ConnAck(ConnAck),
    /// A message.
    Publish(Publish),
    /// A message of ours has arrived, or was refused.
    PubAck(PubAck),
    /// The broker has our PUBREC and forgets the message of this packet id (QoS 2).
    PubRel(u16),
    /// The answer to SUBSCRIBE.
    SubAck(SubAck),
    /// The answer to UNSUBSCRIBE; whether there was anything to take back makes no difference.
    UnsubAck,
    /// The answer to PINGREQ.
    PingResp,
    /// The server ends the connection and says why (MQTT 5).
    Disconnect(Reason),
}

/// What a connection says of itself in CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Unique at the broker.
    pub client_id: String,
    /// `false`: the broker keeps subscriptions and unacknowledged frames while we are away.
    pub clean_session: bool,
    /// Longest silence on the line.
    pub keep_alive_secs: u16,
    /// Last will.
    pub will: Option<Will>,
    /// User name and password.
    pub login: Option<(String, String)>,
}

/// A message that the broker publishes at QoS 1 when we vanish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// Kept for later subscribers.
    pub retain: bool,
}

/// The answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Zero: welcome.
    pub reason: Reason,
    /// What holds on this connection.
    pub welcome: Welcome,
}

/// What the server says of itself as it takes a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// It has kept subscriptions and unacknowledged frames.
    pub session_present: bool,
    /// Publications of ours that may be unacknowledged at once.
    pub receive_maximum: u16,
    /// Bytes of the largest packet that it takes.
    pub max_packet_bytes: u32,
    /// Seconds of silence after which it gives us up, where it overrules ours.
    pub keep_alive_secs: Option<u16>,
    /// It takes QoS 1.
    pub at_least_once: bool,
    /// It keeps retained messages.
    pub retains: bool,
    /// Seconds for which it keeps the session, where it overrules ours.
    pub session_expiry_secs: Option<u32>,
}

/// The largest packet that MQTT knows: a fixed header and 268,435,455 bytes (§2.2.3).
pub const LARGEST_PACKET_BYTES: u32 = 5 + 268_435_455;

impl Default for Welcome {
    fn default() -> Self {
        Self {
            session_present: false,
            receive_maximum: u16::MAX,
            max_packet_bytes: LARGEST_PACKET_BYTES,
            keep_alive_secs: None,
            at_least_once: true,
            retains: true,
            session_expiry_secs: None,
        }
    }
}

/// A message, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The server says that it sent it before.
    pub dup: bool,
    /// How it goes out, and how it is answered if it comes in.
    pub qos: Qos,
    /// It came at QoS 2, for which nobody asked in our time: acknowledged by PUBREC instead of PUBACK.
    pub exactly_once: bool,
    /// Kept by the broker for later subscribers; or such a one.
    pub retain: bool,
    /// A concrete topic.
    pub topic: String,
    /// Zero at QoS 0.
    pub pkid: u16,
    /// Anything.
    pub payload: Bytes,
    /// What MQTT 5 carries beside it.
    pub properties: Properties,
}

impl Publish {
    /// At QoS 0, without properties.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            dup: false,
            qos: Qos::AtMostOnce,
            exactly_once: false,
            retain: false,
            topic: topic.into(),
            pkid: 0,
            payload: payload.into(),
            properties: Properties::default(),
        }
    }
}

/// A message of ours has arrived, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// Of which.
    pub pkid: u16,
    /// Success under 3.1.1.
    pub reason: Reason,
}

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Of which.
    pub pkid: u16,
    /// One for each filter: the quality granted, or the refusal.
    pub grants: Vec<Result<Qos, Reason>>,
}

#[cfg(test)]
mod tests;
