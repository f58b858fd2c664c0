//! Properties of MQTT 5 (§2.2.2): the list that stands in every packet of that version.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::read::Malformed;

/// What a message carries beside its payload; nothing under 3.1.1, and one pointer when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Option<Box<PublishProperties>>);

/// The properties of a PUBLISH that we know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// Seconds after which the message is of no use any more, counted from its arrival here.
    pub expiry_secs: Option<u32>,
    /// Where the sender wants the answer.
    pub response_topic: Option<String>,
    /// By which the sender knows the answer.
    pub correlation: Option<Bytes>,
    /// Keys and values of the sender's own, in order; keys may repeat.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// These; nothing where they are empty.
    pub fn of(properties: PublishProperties) -> Self {
        Self((properties != PublishProperties::default()).then(|| Box::new(properties)))
    }

    /// What there is.
    pub fn get(&self) -> Option<&PublishProperties> {
        self.0.as_deref()
    }

    /// Bytes of the encoded list, without its own length.
    pub(super) fn encoded_bytes(&self) -> usize {
        let Some(properties) = self.get() else { return 0 };
        let field = |length: usize| 1 + 2 + length;
        properties.expiry_secs.map_or(0, |_| 1 + 4)
            + properties.response_topic.as_ref().map_or(0, |topic| field(topic.len()))
            + properties.correlation.as_ref().map_or(0, |data| field(data.len()))
            + properties.user.iter().map(|(key, value)| field(key.len()) + 2 + value.len()).sum::<usize>()
    }

    /// Appends the list, without its own length.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let Some(properties) = self.get() else { return };
        if let Some(secs) = properties.expiry_secs {
            out.put_u8(id::MESSAGE_EXPIRY);
            out.put_u32(secs);
        }
        if let Some(topic) = &properties.response_topic {
            out.put_u8(id::RESPONSE_TOPIC);
            super::out::text(out, topic.as_bytes());
        }
        if let Some(data) = &properties.correlation {
            out.put_u8(id::CORRELATION);
            super::out::text(out, data);
        }
        for (key, value) in &properties.user {
            out.put_u8(id::USER);
            super::out::text(out, key.as_bytes());
            super::out::text(out, value.as_bytes());
        }
    }
}

/// Identifiers (§2.2.2.2).
pub(super) mod id {
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0b;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const REASON_STRING: u8 = 0x1f;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

/// One property's value.
#[derive(Debug)]
pub(super) enum Value {
    Number(u32),
    Text(String),
    Data(Bytes),
    Pair(String, String),
}

/// Reads a list with its length and hands each property to `each`. Unknown identifiers and those that
/// stand twice are against the protocol (§2.2.2.2).
pub(super) fn read(body: &mut Bytes, mut each: impl FnMut(u8, Value)) -> Result<(), Malformed> {
    let length = varint(body)?;
    if body.len() < length {
        return Err(Malformed::Short);
    }
    let mut list = body.split_to(length);
    let mut seen = 0u64;
    while let Some((&id, _)) = list.split_first() {
        list.advance(1);
        let repeats = matches!(id, id::USER | id::SUBSCRIPTION_ID);
        if id >= 64 || (seen & (1 << id) != 0 && !repeats) {
            return Err(Malformed::Property(id));
        }
        seen |= 1 << id;
        let value = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::Number(byte(&mut list)?.into()),
            0x13 | 0x21 | 0x22 | 0x23 => Value::Number(two(&mut list)?.into()),
            0x02 | 0x11 | 0x18 | 0x27 => {
                let bytes = list.split_first_chunk::<4>().ok_or(Malformed::Short)?.0;
                let number = u32::from_be_bytes(*bytes);
                list.advance(4);
                Value::Number(number)
            }
            id::SUBSCRIPTION_ID => Value::Number(varint(&mut list)? as u32),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Value::Text(utf8(&mut list)?),
            0x09 | 0x16 => Value::Data(data(&mut list)?),
            id::USER => Value::Pair(utf8(&mut list)?, utf8(&mut list)?),
            unknown => return Err(Malformed::Property(unknown)),
        };
        each(id, value);
    }
    Ok(())
}

/// Bytes of a list with its own length, once that length has come whole.
pub fn properties_bytes(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some(i + 1 + value));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed::Length) }
}

pub(super) fn byte(body: &mut Bytes) -> Result<u8, Malformed> {
    let byte = *body.first().ok_or(Malformed::Short)?;
    body.advance(1);
    Ok(byte)
}

pub(super) fn two(body: &mut Bytes) -> Result<u16, Malformed> {
    let number = u16::from_be_bytes(*body.split_first_chunk::<2>().ok_or(Malformed::Short)?.0);
    body.advance(2);
    Ok(number)
}

/// A length field and as many bytes.
pub(super) fn data(body: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = usize::from(two(body)?);
    if body.len() < length {
        return Err(Malformed::Short);
    }
    Ok(body.split_to(length))
}

pub(super) fn utf8(body: &mut Bytes) -> Result<String, Malformed> {
    let bytes = data(body)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Malformed::Text)?;
    // §1.5.4: U+0000 must not stand in a text.
    if text.contains('\0') { Err(Malformed::Text) } else { Ok(text.to_owned()) }
}

/// A variable byte integer (§1.5.5).
fn varint(body: &mut Bytes) -> Result<usize, Malformed> {
    let Some(whole) = properties_bytes(body)? else { return Err(Malformed::Short) };
    let own = body.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
    body.advance(own);
    Ok(whole - own)
}
