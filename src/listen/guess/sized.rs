//! Proposals for streams whose frames begin with a sync word, and then say their length or have one size.
//!
//! A sync word is a run of bytes that comes again and again; a length is a number behind it that leads to
//! the next one, a size a distance that stays. The checksum, where one fits, settles where a frame
//! begins and what it covers.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use super::checksum::{Fit, fitting};
use super::{Proposal, Strength};
use crate::base::wire::ByteOrder;
use crate::config::serial::{CrcFrom, FramingKind, LengthCounts, SyncWord};

/// Longest sync word that is looked for behind a repeated run: longer ones begin with one of these.
const LONGEST_SYNC: usize = 4;
/// Runs of each length that are looked at, most frequent first.
const RUNS: usize = 24;
/// Frames below which nothing is proposed.
const FEWEST_FRAMES: usize = 4;
/// Longest frame that is looked for.
const LONGEST_FRAME: usize = 1100;
/// Share of the bytes that must stand in frames that lead from one to the next.
const SHARE: f64 = 0.6;
/// Structures of one size, best first, whose checksum is looked for; and proposals without one.
const TRIED: usize = 6;
/// The same of those with a length: a sync word may be cut in many ways that lead from frame to frame.
const LENGTHS_TRIED: usize = 32;
/// Constant bytes that may be the sync word: the longest that a config has.
const AROUND: usize = SyncWord::LONGEST;
/// Ways to read frames of one size that are tried.
const READINGS: usize = 256;

/// All of them.
pub(super) fn proposals(bytes: &[u8]) -> Vec<Proposal> {
    let runs = runs(bytes);
    let mut proposals = with_length(bytes, &runs);
    proposals.extend(with_one_size(bytes, &runs));
    proposals
}

/// Runs of bytes that repeat, and where.
fn runs(bytes: &[u8]) -> Vec<(&[u8], Vec<usize>)> {
    let mut all = Vec::new();
    for length in 1..=LONGEST_SYNC {
        let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, run) in bytes.windows(length).enumerate() {
            places.entry(run).or_default().push(at);
        }
        let mut often: Vec<_> = places.into_iter().filter(|(_, at)| at.len() >= FEWEST_FRAMES).collect();
        // Two that are as frequent keep the order of the stream: the same bytes give the same answer.
        often.sort_by_key(|(_, at)| (std::cmp::Reverse(at.len()), at[0]));
        often.truncate(RUNS);
        all.extend(often);
    }
    all
}

/// A chain of frames, each of which leads to the next.
#[derive(Debug)]
struct Chain {
    frames: Vec<(usize, usize)>,
    covered: usize,
}

/// Follows `total` from place to place; `None`: too few lead to another.
fn chain(bytes: &[u8], places: &[usize], total: impl Fn(usize) -> Option<usize>) -> Option<Chain> {
    let mut chain = Chain { frames: Vec::new(), covered: 0 };
    let mut free_from = 0;
    for at in places.iter().copied() {
        let Some(total) = total(at).filter(|total| (3..=LONGEST_FRAME).contains(total)) else { continue };
        if at >= free_from && places.binary_search(&(at + total)).is_ok() {
            chain.frames.push((at, total));
            chain.covered += total;
            free_from = at + total;
        }
    }
    let enough = chain.frames.len() >= FEWEST_FRAMES && chain.covered as f64 >= SHARE * bytes.len() as f64;
    enough.then_some(chain)
}

/// Where a length stands, and what its frames have beside what it counts.
#[derive(Clone, Copy, Debug)]
struct Lengths<'b> {
    sync: &'b [u8],
    bytes: usize,
    order: ByteOrder,
    beside: usize,
}

impl Lengths<'_> {
    fn header(&self) -> usize {
        self.sync.len() + self.bytes
    }

    fn read(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let field = bytes.get(at + self.sync.len()..at + self.header())?;
        let join = |length: usize, byte: &u8| length << 8 | usize::from(*byte);
        Some(match self.order {
            ByteOrder::Big => field.iter().fold(0, join),
            ByteOrder::Little => field.iter().rev().fold(0, join),
        })
    }

    /// What a checksum may cover, with the checksum: from the sync word, from the length, the body.
    fn readings(&self, bytes: &[u8], chain: &Chain) -> [Vec<Vec<u8>>; 3] {
        [0, self.sync.len(), self.header()].map(|start| {
            let frame =
                |(at, total): &(usize, usize)| bytes.get(at + start..at + total).unwrap_or_default().to_vec();
            chain.frames.iter().map(frame).collect()
        })
    }
}

fn with_length(bytes: &[u8], runs: &[(&[u8], Vec<usize>)]) -> Vec<Proposal> {
    let mut found = Vec::new();
    for (sync, places) in runs {
        for (width, order) in [
            (1, ByteOrder::Little),
            (2, ByteOrder::Little),
            (2, ByteOrder::Big),
            (3, ByteOrder::Little),
            (3, ByteOrder::Big),
            (4, ByteOrder::Little),
            (4, ByteOrder::Big),
        ] {
            let field = Lengths { sync, bytes: width, order, beside: 0 };
            let Some(beside) = beside(bytes, places, &field) else { continue };
            let field = Lengths { beside, ..field };
            let total = |at| field.read(bytes, at).filter(|length| *length > 0).map(|length| length + beside);
            let Some(chain) = chain(bytes, places, total) else { continue };
            let mut lengths: Vec<usize> = chain.frames.iter().map(|(_, total)| *total).collect();
            lengths.sort_unstable();
            lengths.dedup();
            found.push((field, chain, lengths.len()));
        }
    }
    // Lengths that differ show that they are lengths; then what explains most, by the shortest sync word; then
    // the widest field: zeros behind a length more often are its high bytes than a body's first.
    found.sort_by_key(|(field, chain, lengths)| {
        std::cmp::Reverse(((*lengths).min(3), chain.covered, usize::MAX - field.sync.len(), field.bytes))
    });
    found.truncate(LENGTHS_TRIED);
    // One search for all of them: what costs is to set up a hundred checksums.
    let readings: Vec<Vec<Vec<u8>>> =
        found.iter().flat_map(|(field, chain, _)| field.readings(bytes, chain)).collect();
    let starts = [CrcFrom::Sync, CrcFrom::Length, CrcFrom::Body];
    let fits = fitting(&readings, None);
    let with_crc = |fit: &Fit| {
        let (field, chain, lengths) = &found[fit.reading / starts.len()];
        field_proposal(field, starts[fit.reading % starts.len()], Some(*fit), chain, *lengths)
    };
    let mut proposals: Vec<Proposal> = fits.iter().filter_map(with_crc).collect();
    if proposals.is_empty() {
        let plain = |(field, chain, lengths): &(Lengths<'_>, Chain, usize)| {
            field_proposal(field, CrcFrom::Body, None, chain, *lengths)
        };
        proposals.extend(found.iter().filter_map(plain).take(TRIED));
    }
    // The same found by way of several runs.
    let mut kinds = Vec::new();
    proposals.retain(|proposal| {
        let kind = (proposal.kind, proposal.crc);
        let is_new = !kinds.contains(&kind);
        kinds.push(kind);
        is_new
    });
    proposals
}

/// What frames have beside what their length counts: that on which most distances agree.
fn beside(bytes: &[u8], places: &[usize], field: &Lengths<'_>) -> Option<usize> {
    let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
    for (nth, at) in places.iter().enumerate() {
        let Some(length) = field.read(bytes, *at).filter(|length| *length > 0) else { continue };
        for next in places[nth + 1..].iter().take(6) {
            let beside = (next - at).checked_sub(length);
            // The whole frame is counted, or sync word and length are not.
            let is_possible =
                |beside: &usize| *beside == 0 || (field.header()..=field.header() + 16).contains(beside);
            if let Some(beside) = beside.filter(is_possible) {
                *votes.entry(beside).or_default() += 1;
            }
        }
    }
    votes
        .into_iter()
        .max_by_key(|(_, votes)| *votes)
        .filter(|(_, votes)| *votes >= FEWEST_FRAMES - 1)
        .map(|(beside, _)| beside)
}

/// `None`: no config says so.
fn field_proposal(
    field: &Lengths<'_>,
    crc_from: CrcFrom,
    fit: Option<Fit>,
    chain: &Chain,
    lengths: usize,
) -> Option<Proposal> {
    let sum = fit.map_or(0, |fit| fit.bytes);
    let counts = match field.beside {
        0 => LengthCounts::Whole,
        beside if beside == field.header() + sum => LengthCounts::Body,
        beside if beside == field.header() => LengthCounts::BodyAndCrc,
        _ => return None,
    };
    let kind = FramingKind::Length {
        sync: sync_word(field.sync)?,
        bytes: field.bytes as u8,
        order: field.order,
        counts,
        crc_from,
    };
    let mut evidence = vec![format!("{lengths} different lengths lead to the next sync word")];
    let has_zeros = field.bytes > 1 && chain.frames.iter().all(|(_, total)| *total < 256);
    if has_zeros && counts == LengthCounts::Whole && field.order == ByteOrder::Little {
        evidence.push("the zeros behind the length's first byte may begin the body".into());
    }
    let strength = if lengths >= 3 { Strength::Strong } else { Strength::Weak };
    Some(Proposal { kind, crc: fit.map(|fit| fit.crc), strength, evidence })
}

fn sync_word(bytes: &[u8]) -> Option<SyncWord> {
    SyncWord::parse(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn with_one_size(bytes: &[u8], runs: &[(&[u8], Vec<usize>)]) -> Vec<Proposal> {
    let mut found: Vec<(usize, Chain)> = Vec::new();
    for (_, places) in runs.iter().filter(|(run, _)| run.len() <= 2) {
        let Some(period) = period(places) else { continue };
        let chain = chain(bytes, places, |_| Some(period));
        found.extend(chain.map(|chain| (period, chain)));
    }
    // One chain shows the period; where in it a frame begins is another question.
    found.sort_by_key(|(period, chain)| (usize::MAX - chain.covered, *period));
    let mut periods: Vec<usize> = Vec::new();
    for (period, _) in &found {
        if !periods.contains(period) {
            periods.push(*period);
        }
    }
    for period in periods.into_iter().take(TRIED) {
        // A byte that stands in a frame twice leads astray where one was lost: most columns stay in the chain that
        // none led so.
        let constant = |chain: &Chain| (0..period).filter(|at| is_constant(bytes, chain, *at)).count();
        let chains = found.iter().filter(|(of, _)| *of == period).map(|(_, chain)| chain);
        let Some(chain) = chains.max_by_key(|chain| (constant(chain), chain.covered)) else { continue };
        let proposals = sizes(bytes, period, chain);
        if !proposals.is_empty() {
            return proposals;
        }
    }
    Vec::new()
}

/// The distance that most places have to one of the next.
fn period(places: &[usize]) -> Option<usize> {
    let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
    for (nth, at) in places.iter().enumerate() {
        for next in places[nth + 1..].iter().take(3) {
            *votes.entry(next - at).or_default() += 1;
        }
    }
    let votes = votes.into_iter().filter(|(period, _)| (4..=LONGEST_FRAME).contains(period));
    // The smallest of those that are as frequent: a multiple is no better.
    votes
        .rev()
        .max_by_key(|(_, votes)| *votes)
        .filter(|(_, votes)| *votes >= FEWEST_FRAMES - 1)
        .map(|(period, _)| period)
}

/// Frames of `period` bytes: where they begin, and under which checksum.
fn sizes(bytes: &[u8], period: usize, chain: &Chain) -> Vec<Proposal> {
    let columns: Vec<bool> = (0..period).map(|column| is_constant(bytes, chain, column)).collect();
    // A frame begins at a byte that never changes; how many follow that do not either.
    let constant =
        |start: usize| (0..AROUND.min(period)).take_while(|at| columns[(start + at) % period]).count();
    let mut starts: Vec<usize> = (0..period).filter(|column| columns[*column]).collect();
    // First where such a run begins, then within it; long runs before short ones.
    starts.sort_by_key(|start| (columns[(start + period - 1) % period], usize::MAX - constant(*start)));
    let mut places = Vec::new();
    let mut readings: Vec<Vec<Vec<u8>>> = Vec::new();
    for start in &starts {
        // Covered from the sync word, or from behind each length that it may have.
        for from in 0..=constant(*start) {
            if readings.len() < READINGS {
                let frame = |(at, _): &(usize, usize)| {
                    bytes.get(at + start + from..at + start + period).map(<[u8]>::to_vec)
                };
                places.push((*start, from));
                readings.push(chain.frames.iter().filter_map(frame).collect());
            }
        }
    }
    let first = chain.frames[0].0;
    let kind = |start: usize, sync: usize, sum: usize, crc_from| {
        Some(FramingKind::Fixed {
            sync: sync_word(bytes.get(first + start..first + start + sync)?)?,
            bytes: NonZeroUsize::new(period.checked_sub(sync + sum)?)?,
            crc_from,
        })
    };
    let same_size = format!("every frame has {period} bytes");
    let with_crc = |fit: Fit| {
        let (start, from) = places[fit.reading];
        let (sync, crc_from) =
            if from == 0 { (constant(start).min(2), CrcFrom::Sync) } else { (from, CrcFrom::Body) };
        let evidence = vec![same_size.clone()];
        kind(start, sync, fit.bytes, crc_from).map(|kind| Proposal {
            kind,
            crc: Some(fit.crc),
            strength: Strength::Strong,
            evidence,
        })
    };
    let proposals: Vec<Proposal> = fitting(&readings, None).into_iter().filter_map(with_crc).collect();
    let Some(start) = starts.first().copied().filter(|start| proposals.is_empty() && constant(*start) >= 2)
    else {
        return proposals;
    };
    let never = format!("of {} bytes that never change; the body may begin among them", constant(start));
    kind(start, 2, 0, CrcFrom::Body)
        .map(|kind| Proposal { kind, crc: None, strength: Strength::Weak, evidence: vec![same_size, never] })
        .into_iter()
        .collect()
}

/// Whether a byte is the same in nearly all frames.
fn is_constant(bytes: &[u8], chain: &Chain, column: usize) -> bool {
    let values: Vec<u8> = chain.frames.iter().filter_map(|(at, _)| bytes.get(at + column).copied()).collect();
    let usual = values.get(values.len() / 2).copied();
    let same = values.iter().filter(|value| Some(**value) == usual).count();
    values.len() >= FEWEST_FRAMES && same * 20 >= values.len() * 19
}
