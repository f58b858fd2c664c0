//! A Modbus bus overheard, whatever its registers are: requests, replies, and bytes that are neither.
//!
//! A reply is told from noise by the request before it, anything else by its CRC alone. Promise: at most
//! 256 bytes are held; a silence ends what was begun. Not here: what registers mean
//! ([`crate::modbus::Listener`]).

use std::fmt;

use crate::modbus::wire::{Asked, EXCEPTION, Exception, MAX_ADU, MAX_UNIT, Reply, is_sealed, sealed_len};

/// What was overheard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adu<'a> {
    /// A question.
    #[expect(missing_docs, reason = "named after the specification")]
    Request { unit: u8, asked: Asked },
    /// The answer to the question before it; or an exception, which says enough without one. The function
    /// is that of the question.
    #[expect(missing_docs, reason = "named after the specification")]
    Answer { unit: u8, function: u8, answer: Result<Reply<'a>, Exception> },
    /// Its CRC holds; which question it answers was not heard, or its function is not one of ours.
    #[expect(missing_docs, reason = "named after the specification")]
    Other { unit: u8, function: u8 },
    /// Bytes that belong to nobody.
    Stray,
}

/// Cuts the stream of a bus.
#[derive(Debug, Default)]
pub struct Cutter {
    held: Vec<u8>,
    asked: Option<Asked>,
}

impl Cutter {
    /// Whether something was begun.
    pub fn is_midway(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes came.
    pub fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(&[u8], Adu<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_ADU - self.held.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.held.extend_from_slice(now);
            rest = later;
            // What fills an ADU and is none begins with a byte that belongs to nobody.
            self.cut(usize::from(self.held.len() == MAX_ADU), tell);
        }
    }

    /// The line was silent: nothing more belongs to what is held.
    pub fn idle(&mut self, tell: &mut impl FnMut(&[u8], Adu<'_>)) {
        self.cut(self.held.len(), tell);
        self.asked = None;
    }

    /// Takes what is whole. Nothing more is waited for where a byte before `hopeless` is the first.
    fn cut(&mut self, hopeless: usize, tell: &mut impl FnMut(&[u8], Adu<'_>)) {
        let Self { held, asked } = self;
        let (mut at, mut stray) = (0, 0);
        while at < held.len() {
            let rest = &held[at..];
            let Some((adu, bytes)) = whole(rest, asked) else {
                if at >= hopeless {
                    break;
                }
                at += 1;
                continue;
            };
            if stray < at {
                tell(&held[stray..at], Adu::Stray);
            }
            tell(&rest[..bytes], adu);
            at += bytes;
            stray = at;
        }
        if stray < at {
            tell(&held[stray..at], Adu::Stray);
        }
        held.drain(..at);
    }
}

/// The ADU at the start, with its length.
fn whole<'a>(rest: &'a [u8], last: &mut Option<Asked>) -> Option<(Adu<'a>, usize)> {
    let [unit, function, ..] = *rest else { return None };
    // An answer first: that to a write is its request once more.
    if let Some((answer, bytes)) = last.and_then(|asked| asked.answer_at_start(rest)) {
        *last = None;
        return Some((Adu::Answer { unit, function: function & !EXCEPTION, answer }, bytes));
    }
    if let Ok(Some((asked, bytes))) = Asked::overheard(rest) {
        *last = Some(asked);
        return Some((Adu::Request { unit, asked }, bytes));
    }
    let bytes = other(rest).filter(|_| unit <= MAX_UNIT)?;
    let adu = match *rest {
        [_, _, code, ..] if function & EXCEPTION != 0 => {
            Adu::Answer { unit, function: function & !EXCEPTION, answer: Err(Exception(code)) }
        }
        _ => Adu::Other { unit, function },
    };
    Some((adu, bytes))
}

/// Length of an answer whose question was not heard, or of a function that has no other mark than its CRC.
fn other(rest: &[u8]) -> Option<usize> {
    let bytes = match rest {
        [_, 1..=4, count, ..] => 5 + usize::from(*count),
        [_, 5 | 6 | 15 | 16, ..] => 8,
        [_, 0x81..=0x98 | 0xab, ..] => 5,
        [_, 7 | 8 | 11 | 12 | 17 | 20..=24 | 43, ..] => return sealed_len(rest),
        _ => return None,
    };
    rest.get(..bytes).is_some_and(is_sealed).then_some(bytes)
}

/// A question in words.
fn question(asked: &Asked, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Asked { function, address, operand, .. } = *asked;
    match (function, asked.table()) {
        (_, Some(table)) => write!(f, "reads {operand} {}s from {address}", table.as_str()),
        (5, None) => write!(f, "writes coil {address}: {}", if operand == 0 { "off" } else { "on" }),
        (6, None) => write!(f, "writes holding register {address}: {operand}"),
        (15, None) => write!(f, "writes {operand} coils from {address}"),
        (_, None) => write!(f, "writes {operand} holding registers from {address}"),
    }
}

impl fmt::Display for Adu<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { unit, asked } => {
                write!(f, "unit {unit}: ")?;
                question(asked, f)
            }
            Self::Answer { unit, function, answer: Err(exception) } => {
                write!(f, "unit {unit}: function {function} refused: {exception}")
            }
            Self::Answer { unit, answer: Ok(Reply::Written), .. } => write!(f, "unit {unit}: written"),
            Self::Answer { unit, answer: Ok(Reply::Bits(bytes)), .. } => {
                write!(f, "unit {unit}:")?;
                bytes.iter().try_for_each(|byte| write!(f, " {:08b}", byte.reverse_bits()))
            }
            Self::Answer { unit, answer: Ok(Reply::Registers(bytes)), .. } => {
                write!(f, "unit {unit}:")?;
                let registers = bytes.as_chunks::<2>().0;
                registers.iter().try_for_each(|register| write!(f, " {}", u16::from_be_bytes(*register)))
            }
            Self::Other { unit, function } => write!(f, "unit {unit}: function {function}"),
            Self::Stray => f.write_str("bytes that belong to nobody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::wire::{Adu as Bytes, Request, Table};
    use proptest::prelude::*;

    fn sealed(body: &[u8]) -> Vec<u8> {
        let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(body);
        [body, &crc.to_le_bytes()].concat()
    }

    /// A poll of two registers, its answer, a write and its echo, an exception.
    fn bus() -> Vec<u8> {
        let mut request = Bytes::new();
        let read = Request::Read { table: Table::HoldingRegisters, address: 10, count: 2 };
        read.encode(1, &mut request).unwrap();
        let mut all = request.to_vec();
        all.extend(sealed(&[1, 3, 4, 0, 7, 1, 0]));
        let write = Request::WriteCoil { address: 4, on: true };
        write.encode(2, &mut request).unwrap();
        all.extend_from_slice(&request);
        all.extend_from_slice(&request);
        read.encode(3, &mut request).unwrap();
        all.extend_from_slice(&request);
        all.extend(sealed(&[3, 0x83, 2]));
        all
    }

    fn heard(portions: &[&[u8]]) -> Vec<String> {
        let mut said = Vec::new();
        let mut cutter = Cutter::default();
        let mut tell = |bytes: &[u8], adu: Adu<'_>| said.push(format!("{} {adu}", bytes.len()));
        for portion in portions {
            cutter.push(portion, &mut tell);
        }
        cutter.idle(&mut tell);
        assert!(!cutter.is_midway());
        said
    }

    const SAID: [&str; 6] = [
        "8 unit 1: reads 2 holding registers from 10",
        "9 unit 1: 7 256",
        "8 unit 2: writes coil 4: on",
        "8 unit 2: written",
        "8 unit 3: reads 2 holding registers from 10",
        "5 unit 3: function 3 refused: exception 2 (illegal data address: ",
    ];

    fn are_said(said: &[String]) {
        assert_eq!(said.len(), SAID.len(), "{said:?}");
        for (said, begins) in said.iter().zip(SAID) {
            assert!(said.starts_with(begins), "{said}");
        }
    }

    #[test]
    fn questions_and_answers_are_told_with_what_they_say() {
        are_said(&heard(&[&bus()]));
    }

    #[test]
    fn an_answer_without_its_question_is_known_by_its_crc() {
        assert_eq!(heard(&[&bus()[8..17]]), ["9 unit 1: function 3"]);
    }

    #[test]
    fn an_exception_says_in_words_what_was_refused_whatever_was_asked_before_it() {
        let all = bus();
        let refusal = &all[all.len() - 5..];
        for before in [&[][..], &all[..8]] {
            let said = heard(&[before, refusal]);
            assert!(said.last().unwrap().starts_with(SAID[5]), "{said:?}");
        }
        assert!(
            heard(&[&sealed(&[1, 0xab, 1])])[0].starts_with("5 unit 1: function 43 refused: exception 1 (")
        );
    }

    #[test]
    fn noise_is_told_and_costs_nothing_behind_it() {
        let mut noisy = vec![0xff, 0x13, 0x00];
        noisy.extend(bus());
        let said = heard(&[&noisy]);
        assert_eq!(said[0], "3 bytes that belong to nobody");
        are_said(&said[1..]);
    }

    proptest! {
        #[test]
        fn portions_do_not_matter(cuts in prop::collection::vec(0usize..46, 0..6)) {
            let (bytes, mut cuts) = (bus(), cuts);
            cuts.sort_unstable();
            let mut portions = Vec::new();
            let mut from = 0;
            for cut in cuts {
                portions.push(&bytes[from..cut.max(from)]);
                from = cut.max(from);
            }
            portions.push(&bytes[from..]);
            are_said(&heard(&portions));
        }

        #[test]
        fn every_byte_is_told_once(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            let mut told = Vec::new();
            let mut cutter = Cutter::default();
            cutter.push(&bytes, &mut |bytes, _| told.extend_from_slice(bytes));
            prop_assert!(cutter.held.len() <= MAX_ADU);
            cutter.idle(&mut |bytes, _| told.extend_from_slice(bytes));
            prop_assert_eq!(told, bytes);
        }
    }
}
