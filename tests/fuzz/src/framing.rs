//! Framings: however the stream is cut the frames are the same, what was read can be sent and read
//! again, the work is bounded, and after any noise the next frame is heard.

use lineside::base::wire::{ByteOrder, CrcName};
use lineside::stage::decode::framing::any::{AnyDeframer, Framing, Kind};
use lineside::stage::decode::framing::sequence::SequenceField;
use lineside::stage::decode::framing::sized::{Counts, Layout, Part, Size};
use lineside::stage::decode::framing::{Deframe, EncodeError, Step, WireError, packet as body};

const CRCS: [&str; 4] = ["", "crc8_smbus", "crc16_ibm_3740", "crc32_iso_hdlc"];
/// Longest body: small, so that a fuzzer finds the edge.
const BODY_BYTES: usize = 24;

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Frame(Vec<u8>, u32),
    Bad(WireError),
}

fn push(deframer: &mut AnyDeframer, mut input: &[u8], seen: &mut Vec<Seen>, most: usize) {
    loop {
        assert!(seen.len() <= most, "more steps than bytes: it would never end");
        match deframer.push(input) {
            Step::NeedMore => return,
            Step::Frame { body, began, rest } => {
                assert!(body.len() <= BODY_BYTES + 8, "{body:x?} is longer than what is taken");
                seen.push(Seen::Frame(body.to_vec(), began));
                input = rest;
            }
            Step::Bad { why, rest } => {
                seen.push(Seen::Bad(why));
                input = rest;
            }
        }
    }
}

fn holds(kind: Kind, crc: u8, stream: &[u8]) {
    let crc = CrcName::parse(CRCS[usize::from(crc) % CRCS.len()]);
    let framing =
        Framing { kind, crc, crc_order: None, sequence: SequenceField::None, max_body_bytes: BODY_BYTES };
    let most = 2 * stream.len() + 8;
    let (mut deframer, mut whole) = (framing.deframer(), Vec::new());
    push(&mut deframer, stream, &mut whole, most);
    let (mut by_bytes, mut seen) = (framing.deframer(), Vec::new());
    for byte in stream {
        push(&mut by_bytes, std::slice::from_ref(byte), &mut seen, most);
    }
    assert_eq!(whole, seen, "portions matter: {framing:?}");

    for frame in &whole {
        let Seen::Frame(body, _) = frame else { continue };
        // A line that spares its CR or its checksum has that much more room.
        if kind == Kind::Line && body.len() > BODY_BYTES {
            continue;
        }
        let mut wire = Vec::new();
        match framing.enframer().encode(0, body, &mut wire) {
            Ok(()) => {}
            // A line that ended in CR CR LF has a body that ends in CR, which we do not send.
            Err(EncodeError::NotCarried) if kind == Kind::Line => continue,
            Err(EncodeError::NoRoom) if body.is_empty() => continue,
            Err(why) => panic!("{body:x?} was read and cannot be sent: {why}"),
        }
        let mut again = Vec::new();
        push(&mut framing.deframer(), &wire, &mut again, wire.len() + 8);
        let read = again.iter().filter(|seen| matches!(seen, Seen::Frame(read, _) if read == body));
        assert_eq!((read.count(), again.len()), (1, 1), "{body:x?} became {again:x?}");
    }

    // Silence, a delimiter, a frame.
    deframer.idle();
    let mut after = Vec::new();
    push(&mut deframer, &[], &mut after, most);
    let (delimiter, good): (&[u8], Vec<u8>) = match kind {
        Kind::Cobs => (&[0], b"good".to_vec()),
        Kind::Slip => (&[0xc0], b"good".to_vec()),
        Kind::Line => (b"\n", b"good".to_vec()),
        Kind::Sized(Layout { size: Size::Fixed(bytes), .. }) => (&[], vec![7; bytes]),
        Kind::Sized(_) => (&[], b"good".to_vec()),
    };
    push(&mut deframer, delimiter, &mut after, most + 2);
    after.clear();
    let mut wire = Vec::new();
    framing.enframer().encode(0, &good, &mut wire).expect("it is short");
    push(&mut deframer, &wire, &mut after, most + wire.len());
    assert!(
        matches!(after.last(), Some(Seen::Frame(read, _)) if *read == good),
        "the frame after the noise was not heard: {after:x?}"
    );
}

/// [`holds`] for COBS.
pub fn cobs(data: &[u8]) {
    let [crc, stream @ ..] = data else { return };
    holds(Kind::Cobs, *crc, stream);
}

/// [`holds`] for SLIP.
pub fn slip(data: &[u8]) {
    let [crc, stream @ ..] = data else { return };
    holds(Kind::Slip, *crc, stream);
}

/// [`holds`] for lines.
pub fn line(data: &[u8]) {
    let [crc, stream @ ..] = data else { return };
    holds(Kind::Line, *crc, stream);
}

const SYNCS: [&[u8]; 4] = [&[0xaa, 0x55], &[0x7e], &[0xa5, 0xa5, 0x5a], &[0, 0]];
const FROM: [Part; 3] = [Part::Body, Part::Length, Part::Sync];

/// [`holds`] for a sync word and a length; the second byte chooses among the layouts.
pub fn length(data: &[u8]) {
    let [crc, choice, stream @ ..] = data else { return };
    let choice = usize::from(*choice);
    let size = Size::Field {
        bytes: 1 + choice % 4,
        order: if choice & 4 == 0 { ByteOrder::Little } else { ByteOrder::Big },
        counts: [Counts::Body, Counts::BodyAndChecksum, Counts::Whole][choice / 8 % 3],
    };
    let layout = Layout::new(SYNCS[choice / 24 % 4], size, FROM[choice % 3]).expect("these are layouts");
    holds(Kind::Sized(layout), *crc, stream);
}

/// [`holds`] for a sync word and one size; the second byte chooses among the layouts.
pub fn fixed(data: &[u8]) {
    let [crc, choice, stream @ ..] = data else { return };
    let choice = usize::from(*choice);
    let size = Size::Fixed(1 + choice / 12 % BODY_BYTES);
    let layout = Layout::new(SYNCS[choice % 4], size, FROM[choice % 3]).expect("these are layouts");
    holds(Kind::Sized(layout), *crc, stream);
}

/// A packet that is read is written alike.
pub fn packet(data: &[u8]) {
    let Ok((header, samples)) = body::split(data) else { return };
    let mut out = vec![0; data.len()];
    let at = header.write(&mut out).expect("it was as long");
    out[at..].copy_from_slice(samples);
    assert_eq!(out, data, "{header:?}");
    assert!(samples.len().is_multiple_of(header.samples.bytes() * usize::from(header.channels)));
}
