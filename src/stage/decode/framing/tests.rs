//! Facts about all framings: what is sent arrives, however it is cut, and a bad byte costs what the
//! module says.

use proptest::prelude::*;

use super::any::{AnyDeframer, Enframer, Framing, Kind};
use super::sequence::SequenceField;
use super::sized::{Counts, Layout, Part, Size};
use super::*;
use crate::base::wire::CrcName;

/// Every framing with bodies of `bytes` at most; `crc` by name.
fn framings(bytes: usize, crc: Option<&str>) -> Vec<Framing> {
    let field = |bytes, order, counts| Size::Field { bytes, order, counts };
    let sized = |sync: &[u8], size, from| Kind::Sized(Layout::new(sync, size, from).unwrap());
    let kinds = [
        Kind::Cobs,
        Kind::Slip,
        Kind::Line,
        sized(&[0xaa, 0x55], field(2, ByteOrder::Little, Counts::Body), Part::Body),
        sized(&[0x7e], field(1, ByteOrder::Big, Counts::Whole), Part::Sync),
        sized(&[0xa5, 0xa5, 0x5a], field(4, ByteOrder::Big, Counts::BodyAndChecksum), Part::Length),
        sized(&[0xeb, 0x90], Size::Fixed(bytes), Part::Sync),
    ];
    let crc = crc.map(|name| CrcName::parse(name).unwrap());
    kinds
        .map(|kind| Framing {
            kind,
            crc,
            crc_order: None,
            sequence: SequenceField::None,
            max_body_bytes: bytes,
        })
        .into()
}

/// A body that the framing can carry: text for lines, the one size for fixed ones.
fn carried(framing: &Framing, bytes: &[u8]) -> Vec<u8> {
    let mut body = bytes.to_vec();
    match framing.kind {
        Kind::Line => body.iter_mut().for_each(|byte| *byte = b' ' + *byte % 90),
        Kind::Sized(Layout { size: Size::Fixed(size), .. }) => body.resize(size, 0xeb),
        _ => {}
    }
    if body.is_empty() {
        body.push(b'x');
    }
    body
}

fn encoded(framing: &Framing, bodies: &[Vec<u8>]) -> Vec<u8> {
    sent_by(&mut framing.enframer(), bodies)
}

/// The same by a sender that is there: its tables take longer than a frame does.
fn sent_by(enframer: &mut Enframer, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for body in bodies {
        enframer.encode(0, body, &mut wire).unwrap();
    }
    wire
}

/// All frames and faults of a stream, as owned values.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Frame { body: Vec<u8>, began: u32 },
    Bad(WireError),
}

fn push(deframer: &mut AnyDeframer, mut input: &[u8], seen: &mut Vec<Seen>) {
    loop {
        match deframer.push(input) {
            Step::NeedMore => return,
            Step::Frame { body, began, rest } => {
                seen.push(Seen::Frame { body: body.into(), began });
                input = rest;
            }
            Step::Bad { why, rest } => {
                seen.push(Seen::Bad(why));
                input = rest;
            }
        }
    }
}

fn received(framing: &Framing, portions: &[&[u8]]) -> Vec<Seen> {
    let mut deframer = framing.deframer();
    let mut seen = Vec::new();
    for portion in portions {
        push(&mut deframer, portion, &mut seen);
    }
    seen
}

fn bodies(seen: &[Seen]) -> Vec<Vec<u8>> {
    let body = |seen: &Seen| match seen {
        Seen::Frame { body, .. } => Some(body.clone()),
        Seen::Bad(_) => None,
    };
    seen.iter().filter_map(body).collect()
}

/// Cuts `bytes` at the given places.
fn cut<'b>(bytes: &'b [u8], places: &[usize]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut portions = Vec::new();
    let mut from = 0;
    for place in places.into_iter().chain([bytes.len()]) {
        portions.push(&bytes[from..place]);
        from = place;
    }
    portions
}

const CRCS: [Option<&str>; 4] = [None, Some("crc8_smbus"), Some("crc16_ibm_3740"), Some("CRC-32/ISO-HDLC")];

proptest! {
    #[test]
    fn what_is_sent_arrives_with_its_place(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
        crc in 0..CRCS.len(),
    ) {
        for framing in framings(40, CRCS[crc]) {
            let sent: Vec<Vec<u8>> = bodies.iter().map(|body| carried(&framing, body)).collect();
            let mut expected = Vec::new();
            let mut at = 0;
            for body in &sent {
                // SLIP begins with a delimiter, which is not the frame's first byte.
                let lead = u32::from(framing.kind == Kind::Slip);
                expected.push(Seen::Frame { body: body.clone(), began: at + lead });
                at += encoded(&framing, std::slice::from_ref(body)).len() as u32;
            }
            prop_assert_eq!(received(&framing, &[&encoded(&framing, &sent)]), expected, "{:?}", framing);
        }
    }

    #[test]
    fn portions_do_not_matter(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
        places in prop::collection::vec(any::<usize>(), 0..12),
        crc in 0..CRCS.len(),
    ) {
        for framing in framings(20, CRCS[crc]) {
            let sent: Vec<Vec<u8>> = bodies.iter().map(|body| carried(&framing, body)).collect();
            let mut wire = encoded(&framing, &sent);
            wire.extend(&noise);
            wire.extend(encoded(&framing, &sent));
            let whole = received(&framing, &[&wire]);
            prop_assert_eq!(received(&framing, &cut(&wire, &places)), whole.clone(), "{:?}", framing);
            let bytes: Vec<&[u8]> = wire.chunks(1).collect();
            prop_assert_eq!(received(&framing, &bytes), whole, "{:?}", framing);
        }
    }
}

/// Sits between two ends of a line and spoils what passes, always alike for one seed.
struct NoisyLine {
    state: u64,
    flip_per_mille: u64,
    drop_per_mille: u64,
    insert_per_mille: u64,
}

impl NoisyLine {
    fn new(seed: u64, flip_per_mille: u64, drop_per_mille: u64, insert_per_mille: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, flip_per_mille, drop_per_mille, insert_per_mille }
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.random() % end as u64) as usize
    }

    fn passes(&mut self, wire: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(wire.len() + 8);
        for &byte in wire {
            let dice = self.random() % 1000;
            if dice < self.flip_per_mille {
                out.push(byte ^ 1 << self.below(8));
            } else if dice < self.flip_per_mille + self.drop_per_mille {
            } else if dice < self.flip_per_mille + self.drop_per_mille + self.insert_per_mille {
                out.extend([byte, self.random() as u8]);
            } else {
                out.push(byte);
            }
        }
        out
    }

    /// Each bit is wrong with this probability, whatever its neighbours are.
    fn wrong_bits(&mut self, wire: &[u8], rate: f64) -> Vec<u8> {
        let mut out = wire.to_vec();
        let mut bit = 0;
        loop {
            // How many are right before the next wrong one: a geometric distribution.
            let uniform = (self.random() >> 11) as f64 / (1u64 << 53) as f64;
            bit += ((1.0 - uniform).ln() / (1.0 - rate).ln()) as usize;
            let Some(byte) = out.get_mut(bit / 8) else { return out };
            *byte ^= 1 << (bit % 8);
            bit += 1;
        }
    }

    /// One byte of `wire`, spoiled in one of three ways.
    fn one_bad_byte(&mut self, wire: &[u8]) -> Vec<u8> {
        let at = self.below(wire.len());
        let mut out = wire.to_vec();
        match self.random() % 3 {
            0 => out[at] ^= 1 + (self.random() % 255) as u8,
            1 => {
                out.remove(at);
            }
            _ => out.insert(at, self.random() as u8),
        }
        out
    }
}

/// Frames of `sent` that are missing in `got`, which holds them in order; and frames that were not sent.
fn lost_and_wrong(sent: &[Vec<u8>], got: &[Vec<u8>]) -> (usize, usize) {
    let mut next = 0;
    let (mut arrived, mut wrong) = (0, 0);
    for body in got {
        match sent[next..].iter().position(|sent| sent == body) {
            Some(ahead) => {
                arrived += 1;
                next += ahead + 1;
            }
            None => wrong += 1,
        }
    }
    (sent.len() - arrived, wrong)
}

/// CRC-16/IBM-3740 with a final XOR. Without one, zeros behind the checksum go unseen, and in frames whose
/// length is where the delimiter stands that is more than chance: FORMAT.md says so.
const WITH_XOR: &str = "crc16_genibus";

/// Frames on the wire before and behind the spoiled one, each with its own number.
const FRAMES: usize = 12;

fn a_bad_byte_costs_at_most(cases: u64) {
    for framing in framings(24, Some(WITH_XOR)) {
        let mut noise = NoisyLine::new(7, 0, 0, 0);
        let (mut enframer, mut deframer) = (framing.enframer(), framing.deframer());
        let (mut most_lost, mut wrong_frames) = (0, 0);
        for case in 0..cases {
            let sent: Vec<Vec<u8>> = (0..FRAMES)
                .map(|frame| {
                    let length = 2 + noise.below(22);
                    let mut body: Vec<u8> = (0..length).map(|_| noise.random() as u8).collect();
                    body[0] = frame as u8;
                    carried(&framing, &body)
                })
                .collect();
            let wire = sent_by(&mut enframer, &sent);
            // The last frames are left alone, so that every wait for more bytes ends.
            let spoiled = sent_by(&mut enframer, &sent[..FRAMES / 2]).len();
            let mut line = noise.one_bad_byte(&wire[..spoiled]);
            line.extend(&wire[spoiled..]);
            let mut seen = Vec::new();
            push(&mut deframer, &line, &mut seen);
            deframer.idle();
            push(&mut deframer, &[], &mut seen);
            let (lost, wrong) = lost_and_wrong(&sent, &bodies(&seen));
            assert!(
                lost <= 2,
                "case {case}: {lost} frames lost\n{framing:?}\n{sent:x?}\n{line:x?}\n{seen:x?}"
            );
            if lost > 0 && wrong == 0 {
                assert!(seen.iter().any(|seen| matches!(seen, Seen::Bad(_))), "case {case}: lost in silence");
            }
            // A wrong frame that the checksum lets pass, by chance, may have the length of two.
            if wrong == 0 {
                most_lost = most_lost.max(lost);
            }
            wrong_frames += wrong;
        }
        // One false frame in 65 536 is the checksum's own bound; a false sync tries it more than once.
        assert!(wrong_frames as u64 <= 2 + cases / 5_000, "{wrong_frames} wrong frames: {framing:?}");
        let bound = match framing.kind {
            Kind::Cobs | Kind::Line => 2,
            Kind::Slip | Kind::Sized(_) => 1,
        };
        println!(
            "{:?}: one bad byte cost {most_lost} frame(s) at most, in {cases} cases; {wrong_frames} wrong frames taken",
            framing.kind
        );
        assert!(most_lost <= bound, "{most_lost} frames lost by one byte: {framing:?}");
    }
}

#[test]
fn a_bad_byte_costs_one_frame_or_two_and_never_in_silence() {
    a_bad_byte_costs_at_most(3_000);
}

#[test]
#[ignore = "minutes: 10⁶ cases for each framing (tests/run --long)"]
fn a_bad_byte_costs_one_frame_or_two_in_a_million_cases() {
    a_bad_byte_costs_at_most(1_000_000);
}

/// What comes of `frames` whose bits are wrong once in a thousand: no more wrong ones than 16 bits of
/// checksum must let through.
fn wrong_frames_at_bit_errors(frames: usize) {
    for framing in framings(24, Some(WITH_XOR)) {
        let mut noise = NoisyLine::new(11, 0, 0, 0);
        let (mut enframer, mut deframer) = (framing.enframer(), framing.deframer());
        let (mut damaged, mut wrong, mut refused) = (0, 0, 0);
        let mut number = 0u32;
        while (number as usize) < frames {
            let batch: Vec<Vec<u8>> = (0..512)
                .map(|_| {
                    number += 1;
                    let mut body: Vec<u8> = (0..22).map(|_| noise.random() as u8).collect();
                    body[..4].copy_from_slice(&number.to_le_bytes());
                    carried(&framing, &body)
                })
                .collect();
            let line = noise.wrong_bits(&sent_by(&mut enframer, &batch), 1e-3);
            let mut seen = Vec::new();
            push(&mut deframer, &line, &mut seen);
            deframer.idle();
            push(&mut deframer, &[], &mut seen);
            let (lost, bad) = lost_and_wrong(&batch, &bodies(&seen));
            damaged += lost;
            wrong += bad;
            refused +=
                seen.iter().filter(|seen| matches!(seen, Seen::Bad(WireError::Checksum { .. }))).count();
        }
        // Each time that a checksum is tried on what was damaged, it holds by chance once in 65,536. A
        // framing that searches tries more often than it loses frames. Four standard deviations of that.
        let chance = (wrong + refused) as f64 / 65_536.0;
        let bound = 1.0 + chance + 4.0 * chance.sqrt();
        println!(
            "{:?}: of {number} frames {damaged} were damaged, {refused} checksums refused, {wrong} wrong frames taken; \
             chance alone gives {chance:.1}",
            framing.kind
        );
        assert!(wrong as f64 <= bound, "{wrong} wrong frames, bound {bound:.1}: {framing:?}");
        assert!(damaged > number as usize / 10 && damaged < number as usize / 2, "{damaged}: {framing:?}");
    }
}

#[test]
fn a_checksum_of_16_bits_lets_no_more_through_than_it_must() {
    wrong_frames_at_bit_errors(20_000);
}

#[test]
#[ignore = "minutes: 10⁷ frames for each framing (tests/run --long)"]
fn a_checksum_of_16_bits_lets_no_more_through_than_it_must_in_ten_million_frames() {
    wrong_frames_at_bit_errors(10_000_000);
}

#[test]
fn a_zero_behind_the_checksum_is_seen_where_the_checksum_ends_in_an_xor() {
    for (crc, is_seen) in [("crc16_ibm_3740", false), ("crc16_genibus", true)] {
        let framing = framings(24, Some(crc))[0];
        let mut wire = encoded(&framing, &[vec![5; 20]]);
        wire.insert(wire.len() - 1, 1);
        assert_eq!(bodies(&received(&framing, &[&wire])).is_empty(), is_seen, "{crc}");
    }
}

#[test]
fn a_line_with_every_kind_of_noise_goes_on() {
    for framing in framings(24, Some("crc16_ibm_3740")) {
        let sent: Vec<Vec<u8>> = (0..2_000u32)
            .map(|i| carried(&framing, &[&i.to_le_bytes()[..], &[0, 0xc0, 0xaa, 0x55]].concat()))
            .collect();
        let line = NoisyLine::new(3, 2, 2, 2).passes(&encoded(&framing, &sent));
        let (lost, wrong) = lost_and_wrong(&sent, &bodies(&received(&framing, &[&line])));
        assert!(lost < sent.len() / 2 && wrong <= 1, "{lost} lost, {wrong} wrong: {framing:?}");
    }
}

#[test]
fn an_overlong_frame_costs_itself_and_not_the_next() {
    for framing in framings(8, Some("crc16_ibm_3740")) {
        let wide = Framing { max_body_bytes: 100, ..framing };
        let long = match framing.kind {
            // A fixed size is never longer than it is.
            Kind::Sized(Layout { size: Size::Fixed(_), .. }) => continue,
            _ => carried(&framing, &[1; 60]),
        };
        let next = carried(&framing, &[2; 8]);
        let mut wire = encoded(&wide, &[long]);
        wire.extend(encoded(&framing, std::slice::from_ref(&next)));
        let seen = received(&framing, &[&wire]);
        assert_eq!(bodies(&seen), [next], "{framing:?}");
        assert!(matches!(seen[0], Seen::Bad(WireError::Overlong { .. })), "{seen:?}");
    }
}

#[test]
fn silence_ends_the_wait_for_a_frame_that_broke_off() {
    for framing in
        framings(24, Some("crc16_ibm_3740")).into_iter().filter(|f| matches!(f.kind, Kind::Sized(_)))
    {
        let body = carried(&framing, &[9; 20]);
        let wire = encoded(&framing, std::slice::from_ref(&body));
        let mut deframer = framing.deframer();
        let mut seen = Vec::new();
        push(&mut deframer, &wire[..wire.len() - 4], &mut seen);
        assert!(deframer.is_midway() && seen.is_empty());
        deframer.idle();
        push(&mut deframer, &[], &mut seen);
        assert!(matches!(seen[0], Seen::Bad(WireError::BrokenOff { .. })), "{seen:?}");
        assert!(!deframer.is_midway());
        push(&mut deframer, &wire, &mut seen);
        assert_eq!(bodies(&seen), [body]);
    }
}

/// The bytes of an example's value.
fn bytes(value: &str) -> Vec<u8> {
    match value.strip_prefix("text ") {
        Some(text) => text.replace("\\r", "\r").replace("\\n", "\n").into_bytes(),
        None => value.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect(),
    }
}

#[test]
fn every_example_of_the_format_page_holds_in_both_directions() {
    let page = include_str!("FORMAT.md");
    let blocks: Vec<&str> =
        page.split("```example\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 10, "only {} examples were found", blocks.len());
    for block in blocks {
        let value = |key: &str| {
            block.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
        };
        let body = bytes(value("body").unwrap());
        let mut crc = value("crc").unwrap_or("none").split(" from ");
        let name = crc.next().filter(|name| *name != "none").map(|name| CrcName::parse(name).unwrap());
        let from = match crc.next() {
            Some("sync") => Part::Sync,
            Some("length") => Part::Length,
            _ => Part::Body,
        };
        let size = value("length").map_or(Size::Fixed(body.len()), |length| {
            let words: Vec<&str> = length.split(' ').collect();
            Size::Field {
                bytes: words[0].parse().unwrap(),
                order: if words[1] == "big" { ByteOrder::Big } else { ByteOrder::Little },
                counts: match words[2] {
                    "body" => Counts::Body,
                    "body_and_crc" => Counts::BodyAndChecksum,
                    _ => Counts::Whole,
                },
            }
        });
        let kind = match value("framing").unwrap() {
            "cobs" => Kind::Cobs,
            "slip" => Kind::Slip,
            "line" => Kind::Line,
            _ => Kind::Sized(Layout::new(&bytes(value("sync").unwrap()), size, from).unwrap()),
        };
        let number: Option<u16> = value("sequence").map(|number| number.parse().unwrap());
        let sequence = if number.is_some() { SequenceField::DecimalU16 } else { SequenceField::None };
        let framing = Framing { kind, crc: name, crc_order: None, sequence, max_body_bytes: 64 };
        let wire = bytes(value("wire").unwrap());
        let mut sent = Vec::new();
        framing.enframer().encode(number.unwrap_or(0), &body, &mut sent).unwrap();
        assert_eq!(sent, wire, "{block}");
        let seen = bodies(&received(&framing, &[&wire]));
        assert_eq!(sequence.split(&seen[0]), Some((number.unwrap_or(0), body.as_slice())), "{block}");
    }
}

#[test]
fn a_sender_without_a_sync_word_is_counted_whatever_the_portions() {
    let framing = Framing {
        kind: Kind::Sized(Layout::new(&[0xaa, 0x55], Size::Fixed(8), Part::Body).unwrap()),
        crc: None,
        crc_order: None,
        sequence: SequenceField::None,
        max_body_bytes: 64,
    };
    let stray = |portion: usize| -> Vec<WireError> {
        let zeros = [0; 10_000];
        let mut deframer = framing.deframer();
        let mut found = Vec::new();
        for mut rest in zeros.chunks(portion) {
            while let Step::Bad { why, rest: after } = deframer.push(rest) {
                found.push(why);
                rest = after;
            }
        }
        found
    };
    let all = stray(10_000);
    assert_eq!(all, [WireError::Stray { bytes: 4096 }; 2]);
    for portion in [1, 7, 4096, 4097] {
        assert_eq!(stray(portion), all, "portions of {portion}");
    }
}

#[test]
fn no_frame_is_made_of_bytes_from_both_sides_of_a_cut() {
    for framing in framings(8, None) {
        let body = carried(&framing, &[1, 0, 3, 4, 5, 6, 7, 8]);
        let wire = encoded(&framing, std::slice::from_ref(&body));
        for at in 1..wire.len() - 1 {
            let mut deframer = framing.deframer();
            let mut seen = Vec::new();
            push(&mut deframer, &wire[..at], &mut seen);
            assert_eq!(seen, [], "{framing:?} cut at {at}");
            let told = deframer.cut();
            push(&mut deframer, &wire, &mut seen);
            assert_eq!(bodies(&seen), [&*body], "{framing:?} cut at {at}");
            let bad = told.is_some() || seen.iter().any(|seen| matches!(seen, Seen::Bad(_)));
            // SLIP's first delimiter begins nothing yet.
            assert!(bad || framing.kind == Kind::Slip && at == 1, "{framing:?} cut at {at} in silence");
            assert_eq!(deframer.cut(), None, "{framing:?}");
        }
    }
}
