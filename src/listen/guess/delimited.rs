//! Proposals for streams whose frames end at a byte: lines, COBS, SLIP.

use super::checksum::{Fit, fitting};
use super::{Proposal, Strength, reads_as_text};
use crate::base::wire::ByteOrder;
use crate::config::serial::FramingKind;
use crate::stage::decode::framing::{Deframe, Step, Unchecked, cobs, slip};

/// Frames below which nothing is proposed.
const FEWEST_FRAMES: usize = 3;

/// All of them.
pub(super) fn proposals(bytes: &[u8]) -> Vec<Proposal> {
    let mut proposals = lines(bytes);
    let mut buf = vec![0; 4096];
    let zero_ended = frames(&mut cobs::Deframer::new(Unchecked, buf.as_mut_slice()), bytes);
    proposals.extend(stuffed(FramingKind::Cobs, zero_ended, cobs_strength(bytes)));
    let end_marked = frames(&mut slip::Deframer::new(Unchecked, buf.as_mut_slice()), bytes);
    proposals.extend(stuffed(FramingKind::Slip, end_marked, slip_strength(bytes)));
    proposals
}

/// Text lines, with and without a checksum behind `*`.
pub(super) fn lines(bytes: &[u8]) -> Vec<Proposal> {
    let ended = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let whole = bytes[..ended].split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = whole.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let text: Vec<&[u8]> = lines.iter().copied().filter(|line| reads_as_text(line)).collect();
    if text.len() < FEWEST_FRAMES || text.len() * 10 < lines.len() * 7 {
        return Vec::new();
    }
    let plain = Proposal {
        kind: FramingKind::Line,
        crc: None,
        strength: Strength::Strong,
        evidence: vec![format!("{} of {} lines are text", text.len(), lines.len())],
    };
    let sealed: Vec<Vec<u8>> = text.iter().filter_map(|line| unstarred(line)).collect();
    let mut proposals = vec![plain];
    if sealed.len() * 10 >= text.len() * 6 {
        let fits = fitting(&[sealed], Some(ByteOrder::Big));
        proposals.extend(fits.into_iter().map(|fit| with_crc(FramingKind::Line, fit)));
    }
    proposals
}

/// What a line's checksum covers, and the checksum's bytes behind it.
fn unstarred(line: &[u8]) -> Option<Vec<u8>> {
    let star = line.iter().rposition(|byte| *byte == b'*')?;
    let digits = std::str::from_utf8(&line[star + 1..]).ok()?;
    if digits.is_empty() || digits.len() % 2 != 0 || digits.len() > 32 || !digits.is_ascii() {
        return None;
    }
    let mut sealed = line[..star].to_vec();
    for at in (0..digits.len()).step_by(2) {
        sealed.push(u8::from_str_radix(&digits[at..at + 2], 16).ok()?);
    }
    Some(sealed)
}

/// Good frames, and how many were bad.
struct Cut {
    good: Vec<Vec<u8>>,
    bad: usize,
}

fn frames(deframer: &mut impl Deframe, bytes: &[u8]) -> Cut {
    let mut cut = Cut { good: Vec::new(), bad: 0 };
    let mut input = bytes;
    loop {
        match deframer.push(input) {
            Step::NeedMore => return cut,
            // A body of one byte is what zeros in plain numbers look like.
            Step::Frame { body, rest, .. } => {
                input = rest;
                if body.len() >= 2 { cut.good.push(body.to_vec()) } else { cut.bad += 1 }
            }
            Step::Bad { rest, .. } => {
                input = rest;
                cut.bad += 1;
            }
        }
    }
}

fn stuffed(kind: FramingKind, cut: Cut, strength: Option<Strength>) -> Vec<Proposal> {
    let (good, all) = (cut.good.len(), cut.good.len() + cut.bad);
    if good < FEWEST_FRAMES || good * 10 < all * 6 {
        return Vec::new();
    }
    let mut proposals: Vec<Proposal> =
        fitting(&[cut.good], None).into_iter().map(|fit| with_crc(kind, fit)).collect();
    if proposals.is_empty() && good * 10 >= all * 9 {
        let evidence =
            vec![format!("{good} of {all} frames keep the rules of the framing; no checksum fits")];
        proposals.extend(strength.map(|strength| Proposal { kind, crc: None, strength, evidence }));
    }
    proposals
}

/// A frame's first byte says how far the next zero was, and so on up to its end: few others do.
fn cobs_strength(bytes: &[u8]) -> Option<Strength> {
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    Some(if zeros >= 8 { Strength::Strong } else { Strength::Weak })
}

/// Escapes, or delimiters at both ends: a 0xC0 alone may stand anywhere.
fn slip_strength(bytes: &[u8]) -> Option<Strength> {
    let pairs =
        |pairs: &[[u8; 2]]| bytes.windows(2).filter(|pair| pairs.iter().any(|one| one == *pair)).count();
    match (pairs(&[[0xc0, 0xc0]]), pairs(&[[0xdb, 0xdc], [0xdb, 0xdd]])) {
        (4.., _) | (_, 2..) => Some(Strength::Strong),
        (1.., _) | (_, 1) => Some(Strength::Weak),
        _ => None,
    }
}

fn with_crc(kind: FramingKind, fit: Fit) -> Proposal {
    Proposal { kind, crc: Some(fit.crc), strength: Strength::Strong, evidence: Vec::new() }
}
