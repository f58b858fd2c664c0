//! Bytes from the socket to packets, in bounded memory.
//!
//! Promise: at most one packet of `max_payload` bytes is held. A larger PUBLISH is skipped as its
//! bytes come and reported as [`Oversize`] with its packet id, so that it can be acknowledged: a
//! broker that got no acknowledgement would send it again for ever.

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::v4::Packet;

/// A PUBLISH's fixed header type.
const PUBLISH: u8 = 3;
/// A topic's length field, the longest topic, a packet id.
const LONGEST_PUBLISH_HEADER: usize = 2 + 65_535 + 2;
/// A SUBACK has a packet id and a byte a filter.
const LONGEST_SUBACK: usize = 65_536;

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
    /// The server says that it sent it before.
    pub dup: bool,
    /// Bytes of payload that were skipped.
    pub payload_bytes: usize,
}

/// Bytes that are not MQTT. The connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A length field of more than four bytes (§2.2.3).
    #[error("the broker sent a packet length of more than four bytes: is this port MQTT?")]
    Length,
    /// A type that a server does not send, or a length that its type cannot have.
    #[error(
        "the broker sent a packet of type {kind} and {bytes} bytes, which MQTT 3.1.1 does not know: is this port MQTT?"
    )]
    Unexpected {
        /// Type in the fixed header.
        kind: u8,
        /// Remaining length.
        bytes: usize,
    },
    /// A topic that is no UTF-8, a packet id of zero, an unknown type.
    #[error("the broker sent a malformed packet")]
    Malformed(#[source] rumqttc::mqttbytes::Error),
}

/// Turns what was read into packets.
pub struct Reader {
    buffer: BytesMut,
    max_payload: usize,
    /// Payload bytes of an oversize packet still to come.
    skip: usize,
}

impl Reader {
    /// Holds payloads of up to `max_payload` bytes.
    pub fn new(max_payload: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(16 * 1024), max_payload, skip: 0 }
    }

    /// Where the socket's bytes go; never full.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < 4 * 1024 {
            self.buffer.reserve(16 * 1024);
        }
        &mut self.buffer
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
        let kind = self.buffer[0] >> 4;
        if !is_expected(kind, remaining) {
            return Err(WireError::Unexpected { kind, bytes: remaining });
        }
        if kind == PUBLISH && remaining > self.max_payload {
            match self.publish_header(header_bytes, remaining)? {
                Header::Incomplete => return Ok(None),
                Header::Fits => {}
                Header::Oversize(oversize, bytes) => {
                    self.buffer.advance(bytes);
                    self.skip = oversize.payload_bytes;
                    return Ok(Some(Incoming::Oversize(oversize)));
                }
            }
        }
        if self.buffer.len() < header_bytes + remaining {
            self.buffer.reserve(header_bytes + remaining - self.buffer.len());
            return Ok(None);
        }
        Packet::read(&mut self.buffer, usize::MAX)
            .map(|packet| Some(Incoming::Packet(packet)))
            .map_err(WireError::Malformed)
    }

    /// Looks at a long PUBLISH's own header (§3.3.2) before its payload has come.
    fn publish_header(&self, header_bytes: usize, remaining: usize) -> Result<Header, WireError> {
        use rumqttc::mqttbytes::Error;
        let body = &self.buffer[header_bytes..];
        let Some((length, rest)) = body.split_first_chunk::<2>() else { return Ok(Header::Incomplete) };
        let topic_bytes = usize::from(u16::from_be_bytes(*length));
        let qos = (self.buffer[0] >> 1) & 0b11;
        let pkid_bytes = if qos == 0 { 0 } else { 2 };
        let Some(payload_bytes) = remaining.checked_sub(2 + topic_bytes + pkid_bytes) else {
            return Err(WireError::Malformed(Error::BoundaryCrossed(topic_bytes)));
        };
        if payload_bytes <= self.max_payload {
            return Ok(Header::Fits);
        }
        debug_assert!(2 + topic_bytes + pkid_bytes <= LONGEST_PUBLISH_HEADER);
        let Some(rest) = rest.get(..topic_bytes + pkid_bytes) else { return Ok(Header::Incomplete) };
        let (topic, pkid) = rest.split_at(topic_bytes);
        let topic = std::str::from_utf8(topic).map_err(|_| WireError::Malformed(Error::TopicNotUtf8))?;
        let oversize = Oversize {
            topic: topic.into(),
            pkid: pkid.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes)),
            dup: self.buffer[0] & 0b1000 != 0,
            payload_bytes,
        };
        Ok(Header::Oversize(oversize, header_bytes + 2 + topic_bytes + pkid_bytes))
    }
}

/// Whether a server sends packets of this type and remaining length (MQTT 3.1.1 §3).
fn is_expected(kind: u8, remaining: usize) -> bool {
    match kind {
        PUBLISH => true,
        // CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK
        2 | 4..=7 | 11 => remaining == 2,
        // SUBACK
        9 => (3..=LONGEST_SUBACK).contains(&remaining),
        // PINGRESP
        13 => remaining == 0,
        _ => false,
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
    use proptest::prelude::*;
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::{PubAck, Publish};

    fn publish(pkid: u16, payload: usize) -> Packet {
        let qos = if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut packet = Publish::new("camera/1", qos, vec![0xAA; payload]);
        packet.pkid = pkid;
        Packet::Publish(packet)
    }

    fn bytes(packets: &[Packet]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.write(&mut bytes, usize::MAX).unwrap();
        }
        bytes
    }

    fn read_in_portions(stream: &[u8], portion: usize, max_payload: usize) -> Vec<Incoming> {
        let mut reader = Reader::new(max_payload);
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
        let packets = [publish(7, 100), publish(8, 101), publish(0, 5000), Packet::PubAck(PubAck::new(3))];
        let stream = bytes(&packets);
        for portion in [1, 2, 3, 50, 10_000] {
            let found = read_in_portions(&stream, portion, 100);
            assert_eq!(found[0], Incoming::Packet(packets[0].clone()));
            let Incoming::Oversize(over) = &found[1] else { panic!("{found:?}") };
            assert_eq!((over.pkid, over.payload_bytes, over.topic.as_str()), (Some(8), 101, "camera/1"));
            let Incoming::Oversize(over) = &found[2] else { panic!("{found:?}") };
            assert_eq!((over.pkid, over.payload_bytes), (None, 5000));
            assert_eq!(found[3], Incoming::Packet(packets[3].clone()));
        }
    }

    #[test]
    fn a_huge_payload_is_never_held() {
        let mut reader = Reader::new(1000);
        let stream = bytes(&[publish(1, 10_000_000)]);
        for part in stream.chunks(8192) {
            reader.buffer().extend_from_slice(part);
            reader.next_packet().unwrap();
            assert!(reader.buffer.capacity() < 128 * 1024, "{}", reader.buffer.capacity());
        }
    }

    #[test]
    fn what_is_no_mqtt_is_refused_in_words() {
        let mut reader = Reader::new(1000);
        reader.buffer().extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n");
        assert!(reader.next_packet().is_err());
        let mut reader = Reader::new(1000);
        reader.buffer().extend_from_slice(&[0x90, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert!(matches!(reader.next_packet(), Err(WireError::Length)));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_packets_or_an_error_and_not_in_a_panic(
            stream in proptest::collection::vec(any::<u8>(), 0..300), portion in 1usize..40,
        ) {
            let mut reader = Reader::new(64);
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
            sizes in proptest::collection::vec((0u16..5, 0usize..200), 1..20), portion in 1usize..300,
        ) {
            let packets: Vec<_> = sizes.iter().map(|&(pkid, size)| publish(pkid, size)).collect();
            let stream = bytes(&packets);
            let whole = read_in_portions(&stream, stream.len(), 100);
            prop_assert_eq!(whole.len(), packets.len());
            prop_assert_eq!(read_in_portions(&stream, portion, 100), whole);
        }
    }
}
