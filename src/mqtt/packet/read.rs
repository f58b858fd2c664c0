//! One whole packet from its bytes. Whatever the bytes are, the end is a packet or a [`Malformed`].

use bytes::{Buf, Bytes};

use super::properties::{self, Value, byte, id, two, utf8};
use super::{ConnAck, Packet, Properties, PubAck, Publish, PublishProperties, Reason, SubAck, Welcome};
use crate::config::{Protocol, Qos};

/// Bytes that are not the packet that they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field reaches over the packet's end.
    #[error("a field reaches over the packet's end")]
    Short,
    /// A length of more than four bytes.
    #[error("a length has more than four bytes")]
    Length,
    /// Not UTF-8, or with U+0000.
    #[error("a text is no UTF-8")]
    Text,
    /// Unknown, misplaced or repeated.
    #[error("the property {0:#04x} is unknown or stands twice")]
    Property(u8),
    /// A topic alias, which we never offered.
    #[error("a topic alias, which was not offered")]
    TopicAlias,
    /// Zero.
    #[error("a packet id of zero")]
    PacketId,
    /// There are 0, 1 and 2.
    #[error("a frame at QoS 3, which does not exist")]
    Qos,
    /// A type that a server does not send.
    #[error("a packet of type {0}, which a server does not send at QoS 0 and 1")]
    Kind(u8),
}

/// `first` is the first byte of the fixed header, `body` what follows its length.
pub fn packet(protocol: Protocol, first: u8, mut body: Bytes) -> Result<Packet, Malformed> {
    let v5 = protocol == Protocol::V5;
    match first >> 4 {
        2 => connack(v5, &mut body).map(Packet::ConnAck),
        3 => publish(v5, first, body).map(Packet::Publish),
        4 => {
            let pkid = pkid(&mut body)?;
            Ok(Packet::PubAck(PubAck { pkid, reason: reason(v5, &mut body)? }))
        }
        6 => pkid(&mut body).map(Packet::PubRel),
        9 => suback(v5, &mut body).map(Packet::SubAck),
        11 => pkid(&mut body).map(|_| Packet::UnsubAck),
        13 => Ok(Packet::PingResp),
        14 if v5 => reason(v5, &mut body).map(Packet::Disconnect),
        kind => Err(Malformed::Kind(kind)),
    }
}

fn pkid(body: &mut Bytes) -> Result<u16, Malformed> {
    match two(body)? {
        0 => Err(Malformed::PacketId),
        pkid => Ok(pkid),
    }
}

/// Reason code and properties, each of which may be left out (§3.4.2.1, §3.14.2.1).
fn reason(v5: bool, body: &mut Bytes) -> Result<Reason, Malformed> {
    if !v5 || body.is_empty() {
        return Ok(Reason::new(0));
    }
    let mut reason = Reason::new(byte(body)?);
    if !body.is_empty() {
        reason.text = reason_text(body)?;
    }
    Ok(reason)
}

fn reason_text(body: &mut Bytes) -> Result<Option<Box<str>>, Malformed> {
    let mut said = None;
    properties::read(body, |id, value| {
        if let (id::REASON_STRING, Value::Text(text)) = (id, value) {
            said = Some(text.into());
        }
    })?;
    Ok(said)
}

fn connack(v5: bool, body: &mut Bytes) -> Result<ConnAck, Malformed> {
    let flags = byte(body)?;
    let code = byte(body)?;
    let mut welcome = Welcome { session_present: flags & 1 == 1, ..Welcome::default() };
    if !v5 {
        return Ok(ConnAck { reason: Reason::of_return_code(code), welcome });
    }
    // A server that speaks 3.1.1 only refuses version 5 in its own form: a return code, nothing behind.
    if body.is_empty() && code < 0x80 {
        return Ok(ConnAck { reason: Reason::of_return_code(code), welcome });
    }
    let mut reason = Reason::new(code);
    if !body.is_empty() {
        properties::read(body, |id, value| match (id, value) {
            (id::RECEIVE_MAXIMUM, Value::Number(number)) => welcome.receive_maximum = (number as u16).max(1),
            (id::MAXIMUM_PACKET_SIZE, Value::Number(number)) => welcome.max_packet_bytes = number,
            (id::SERVER_KEEP_ALIVE, Value::Number(number)) => welcome.keep_alive_secs = Some(number as u16),
            (id::MAXIMUM_QOS, Value::Number(number)) => welcome.at_least_once = number > 0,
            (id::RETAIN_AVAILABLE, Value::Number(number)) => welcome.retains = number > 0,
            (id::SESSION_EXPIRY, Value::Number(number)) => welcome.session_expiry_secs = Some(number),
            (id::REASON_STRING, Value::Text(text)) => reason.text = Some(text.into()),
            _ => {}
        })?;
    }
    Ok(ConnAck { reason, welcome })
}

fn publish(v5: bool, first: u8, mut body: Bytes) -> Result<Publish, Malformed> {
    let qos = match (first >> 1) & 0b11 {
        0 => Qos::AtMostOnce,
        1 | 2 => Qos::AtLeastOnce,
        _ => return Err(Malformed::Qos),
    };
    let topic = utf8(&mut body)?;
    let pkid = if qos == Qos::AtLeastOnce { pkid(&mut body)? } else { 0 };
    let mut properties = PublishProperties::default();
    let mut alias = false;
    if v5 {
        properties::read(&mut body, |id, value| match (id, value) {
            (id::MESSAGE_EXPIRY, Value::Number(secs)) => properties.expiry_secs = Some(secs),
            (id::RESPONSE_TOPIC, Value::Text(topic)) => properties.response_topic = Some(topic),
            // Copied: a slice would hold on to the whole packet for as long as the prediction waits.
            (id::CORRELATION, Value::Data(data)) => {
                properties.correlation = Some(Bytes::copy_from_slice(&data))
            }
            (id::USER, Value::Pair(key, value)) => properties.user.push((key, value)),
            (id::TOPIC_ALIAS, _) => alias = true,
            _ => {}
        })?;
    }
    if alias {
        return Err(Malformed::TopicAlias);
    }
    Ok(Publish {
        dup: first & 0b1000 != 0,
        qos,
        exactly_once: (first >> 1) & 0b11 == 2,
        retain: first & 1 == 1,
        topic,
        pkid,
        payload: body,
        properties: Properties::of(properties),
    })
}

fn suback(v5: bool, body: &mut Bytes) -> Result<SubAck, Malformed> {
    let pkid = pkid(body)?;
    let text = if v5 { reason_text(body)? } else { None };
    let grants = body.chunk().iter().map(|&code| match code {
        0 => Ok(Qos::AtMostOnce),
        // A server that grants more than was asked for still sends what we asked for.
        1 | 2 => Ok(Qos::AtLeastOnce),
        code => Err(Reason { code, text: text.clone() }),
    });
    Ok(SubAck { pkid, grants: grants.collect() })
}
