//! Bytes from the socket to packets, in bounded memory.
//!
//! Promise: at most one packet of `max_payload` bytes is held, and [`LONGEST_PROPERTIES`] beside it. A
//! larger PUBLISH is skipped as its bytes come and reported as [`Oversize`] with its packet id, so that
//! it can be acknowledged: a broker that got no acknowledgement would send it again for ever.

use bytes::{Buf, BytesMut};

use super::packet::read::{self, Malformed};
use super::packet::{Packet, properties_bytes};
use crate::config::Protocol;

/// Types in the fixed header (§2.2.1).
const PUBLISH: u8 = 3;
const PUBREL: u8 = 6;
const SUBACK: u8 = 9;
const UNSUBACK: u8 = 11;
const PINGRESP: u8 = 13;
/// Properties of one message that are held. Senders give a handful of short ones; a message with more
/// is skipped like one with too large a payload.
pub const LONGEST_PROPERTIES: usize = 64 * 1024;
/// The longest packet that is no PUBLISH: properties, or a SUBACK with a byte a filter.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A packet.
    Packet(Packet),
    /// A PUBLISH whose payload was skipped.
    Oversize(Oversize),
}

/// A PUBLISH too large to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// Its topic.
    pub topic: String,
    /// Its packet id; `None` at QoS 0.
    pub pkid: Option<u16>,
    /// It came at QoS 2.
    pub exactly_once: bool,
    /// The server says that it sent it before.
    pub dup: bool,
    /// The server had kept it for whoever subscribes.
    pub retain: bool,
    /// Bytes of payload that were skipped.
    pub payload_bytes: usize,
    /// Bytes of properties that were skipped; 0 where they are not too long themselves.
    pub properties_bytes: usize,
}

/// Bytes that are not MQTT. The connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A length field of more than four bytes (§2.2.3).
    #[error("the broker sent a packet length of more than four bytes: is this port MQTT?")]
    Length,
    /// A type that a server does not send, or a length that its type cannot have.
    #[error(
        "the broker sent a packet of type {kind} and {bytes} bytes, which a server does not send: is this port MQTT, \
         and does it speak [broker] protocol?"
    )]
    Unexpected {
        /// Type in the fixed header.
        kind: u8,
        /// Remaining length.
        bytes: usize,
    },
    /// Fields that contradict each other or the protocol.
    #[error("the broker sent a malformed packet")]
    Malformed(#[from] Malformed),
}

/// Turns what was read into packets.
pub struct Reader {
    protocol: Protocol,
    buffer: BytesMut,
    max_payload: usize,
    /// Payload bytes of an oversize packet still to come.
    skip: usize,
}

impl Reader {
    /// Holds payloads of up to `max_payload` bytes.
    pub fn new(protocol: Protocol, max_payload: usize) -> Self {
        Self { protocol, buffer: BytesMut::with_capacity(16 * 1024), max_payload, skip: 0 }
    }

    /// Where the socket's bytes go; never full.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < 4 * 1024 {
            self.buffer.reserve(16 * 1024);
        }
        &mut self.buffer
    }

    /// What has come and was not looked at is a PINGRESP or its first byte, and nothing else.
    pub fn has_ping_answer_only(&self) -> bool {
        self.skip == 0 && [PINGRESP << 4, 0].starts_with(&self.buffer)
    }

    /// The next whole packet; `None` until more bytes have come.
    pub fn next_packet(&mut self) -> Result<Option<Incoming>, WireError> {
        let skipped = self.skip.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return Ok(None);
        }
        let Some((header_bytes, remaining)) = fixed_header(&self.buffer)? else {
            return Ok(None);
        };
        let first = self.buffer[0];
        let kind = first >> 4;
        if !self.is_expected(first, remaining) {
            return Err(WireError::Unexpected { kind, bytes: remaining });
        }
        if kind == PUBLISH && remaining > self.max_payload.min(LONGEST_PROPERTIES) {
            match self.publish_header(header_bytes, remaining)? {
                Header::Incomplete => return Ok(None),
                Header::Fits => {}
                Header::Oversize(oversize, bytes) => {
                    self.buffer.advance(bytes);
                    self.skip = oversize.payload_bytes + oversize.properties_bytes;
                    return Ok(Some(Incoming::Oversize(oversize)));
                }
            }
        }
        if self.buffer.len() < header_bytes + remaining {
            self.buffer.reserve(header_bytes + remaining - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(header_bytes);
        let body = self.buffer.split_to(remaining).freeze();
        Ok(Some(Incoming::Packet(read::packet(self.protocol, first, body)?)))
    }

    /// Looks at a long PUBLISH's own header (§3.3.2) before its payload has come.
    fn publish_header(&self, header_bytes: usize, remaining: usize) -> Result<Header, WireError> {
        let body = &self.buffer[header_bytes..];
        let Some((length, rest)) = body.split_first_chunk::<2>() else { return Ok(Header::Incomplete) };
        let topic_bytes = usize::from(u16::from_be_bytes(*length));
        let pkid_bytes = if (self.buffer[0] >> 1) & 0b11 == 0 { 0 } else { 2 };
        let named_bytes = 2 + topic_bytes + pkid_bytes;
        let Some(behind) = remaining.checked_sub(named_bytes) else {
            return Err(Malformed::Short.into());
        };
        let Some(named) = rest.get(..topic_bytes + pkid_bytes) else { return Ok(Header::Incomplete) };
        let mut properties = 0;
        if self.protocol == Protocol::V5 {
            match properties_bytes(&rest[topic_bytes + pkid_bytes..])? {
                Some(bytes) => properties = bytes,
                None => return Ok(Header::Incomplete),
            }
        }
        let Some(payload_bytes) = behind.checked_sub(properties) else {
            return Err(Malformed::Short.into());
        };
        // Properties that are too long are skipped with the payload.
        let (skipped, passed) =
            if properties <= LONGEST_PROPERTIES { (0, properties) } else { (properties, 0) };
        if skipped == 0 && payload_bytes <= self.max_payload {
            return Ok(Header::Fits);
        }
        if rest.len() < named.len() + passed {
            return Ok(Header::Incomplete);
        }
        let (topic, pkid) = named.split_at(topic_bytes);
        let topic = std::str::from_utf8(topic).map_err(|_| Malformed::Text)?;
        let oversize = Oversize {
            topic: topic.into(),
            pkid: pkid.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes)),
            exactly_once: (self.buffer[0] >> 1) & 0b11 == 2,
            dup: self.buffer[0] & 0b1000 != 0,
            retain: self.buffer[0] & 1 != 0,
            payload_bytes,
            properties_bytes: skipped,
        };
        Ok(Header::Oversize(oversize, header_bytes + named_bytes + passed))
    }

    /// Whether a server sends packets that begin like this (§3), before they have come. But for PUBLISH
    /// and PUBREL the flags beside the type are zero (§2.2.2).
    fn is_expected(&self, first: u8, remaining: usize) -> bool {
        match (first >> 4, self.protocol) {
            (PUBLISH, _) => true,
            // Its flags are fixed to 2 (§3.6.1).
            (PUBREL, Protocol::V3_1_1) => first & 0x0f == 2 && remaining == 2,
            (PUBREL, Protocol::V5) => first & 0x0f == 2 && (2..=LONGEST_ANSWER).contains(&remaining),
            _ if first & 0x0f != 0 => false,
            // CONNACK, PUBACK
            (2 | 4, Protocol::V3_1_1) => remaining == 2,
            (2 | 4, Protocol::V5) => (2..=LONGEST_ANSWER).contains(&remaining),
            (SUBACK, _) => (3..=LONGEST_ANSWER).contains(&remaining),
            (UNSUBACK, Protocol::V3_1_1) => remaining == 2,
            (UNSUBACK, Protocol::V5) => (3..=LONGEST_ANSWER).contains(&remaining),
            (PINGRESP, _) => remaining == 0,
            // DISCONNECT
            (14, Protocol::V5) => remaining <= LONGEST_ANSWER,
            _ => false,
        }
    }
}

enum Header {
    Incomplete,
    Fits,
    /// And the bytes before its payload.
    Oversize(Oversize, usize),
}

/// Bytes of the fixed header and the remaining length (§2.2.3), when they have come.
fn fixed_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, WireError> {
    let mut remaining = 0;
    for (i, &byte) in bytes.iter().skip(1).enumerate() {
        if i == 4 {
            return Err(WireError::Length);
        }
        remaining |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((i + 2, remaining)));
        }
    }
    if bytes.len() > 4 { Err(WireError::Length) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Qos;
    use crate::mqtt::packet::{Out, Properties, PubAck, Publish, PublishProperties, Reason};
    use proptest::prelude::*;

    const BOTH: [Protocol; 2] = [Protocol::V3_1_1, Protocol::V5];

    fn publish(pkid: u16, payload: usize) -> Publish {
        let qos = if pkid == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
        Publish { qos, pkid, ..Publish::new("camera/1", vec![0xAA; payload]) }
    }

    fn bytes(protocol: Protocol, packets: &[Publish]) -> BytesMut {
        let mut out = Out::new(protocol);
        for packet in packets {
            out.publish(packet).unwrap();
        }
        // A PUBACK is the same in both directions.
        out.puback(3);
        out.clone()
    }

    fn read_in_portions(
        protocol: Protocol,
        stream: &[u8],
        portion: usize,
        max_payload: usize,
    ) -> Vec<Incoming> {
        let mut reader = Reader::new(protocol, max_payload);
        let mut found = Vec::new();
        for part in stream.chunks(portion) {
            reader.buffer().extend_from_slice(part);
            while let Some(packet) = reader.next_packet().unwrap() {
                found.push(packet);
            }
        }
        found
    }

    #[test]
    fn an_oversize_payload_is_skipped_with_its_packet_id_and_the_next_packet_is_read() {
        let packets = [publish(7, 100), publish(8, 101), publish(0, 5000)];
        let acknowledged = Incoming::Packet(Packet::PubAck(PubAck { pkid: 3, reason: Reason::new(0) }));
        for (protocol, portion) in
            BOTH.into_iter().flat_map(|p| [1, 2, 3, 50, 10_000].map(|portion| (p, portion)))
        {
            let found = read_in_portions(protocol, &bytes(protocol, &packets), portion, 100);
            assert_eq!(found[0], Incoming::Packet(Packet::Publish(packets[0].clone())));
            let Incoming::Oversize(over) = &found[1] else { panic!("{found:?}") };
            assert_eq!((over.pkid, over.payload_bytes, over.topic.as_str()), (Some(8), 101, "camera/1"));
            let Incoming::Oversize(over) = &found[2] else { panic!("{found:?}") };
            assert_eq!((over.pkid, over.payload_bytes), (None, 5000));
            assert_eq!(found[3], acknowledged);
        }
    }

    #[test]
    fn a_huge_payload_or_huge_properties_are_never_held() {
        let user = vec![("k".to_owned(), "v".repeat(1000)); 5000];
        let heavy = Properties::of(PublishProperties { user, ..PublishProperties::default() });
        let heavy = Publish { properties: heavy, ..publish(1, 10) };
        // However large a payload may be, properties may not.
        for (packet, max_payload) in
            [(publish(1, 10_000_000), 1000), (heavy.clone(), 1000), (heavy, 16_000_000)]
        {
            let stream = bytes(Protocol::V5, &[packet]);
            let mut reader = Reader::new(Protocol::V5, max_payload);
            let mut found = Vec::new();
            for part in stream.chunks(8192) {
                reader.buffer().extend_from_slice(part);
                while let Some(packet) = reader.next_packet().unwrap() {
                    found.push(packet);
                }
                assert!(reader.buffer.capacity() < 128 * 1024, "{}", reader.buffer.capacity());
            }
            assert!(matches!(&found[0], Incoming::Oversize(over) if over.pkid == Some(1)), "{found:?}");
            assert_eq!(found.len(), 2, "and the packet behind it");
        }
    }

    #[test]
    fn properties_do_not_count_as_payload() {
        let user = vec![("key".to_owned(), "value".to_owned()); 40];
        let properties = Properties::of(PublishProperties { user, ..PublishProperties::default() });
        let packet = Publish { properties, ..publish(1, 100) };
        let found =
            read_in_portions(Protocol::V5, &bytes(Protocol::V5, std::slice::from_ref(&packet)), 7, 100);
        assert_eq!(found[0], Incoming::Packet(Packet::Publish(packet)));
    }

    #[test]
    fn what_is_no_mqtt_is_refused_in_words() {
        for protocol in BOTH {
            let mut reader = Reader::new(protocol, 1000);
            reader.buffer().extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n");
            assert!(reader.next_packet().is_err());
            let mut reader = Reader::new(protocol, 1000);
            reader.buffer().extend_from_slice(&[0x90, 0xff, 0xff, 0xff, 0xff, 0x01]);
            assert!(matches!(reader.next_packet(), Err(WireError::Length)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_packets_or_an_error_and_not_in_a_panic(
            stream in proptest::collection::vec(any::<u8>(), 0..300), portion in 1usize..40, v5: bool,
        ) {
            let mut reader = Reader::new(BOTH[usize::from(v5)], 64);
            'stream: for part in stream.chunks(portion) {
                reader.buffer().extend_from_slice(part);
                loop {
                    match reader.next_packet() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
            }
        }

        #[test]
        fn portions_do_not_matter(
            sizes in proptest::collection::vec((0u16..5, 0usize..200), 1..20), portion in 1usize..300, v5: bool,
        ) {
            let protocol = BOTH[usize::from(v5)];
            let packets: Vec<_> = sizes.iter().map(|&(pkid, size)| publish(pkid, size)).collect();
            let stream = bytes(protocol, &packets);
            let whole = read_in_portions(protocol, &stream, stream.len(), 100);
            prop_assert_eq!(whole.len(), packets.len() + 1);
            prop_assert_eq!(read_in_portions(protocol, &stream, portion, 100), whole);
        }
    }
}
