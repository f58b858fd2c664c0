//! What is spoken on a line that nobody describes: rate, framing, checksum, out of the bytes alone.
//!
//! Pure: for each rate that was tried, the bytes that came at it; out comes a ranking. Each proposal is
//! tried with the daemon's own codec, and stands by what that took. Promise: a proposal that is
//! [`Confidence::Certain`] rests on a checksum that held often enough to be no accident (32 bits at
//! least); noise, and a line heard at the wrong rate, give none.
//!
//! - [`checksum`]: which CRC of the catalogue fits
//! - [`delimited`]: lines, COBS, SLIP; [`sized`]: sync words with a length or a size
//! - Modbus RTU: by [`super::adu`]
//! - [`keys`]: a proposal as a configuration has it

mod checksum;
mod delimited;
mod keys;
mod sized;

use std::num::NonZeroUsize;
use std::time::Duration;

use super::adu::{Adu, Cutter};
use super::ear::{Ear, What};
use super::show::is_text;
use crate::base::Micros;
use crate::base::wire::{ByteOrder, CrcName};
use crate::config::Format;
use crate::config::serial::{Framing, FramingKind, Line, Parity};
use crate::stage::decode::framing::packet;

/// Bytes of a sample that are looked at: structure shows itself in fewer.
pub const LOOKED_AT_BYTES: usize = 16 * 1024;
/// Fewer bytes say nothing.
pub const FEWEST_BYTES: usize = 24;
/// Bodies by which a format is told.
const BODIES: usize = 64;

/// What came at one rate.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// How the port was set.
    pub line: Line,
    /// What came.
    pub bytes: &'a [u8],
    /// Framing and parity errors that the driver counted meanwhile.
    pub line_faults: u64,
}

/// How much a proposal is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// It fits, and so may others.
    Hint,
    /// It fits well, and little else would.
    Likely,
    /// A checksum holds.
    Certain,
}

impl Confidence {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// What may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// Frames.
    Frames(Framing),
    /// Modbus RTU: somebody asks, others answer.
    Modbus,
}

/// A proposal with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Rate and character.
    pub line: Line,
    /// What is spoken.
    pub spoken: Spoken,
    /// What bodies look like.
    pub format: Option<Format>,
    /// What it is worth.
    pub confidence: Confidence,
    /// Good frames.
    pub frames: u64,
    /// Frames that are damaged if this is right.
    pub bad: u64,
    /// Share of the bytes that stands in good frames.
    pub explained: f64,
    /// Remarks for people.
    pub evidence: Vec<String>,
    line_faults: u64,
}

/// The best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// What may be.
    pub hypotheses: Vec<Hypothesis>,
    /// The same came at every rate: the port has none (a pty, a network adapter).
    pub any_rate: bool,
}

/// Ranks what may be spoken.
pub fn rank(samples: &[Sample<'_>]) -> Ranking {
    let mut hypotheses: Vec<Hypothesis> = Vec::new();
    for sample in samples {
        hypotheses.extend(of_sample(sample));
    }
    let key = |hypothesis: &Hypothesis| {
        // To a twentieth: a torn frame at either end decides nothing.
        let explained = (hypothesis.explained * 20.0).round() as u64;
        (hypothesis.confidence, explained, u64::MAX - hypothesis.line_faults, hypothesis.frames)
    };
    hypotheses.sort_by_key(|hypothesis| std::cmp::Reverse(key(hypothesis)));
    let mut any_rate = false;
    if let Some(best) = hypotheses.first().map(|best| (best.spoken, best.line)) {
        let told: Vec<_> = samples.iter().filter(|sample| sample.bytes.len() >= FEWEST_BYTES).collect();
        let fits =
            |line: Line| hypotheses.iter().any(|one| one.spoken == best.0 && one.line.baud == line.baud);
        let bauds = told.iter().any(|sample| sample.line.baud != best.1.baud);
        any_rate = bauds && told.iter().all(|sample| fits(sample.line));
        if any_rate {
            let first = told.first().map_or(best.1.baud, |sample| sample.line.baud);
            hypotheses.retain(|one| one.line.baud == first);
        }
    }
    Ranking { hypotheses, any_rate }
}

/// What may be spoken at one rate, unsorted.
fn of_sample(sample: &Sample<'_>) -> Vec<Hypothesis> {
    let bytes = &sample.bytes[..sample.bytes.len().min(LOOKED_AT_BYTES)];
    if bytes.len() < FEWEST_BYTES {
        return Vec::new();
    }
    let mut found = Vec::new();
    found.extend(modbus(bytes).map(|one| one.on(sample)));
    let proposals = delimited::proposals(bytes).into_iter().chain(sized::proposals(bytes));
    found.extend(proposals.filter_map(|proposal| weigh(proposal, bytes)).map(|one| one.on(sample)));
    if let Some((parity, seven)) = seven_bits(bytes) {
        let line = Line { data_bits: 7, parity, ..sample.line };
        let as_sampled = Sample { line, bytes: &seven, ..*sample };
        let lines = delimited::lines(&seven).into_iter().filter_map(|proposal| weigh(proposal, &seven));
        found.extend(lines.map(|mut one| {
            let name = if parity == Parity::Even { "even" } else { "odd" };
            one.evidence
                .push(format!("each of {} characters has {name} parity in its eighth bit", seven.len()));
            one.on(&as_sampled)
        }));
    }
    // Beside a checksum that holds, what merely fits is an accident.
    let best = found.iter().map(|one| one.confidence).max();
    found.retain(|one| one.confidence != Confidence::Hint || best == Some(Confidence::Hint));
    found.retain(|one| best != Some(Confidence::Certain) || one.confidence == Confidence::Certain);
    let most = found.iter().map(|one| one.explained).fold(0.0, f64::max);
    found.retain(|one| one.explained >= 0.9 * most);
    found
}

/// A framing to be tried, and why.
#[derive(Clone, Debug)]
struct Proposal {
    kind: FramingKind,
    crc: Option<(CrcName, Option<ByteOrder>)>,
    /// What it is worth without a checksum.
    strength: Strength,
    evidence: Vec<String>,
}

/// What a structure without a checksum is worth, where the codec takes nearly all of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strength {
    /// A hint.
    Weak,
    /// Likely.
    Strong,
}

impl Proposal {
    fn framing(&self) -> Framing {
        Framing {
            kind: self.kind,
            crc: self.crc.map(|(name, _)| name),
            crc_order: self.crc.and_then(|(_, order)| order),
            sequence_bytes: 0,
            max_frame_bytes: NonZeroUsize::new(4096).expect("it is not 0"),
            idle_reset: Duration::from_millis(200),
        }
    }
}

/// The line on which proposals are tried: only ratios count.
const ANY_LINE: Line = Line {
    baud: 115_200,
    data_bits: 8,
    parity: Parity::None,
    stop_bits: 1,
    flow: crate::config::serial::FlowControl::None,
    rs485: false,
};

/// Tries a proposal with the daemon's codec. `None`: too little fits.
fn weigh(proposal: Proposal, bytes: &[u8]) -> Option<Hypothesis> {
    let framing = proposal.framing();
    let mut ear = Ear::of_frames(&ANY_LINE, &framing, false);
    let (mut explained, mut bodies) = (0, Vec::new());
    ear.received(Micros(0), bytes, &mut |seen| {
        if let What::Frame { payload, .. } = seen.what {
            explained += seen.wire_bytes;
            if bodies.len() < BODIES {
                bodies.push(payload.to_vec());
            }
        }
    });
    let (frames, bad) = (ear.tally.frames, ear.tally.bad_frames());
    let explained = explained as f64 / bytes.len() as f64;
    let confidence = match (proposal.crc, proposal.strength) {
        (Some(_), _) if frames >= 2 && explained >= 0.3 => Confidence::Certain,
        (None, Strength::Strong) if frames >= 4 && explained >= 0.9 => Confidence::Likely,
        (None, _) if frames >= 3 && explained >= 0.7 => Confidence::Hint,
        _ => return None,
    };
    let mut evidence = proposal.evidence;
    if let Some((name, _)) = proposal.crc {
        evidence.insert(0, format!("{} holds for {frames} frames", name.as_str()));
    }
    let counting = bodies.windows(2).filter(|pair| follows(&pair[0], &pair[1])).count();
    if bodies.len() >= 4 && counting * 10 >= (bodies.len() - 1) * 9 {
        evidence.push("the first byte counts up; with sequence_bytes = 1 missing frames are counted".into());
    }
    Some(Hypothesis {
        line: ANY_LINE,
        spoken: Spoken::Frames(framing),
        format: format(&bodies),
        confidence,
        frames,
        bad,
        explained,
        evidence,
        line_faults: 0,
    })
}

/// Whether a body's first byte is one more than that of the body before.
fn follows(before: &[u8], after: &[u8]) -> bool {
    match (before.first(), after.first()) {
        (Some(before), Some(after)) => *after == before.wrapping_add(1),
        _ => false,
    }
}

/// What all bodies are.
fn format(bodies: &[Vec<u8>]) -> Option<Format> {
    // The first may be half of one.
    let whole = if bodies.len() > 2 { &bodies[1..] } else { bodies };
    let all = |is: fn(&[u8]) -> bool| !whole.is_empty() && whole.iter().all(|body| is(body));
    let is_json = |body: &[u8]| {
        matches!(serde_json::from_slice(body), Ok(serde_json::Value::Object(_) | serde_json::Value::Array(_)))
    };
    let is_csv = |body: &[u8]| {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let mut cells = text.split([',', ';', '\t', ' ']).filter(|cell| !cell.trim().is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.trim().parse::<f64>().is_ok())
    };
    if all(|body| packet::split(body).is_ok()) {
        Some(Format::Packet)
    } else if all(is_json) {
        Some(Format::Json)
    } else if all(is_csv) {
        Some(Format::Csv)
    } else {
        None
    }
}

fn modbus(bytes: &[u8]) -> Option<Hypothesis> {
    let (mut explained, mut frames, mut questions) = (0, 0, 0);
    let mut cutter = Cutter::default();
    let mut tell = |wire: &[u8], adu: Adu<'_>| match adu {
        Adu::Request { .. } | Adu::Answer { function: 1..=16, .. } | Adu::Other { function: 1..=16, .. } => {
            explained += wire.len();
            frames += 1;
            questions += u64::from(matches!(adu, Adu::Request { .. }));
        }
        Adu::Answer { .. } | Adu::Other { .. } | Adu::Stray => {}
    };
    cutter.push(bytes, &mut tell);
    cutter.idle(&mut tell);
    let explained = explained as f64 / bytes.len() as f64;
    (frames >= 3 && explained >= 0.3).then(|| Hypothesis {
        line: ANY_LINE,
        spoken: Spoken::Modbus,
        format: Some(Format::Json),
        confidence: Confidence::Certain,
        frames,
        bad: 0,
        explained,
        evidence: vec![format!(
            "CRC-16/MODBUS holds for {frames} requests and answers; {questions} are requests"
        )],
        line_faults: 0,
    })
}

/// The characters without their parity bit, if the eighth bit is one everywhere.
fn seven_bits(bytes: &[u8]) -> Option<(Parity, Vec<u8>)> {
    let odd = bytes.iter().filter(|byte| byte.count_ones() % 2 == 1).count();
    let parity = match odd {
        0 => Parity::Even,
        all if all == bytes.len() => Parity::Odd,
        _ => return None,
    };
    let set = bytes.iter().filter(|byte| **byte >= 0x80).count();
    (set > 0 && set < bytes.len()).then(|| (parity, bytes.iter().map(|byte| byte & 0x7f).collect()))
}

impl Hypothesis {
    /// Found at the rate of `sample`.
    fn on(mut self, sample: &Sample<'_>) -> Self {
        (self.line, self.line_faults) = (sample.line, sample.line_faults);
        let share = sample.line_faults as f64 / sample.bytes.len().max(1) as f64;
        if share > 0.02 {
            self.evidence.push(format!("but the driver counts {} line errors", sample.line_faults));
            if self.confidence == Confidence::Likely {
                self.confidence = Confidence::Hint;
            }
        }
        self
    }
}

/// Whether bytes of a line are text.
fn reads_as_text(line: &[u8]) -> bool {
    !line.is_empty() && is_text(line)
}

#[cfg(test)]
mod tests;
