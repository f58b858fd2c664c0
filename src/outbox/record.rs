//! The bytes of the outbox on disk: a segment's header, and one record for each message.
//!
//! Promise: what reads as a record was written as one, in this very segment, whole: its checksum covers
//! every byte of it and the segment's session. Whatever else lies in a file is passed over, at most to
//! the next record. All numbers are little-endian.
//!
//! | header, 40 bytes | | record, 24 bytes and a body | |
//! |---|---|---|---|
//! | 0 | `LNSDBOX\n` | 0 | `\xf2REC` |
//! | 8 | version, 16 bits | 4 | length of the body, 32 bits |
//! | 10 | 0, 48 bits | 8 | number, 64 bits |
//! | 16 | session, 64 bits | 16 | CRC-32C of session, bytes 4 to 16 and body |
//! | 24 | number of its first record, 64 bits | 20 | 0, 32 bits |
//! | 32 | CRC-32C of bytes 0 to 32 | 24 | body |
//! | 36 | 0, 32 bits | | |
//!
//! The body: flags (8 bits: 1 QoS 1, 2 retain, 4 error message, 8 may have been sent before, 16 a copy for
//! whoever asked for it, 32 something goes beside the payload), the frame's key (128 bits) and delivery
//! (64 bits), date in microseconds since 1970 (64 bits), the lengths of pipeline and topic (16 bits each),
//! pipeline, topic, what goes beside the payload, payload. Beside it go, where the flag is set: correlation
//! data (its length plus one in 32 bits, or 0), the number of user properties (16 bits), and of each its
//! key and value (16 bits for the length).
//! Not here: files, and what order of writes is safe ([`super::log`]).

use std::sync::Arc;

use bytes::Bytes;
use crc::{CRC_32_ISCSI, Crc, Table};

use super::Kind;
use crate::base::{Back, UnixMicros};
use crate::config::Qos;

/// Eight bytes a step: some 2 GB/s here, far beyond any flash.
const CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// What this version writes, and the newest that it reads.
pub(super) const VERSION: u16 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"LNSDBOX\n";
const RECORD_MAGIC: &[u8; 4] = b"\xf2REC";
/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: usize = 40;
const RECORD_HEAD_BYTES: usize = 24;
const BODY_HEAD_BYTES: usize = 1 + 16 + 8 + 8 + 2 + 2;
/// No message is larger: MQTT's own limit.
const MAX_BODY_BYTES: usize = 268_435_455;

const QOS_1: u8 = 1;
const RETAIN: u8 = 2;
const ERROR: u8 = 4;
const SENT_BEFORE: u8 = 8;
const REPLY: u8 = 16;
const BACK: u8 = 32;

/// First bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) session: u64,
    pub(super) first: u64,
}

/// Why a file is no segment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A later Lineside wrote it; it is left alone for that one.
    #[error("it was written by a later version of Lineside (format {0}, this one reads up to {VERSION})")]
    Newer(u16),
    /// Torn, overwritten, or never one.
    #[error("its first {HEADER_BYTES} bytes are not those of a segment")]
    Broken,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.session.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        let crc = CRC.checksum(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>().ok_or(HeaderError::Broken)?;
        if &bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 32) != Some(CRC.checksum(&bytes[..32])) {
            return Err(HeaderError::Broken);
        }
        match u16::from_le_bytes([bytes[8], bytes[9]]) {
            // A change of format gets an arm here, and version 1 keeps its own.
            VERSION => Ok(Self {
                session: u64_at(bytes, 16).ok_or(HeaderError::Broken)?,
                first: u64_at(bytes, 24).ok_or(HeaderError::Broken)?,
            }),
            newer => Err(HeaderError::Newer(newer)),
        }
    }
}

/// A message as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of its pipeline when it was written.
    pub pipeline: Arc<str>,
    /// Where it goes.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// How it goes.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// A prediction, or a report that there is none.
    pub kind: Kind,
    /// What goes beside the payload (MQTT 5).
    pub back: Option<Arc<Back>>,
    /// It may have reached the broker already.
    pub sent_before: bool,
    /// What finds its frame again ([`crate::base::Identity`]).
    pub key: u128,
    /// Its frame's delivery.
    pub delivery: u64,
    /// When it was made, by the board's date.
    pub at: UnixMicros,
}

impl Record {
    /// Bytes that it takes on disk.
    pub(super) fn bytes(&self) -> usize {
        let beside = self.back.as_deref().map_or(0, back_bytes);
        RECORD_HEAD_BYTES
            + BODY_HEAD_BYTES
            + self.pipeline.len()
            + self.topic.len()
            + beside
            + self.payload.len()
    }

    pub(super) fn encode(&self, session: u64, number: u64, out: &mut Vec<u8>) {
        let head = out.len();
        let body_bytes = self.bytes() - RECORD_HEAD_BYTES;
        out.extend_from_slice(RECORD_MAGIC);
        out.extend_from_slice(&(body_bytes as u32).to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        let mut flags = 0;
        for (flag, holds) in [
            (QOS_1, self.qos == Qos::AtLeastOnce),
            (RETAIN, self.retain),
            (ERROR, self.kind == Kind::Error),
            (SENT_BEFORE, self.sent_before),
            (REPLY, self.kind == Kind::Reply),
            (BACK, self.back.is_some()),
        ] {
            flags |= if holds { flag } else { 0 };
        }
        out.push(flags);
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.delivery.to_le_bytes());
        out.extend_from_slice(&self.at.0.to_le_bytes());
        // Names are topic levels of at most 128 bytes, topics at most 65,535 (MQTT 3.1.1 §1.5.3).
        out.extend_from_slice(&(self.pipeline.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.topic.len() as u16).to_le_bytes());
        out.extend_from_slice(self.pipeline.as_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        if let Some(back) = &self.back {
            encode_back(back, out);
        }
        out.extend_from_slice(&self.payload);
        let crc = checksum(session, &out[head..]);
        out[head + 16..head + 20].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (&flags, rest) = body.split_first()?;
        let (key, rest) = rest.split_first_chunk::<16>()?;
        let (delivery, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (pipeline_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (topic_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (pipeline, rest) = rest.split_at_checked(u16::from_le_bytes(*pipeline_bytes).into())?;
        let (topic, rest) = rest.split_at_checked(u16::from_le_bytes(*topic_bytes).into())?;
        let (back, payload) = if flags & BACK == 0 {
            (None, rest)
        } else {
            let (back, rest) = decode_back(rest)?;
            (Some(Arc::new(back)), rest)
        };
        Some(Self {
            pipeline: std::str::from_utf8(pipeline).ok()?.into(),
            topic: std::str::from_utf8(topic).ok()?.into(),
            payload: Bytes::copy_from_slice(payload),
            qos: if flags & QOS_1 == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce },
            retain: flags & RETAIN != 0,
            kind: match (flags & ERROR != 0, flags & REPLY != 0) {
                (_, true) => Kind::Reply,
                (true, false) => Kind::Error,
                (false, false) => Kind::Prediction,
            },
            back,
            sent_before: flags & SENT_BEFORE != 0,
            key: u128::from_le_bytes(*key),
            delivery: u64::from_le_bytes(*delivery),
            at: UnixMicros(u64::from_le_bytes(*at)),
        })
    }
}

fn back_bytes(back: &Back) -> usize {
    let user = back.user.iter().map(|(key, value)| 2 + key.len() + 2 + value.len()).sum::<usize>();
    4 + back.correlation.as_ref().map_or(0, Bytes::len) + 2 + user
}

/// Each text came in an MQTT field of 16 bits, and a PUBLISH holds at most 64 KiB of them.
fn encode_back(back: &Back, out: &mut Vec<u8>) {
    match &back.correlation {
        None => out.extend_from_slice(&[0; 4]),
        Some(data) => {
            out.extend_from_slice(&(data.len() as u32 + 1).to_le_bytes());
            out.extend_from_slice(data);
        }
    }
    out.extend_from_slice(&(back.user.len() as u16).to_le_bytes());
    for text in back.user.iter().flat_map(|(key, value)| [key, value]) {
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

fn decode_back(bytes: &[u8]) -> Option<(Back, &[u8])> {
    let (length, mut rest) = bytes.split_first_chunk::<4>()?;
    let correlation = match u32::from_le_bytes(*length).checked_sub(1) {
        None => None,
        Some(length) => {
            let (data, behind) = rest.split_at_checked(length as usize)?;
            rest = behind;
            Some(Bytes::copy_from_slice(data))
        }
    };
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    let mut text = || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (text, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
        rest = behind;
        std::str::from_utf8(text).ok().map(str::to_owned)
    };
    let user =
        (0..u16::from_le_bytes(*count)).map(|_| Some((text()?, text()?))).collect::<Option<Vec<_>>>()?;
    Some((Back { correlation, user }, rest))
}

/// `record` starts with its head; the checksum's own bytes are left out.
fn checksum(session: u64, record: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&session.to_le_bytes());
    digest.update(&record[4..16]);
    digest.update(&record[RECORD_HEAD_BYTES..]);
    digest.finalize()
}

/// What a segment's bytes came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Records with their numbers, in the order of the file.
    pub(super) records: Vec<(u64, Record)>,
    /// Bytes that belong to no record. A write that was cut short leaves some at the end.
    pub(super) damaged_bytes: u64,
}

/// Every record behind the header.
pub(super) fn scan(header: Header, segment: &[u8]) -> Scanned {
    let mut found = Scanned::default();
    let mut rest = segment.get(HEADER_BYTES..).unwrap_or_default();
    let mut expected = header.first;
    while !rest.is_empty() {
        match record_at(header.session, rest) {
            // Numbers rise within a segment: a record of an earlier place is no record of this one.
            Some((number, record, bytes)) if number >= expected => {
                found.records.push((number, record));
                expected = number + 1;
                rest = &rest[bytes..];
            }
            _ => {
                let next = rest[1..].windows(4).position(|window| window == RECORD_MAGIC);
                let skipped = next.map_or(rest.len(), |next| next + 1);
                found.damaged_bytes += skipped as u64;
                rest = &rest[skipped..];
            }
        }
    }
    found
}

fn record_at(session: u64, bytes: &[u8]) -> Option<(u64, Record, usize)> {
    let head = bytes.get(..RECORD_HEAD_BYTES)?;
    if &head[..4] != RECORD_MAGIC {
        return None;
    }
    let body_bytes = u32_at(head, 4)? as usize;
    if !(BODY_HEAD_BYTES..=MAX_BODY_BYTES).contains(&body_bytes) {
        return None;
    }
    let whole = bytes.get(..RECORD_HEAD_BYTES + body_bytes)?;
    if u32_at(head, 16)? != checksum(session, whole) {
        return None;
    }
    Some((u64_at(head, 8)?, Record::decode_body(&whole[RECORD_HEAD_BYTES..])?, whole.len()))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header { session: 7, first: 3 };

    pub(in crate::outbox) fn record(text: &str) -> Record {
        Record {
            pipeline: "screw".into(),
            topic: "lineside/press/screw/result".into(),
            payload: Bytes::copy_from_slice(text.as_bytes()),
            qos: Qos::AtLeastOnce,
            retain: false,
            kind: Kind::Prediction,
            back: None,
            sent_before: false,
            key: 0x0102_0304,
            delivery: 9,
            at: UnixMicros(1_709_251_199_000_001),
        }
    }

    fn segment(records: &[Record]) -> Vec<u8> {
        let mut bytes = HEADER.encode().to_vec();
        for (number, record) in (HEADER.first..).zip(records) {
            record.encode(HEADER.session, number, &mut bytes);
        }
        bytes
    }

    fn texts(scanned: &Scanned) -> Vec<&str> {
        scanned.records.iter().map(|(_, record)| std::str::from_utf8(&record.payload).unwrap()).collect()
    }

    #[test]
    fn what_goes_beside_the_payload_comes_back_as_it_was() {
        let user = vec![("part".into(), "A17".into()), ("part".into(), String::new())];
        let correlations = [None, Some(Bytes::new()), Some(Bytes::from_static(b"\x00\xff"))];
        let records = correlations.map(|correlation| Record {
            kind: Kind::Reply,
            back: Some(Arc::new(Back { correlation, user: user.clone() })),
            ..record("{}")
        });
        let scanned = scan(HEADER, &segment(&records));
        assert_eq!(scanned.records.iter().map(|(_, record)| record).collect::<Vec<_>>(), records.each_ref());
        assert_eq!(scanned.damaged_bytes, 0);
    }

    #[test]
    fn a_segment_of_version_1_reads_as_it_was_written() {
        // These bytes lie on disks in the field: whatever the format becomes, they stay readable.
        const WRITTEN: &str = include_str!("version-1.hex");
        let written: String = WRITTEN.split_whitespace().collect();
        let bytes: Vec<u8> = (0..written.len() / 2)
            .map(|i| u8::from_str_radix(&written[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let mut error = record("{\"b\":2}");
        (error.kind, error.retain, error.sent_before, error.qos) = (Kind::Error, true, true, Qos::AtMostOnce);
        let records = [record("{\"a\":1}"), error];
        let scanned = scan(Header::decode(&bytes).unwrap(), &bytes);
        assert_eq!(scanned.records, [(3, records[0].clone()), (4, records[1].clone())]);
        assert_eq!(scanned.damaged_bytes, 0);
        assert_eq!(segment(&records), bytes, "written by this version");
    }

    #[test]
    fn a_later_format_is_told_from_a_broken_header() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        assert_eq!(Header::decode(&bytes), Err(HeaderError::Broken));
        let crc = CRC.checksum(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(HeaderError::Newer(2)));
        assert_eq!(Header::decode(&bytes[..39]), Err(HeaderError::Broken));
    }

    #[test]
    fn a_flipped_bit_costs_the_record_that_it_hits_and_no_other() {
        let records: Vec<_> = (0..5).map(|i| record(&format!("payload {i}"))).collect();
        let whole = segment(&records);
        let each = records[0].bytes();
        for bit in 0..each * 8 {
            let mut bytes = whole.clone();
            bytes[HEADER_BYTES + 2 * each + bit / 8] ^= 1 << (bit % 8);
            let scanned = scan(HEADER, &bytes);
            let unused = (20 * 8..24 * 8).contains(&bit);
            let wanted: &[&str] = if unused {
                &["payload 0", "payload 1", "payload 2", "payload 3", "payload 4"]
            } else {
                &["payload 0", "payload 1", "payload 3", "payload 4"]
            };
            assert_eq!(texts(&scanned), wanted, "bit {bit}");
            assert_eq!(scanned.damaged_bytes, if unused { 0 } else { each as u64 });
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none_of_this_one() {
        let mut bytes = segment(&[record("a")]);
        record("of another session").encode(HEADER.session + 1, 4, &mut bytes);
        record("of an earlier place").encode(HEADER.session, 2, &mut bytes);
        assert_eq!(texts(&scan(HEADER, &bytes)), ["a"]);
    }

    proptest! {
        #[test]
        fn bytes_of_anyone_are_passed_over(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..3) {
            let records = [record("a"), record("b")];
            let mut bytes = segment(&records);
            let at = HEADER_BYTES + at * records[0].bytes();
            let before = bytes.split_off(at);
            bytes.extend_from_slice(&noise);
            bytes.extend_from_slice(&before);
            let scanned = scan(HEADER, &bytes);
            prop_assert_eq!(texts(&scanned), ["a", "b"]);
            prop_assert_eq!(scanned.damaged_bytes, noise.len() as u64);
        }
    }
}
