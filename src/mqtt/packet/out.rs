//! What we send, encoded as it is said, and what waits for the socket.

use std::ops::{Deref, DerefMut};

use bytes::{BufMut, BytesMut};

use super::properties::id;
use super::{Connect, LARGEST_PACKET_BYTES, Properties, Publish};
use crate::config::{Protocol, Qos};

/// Bytes on their way to the socket; derefs to them.
#[derive(Debug)]
pub struct Out {
    bytes: BytesMut,
    protocol: Protocol,
    /// The server takes no larger packet.
    max_packet_bytes: u32,
    /// The server keeps no retained messages, and ends a connection over one.
    drops_retain: bool,
}

/// A message that the server would not take; the connection would end over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message makes a packet of {bytes} bytes; the broker takes at most {limit}")]
pub struct PacketTooLarge {
    /// Of the whole packet.
    pub bytes: usize,
    /// What the server said.
    pub limit: u32,
}

impl Out {
    /// Nothing waits yet.
    pub fn new(protocol: Protocol) -> Self {
        Self { bytes: BytesMut::new(), protocol, max_packet_bytes: LARGEST_PACKET_BYTES, drops_retain: false }
    }

    /// The server has said how much it takes.
    pub fn limit(&mut self, max_packet_bytes: u32) {
        self.max_packet_bytes = max_packet_bytes;
    }

    /// The server keeps no retained messages: what is to be retained goes out as if it were not.
    pub fn drop_retain(&mut self) {
        self.drops_retain = true;
    }

    fn is_v5(&self) -> bool {
        self.protocol == Protocol::V5
    }

    /// CONNECT (§3.1). A session that is to be kept never expires, as under 3.1.1.
    pub fn connect(&mut self, connect: &Connect) {
        let Connect { client_id, clean_session, keep_alive_secs, will, login } = connect;
        let will_bytes = will
            .as_ref()
            .map_or(0, |will| usize::from(self.is_v5()) + 2 + will.topic.len() + 2 + will.payload.len());
        let login_bytes = login.as_ref().map_or(0, |(user, password)| 2 + user.len() + 2 + password.len());
        let keeps = self.is_v5() && !clean_session;
        let properties: u8 = if keeps { 5 } else { 0 };
        let list_bytes = if self.is_v5() { 1 + usize::from(properties) } else { 0 };
        let remaining = 2 + 4 + 1 + 1 + 2 + list_bytes + 2 + client_id.len() + will_bytes + login_bytes;
        self.header(0x10, remaining);
        text(&mut self.bytes, b"MQTT");
        self.bytes.put_u8(if self.is_v5() { 5 } else { 4 });
        let mut flags = if *clean_session { 0x02 } else { 0 };
        if let Some(will) = will {
            // QoS 1.
            flags |= 0x04 | 0x08 | u8::from(will.retain) << 5;
        }
        if login.is_some() {
            flags |= 0x80 | 0x40;
        }
        self.bytes.put_u8(flags);
        self.bytes.put_u16(*keep_alive_secs);
        if self.is_v5() {
            self.bytes.put_u8(properties);
            if keeps {
                self.bytes.put_u8(id::SESSION_EXPIRY);
                self.bytes.put_u32(u32::MAX);
            }
        }
        text(&mut self.bytes, client_id.as_bytes());
        if let Some(will) = will {
            if self.is_v5() {
                self.bytes.put_u8(0);
            }
            text(&mut self.bytes, will.topic.as_bytes());
            text(&mut self.bytes, &will.payload);
        }
        if let Some((user, password)) = login {
            text(&mut self.bytes, user.as_bytes());
            text(&mut self.bytes, password.as_bytes());
        }
    }

    /// PUBLISH (§3.3). What the server would not take is not sent.
    pub fn publish(&mut self, publish: &Publish) -> Result<(), PacketTooLarge> {
        let Publish { dup, qos, retain, topic, pkid, payload, properties, exactly_once: _ } = publish;
        debug_assert_eq!(*pkid > 0, *qos == Qos::AtLeastOnce, "§2.3.1: a packet id at QoS 1, none at QoS 0");
        let list = if self.is_v5() { properties.encoded_bytes() } else { 0 };
        let list_bytes = if self.is_v5() { varint_bytes(list) + list } else { 0 };
        let pkid_bytes = if *qos == Qos::AtLeastOnce { 2 } else { 0 };
        let remaining = 2 + topic.len() + pkid_bytes + list_bytes + payload.len();
        let bytes = 1 + varint_bytes(remaining) + remaining;
        if bytes > self.max_packet_bytes as usize {
            return Err(PacketTooLarge { bytes, limit: self.max_packet_bytes });
        }
        let flags = u8::from(*dup) << 3
            | u8::from(*qos == Qos::AtLeastOnce) << 1
            | u8::from(*retain && !self.drops_retain);
        self.header(0x30 | flags, remaining);
        text(&mut self.bytes, topic.as_bytes());
        if *qos == Qos::AtLeastOnce {
            self.bytes.put_u16(*pkid);
        }
        if self.is_v5() {
            self.properties(properties, list);
        }
        self.bytes.extend_from_slice(payload);
        Ok(())
    }

    fn properties(&mut self, properties: &Properties, bytes: usize) {
        varint(&mut self.bytes, bytes);
        properties.encode(&mut self.bytes);
    }

    /// PUBACK (§3.4); without a reason it says success in both versions.
    pub fn puback(&mut self, pkid: u16) {
        self.header(0x40, 2);
        self.bytes.put_u16(pkid);
    }

    /// PUBREC (§3.5): as PUBACK, for a message that came at QoS 2.
    pub fn pubrec(&mut self, pkid: u16) {
        self.header(0x50, 2);
        self.bytes.put_u16(pkid);
    }

    /// PUBCOMP (§3.7).
    pub fn pubcomp(&mut self, pkid: u16) {
        self.header(0x70, 2);
        self.bytes.put_u16(pkid);
    }

    /// SUBSCRIBE (§3.8).
    pub fn subscribe<'f>(&mut self, pkid: u16, filters: impl Iterator<Item = (&'f str, Qos)> + Clone) {
        let filter_bytes: usize = filters.clone().map(|(filter, _)| 2 + filter.len() + 1).sum();
        self.header(0x82, 2 + usize::from(self.is_v5()) + filter_bytes);
        self.bytes.put_u16(pkid);
        if self.is_v5() {
            self.bytes.put_u8(0);
        }
        for (filter, qos) in filters {
            text(&mut self.bytes, filter.as_bytes());
            self.bytes.put_u8(u8::from(qos == Qos::AtLeastOnce));
        }
    }

    /// UNSUBSCRIBE (§3.10).
    pub fn unsubscribe<'f>(&mut self, pkid: u16, filters: impl Iterator<Item = &'f str> + Clone) {
        let filter_bytes: usize = filters.clone().map(|filter| 2 + filter.len()).sum();
        self.header(0xa2, 2 + usize::from(self.is_v5()) + filter_bytes);
        self.bytes.put_u16(pkid);
        if self.is_v5() {
            self.bytes.put_u8(0);
        }
        for filter in filters {
            text(&mut self.bytes, filter.as_bytes());
        }
    }

    /// PINGREQ (§3.12).
    pub fn ping(&mut self) {
        self.header(0xc0, 0);
    }

    /// DISCONNECT (§3.14): a normal end; the server forgets the will.
    pub fn disconnect(&mut self) {
        self.header(0xe0, 0);
    }

    fn header(&mut self, first: u8, remaining: usize) {
        self.bytes.reserve(5 + remaining);
        self.bytes.put_u8(first);
        varint(&mut self.bytes, remaining);
    }
}

impl Deref for Out {
    type Target = BytesMut;
    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}

/// A length field and the bytes. Longer ones do not get here: the config checks topics, ids and logins, an
/// answer's topic is measured before it is queued, and what a frame carries along came in such a field itself.
pub(super) fn text(out: &mut BytesMut, text: &[u8]) {
    debug_assert!(text.len() <= usize::from(u16::MAX), "§1.5.4: a text has 16 bits for its length");
    let text = &text[..text.len().min(usize::from(u16::MAX))];
    out.put_u16(text.len() as u16);
    out.extend_from_slice(text);
}

fn varint_bytes(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

fn varint(out: &mut BytesMut, mut value: usize) {
    loop {
        let more = if value > 0x7f { 0x80 } else { 0 };
        out.put_u8((value & 0x7f) as u8 | more);
        value >>= 7;
        if value == 0 {
            return;
        }
    }
}
