//! Streams of every framing, noise, and lines heard at the wrong rate.

use super::*;
use crate::config::serial::{CrcFrom, LengthCounts, SyncWord};
use crate::daemon::port;
use crate::modbus::wire::{Adu as Bytes, Request, Table};

/// xorshift64*: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % end
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

fn framing(kind: FramingKind, crc: Option<&str>, order: Option<ByteOrder>) -> Framing {
    let crc = crc.map(|name| (CrcName::parse(name).unwrap(), order));
    Proposal { kind, crc, strength: Strength::Weak, evidence: Vec::new() }.framing()
}

fn length(sync: &str, bytes: u8, order: ByteOrder, counts: LengthCounts, crc_from: CrcFrom) -> FramingKind {
    FramingKind::Length { sync: SyncWord::parse(sync).unwrap(), bytes, order, counts, crc_from }
}

fn fixed(sync: &str, bytes: usize, crc_from: CrcFrom) -> FramingKind {
    FramingKind::Fixed {
        sync: SyncWord::parse(sync).unwrap(),
        bytes: NonZeroUsize::new(bytes).unwrap(),
        crc_from,
    }
}

/// Readings of a sensor: slow values with a little noise, as 16-bit numbers; `size`: bytes, or a few of
/// them at will.
fn bodies(count: usize, size: Option<usize>) -> Vec<Vec<u8>> {
    let mut chance = Chance(7);
    let body = |n: usize| {
        let size = size.unwrap_or_else(|| 6 + 2 * chance.below(7));
        let value = |at: usize, chance: &mut Chance| (200 * at + n / 3 + chance.below(9)) as u16;
        let mut body: Vec<u8> =
            (0..size.div_ceil(2)).flat_map(|at| value(at, &mut chance).to_le_bytes()).collect();
        body.truncate(size);
        body
    };
    (0..count).map(body).collect()
}

fn texts(count: usize) -> Vec<Vec<u8>> {
    let mut chance = Chance(9);
    (0..count)
        .map(|n| format!("{}.{},{}", 20 + n % 5, chance.below(10), 1000 + chance.below(30)).into_bytes())
        .collect()
}

fn stream(framing: &Framing, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut enframer = port::framing(framing).enframer();
    let mut wire = Vec::new();
    bodies.iter().for_each(|body| enframer.encode(0, body, &mut wire).unwrap());
    wire
}

fn sampled(bytes: &[u8]) -> Sample<'_> {
    Sample { line: ANY_LINE, bytes, line_faults: 0 }
}

fn best(bytes: &[u8]) -> Hypothesis {
    let ranking = rank(&[sampled(bytes)]);
    ranking.hypotheses.into_iter().next().unwrap_or_else(|| panic!("nothing fits {:02x?}", &bytes[..40]))
}

/// Begun in the middle of a frame, ended in the middle of another.
fn torn(stream: &[u8]) -> &[u8] {
    &stream[3..stream.len() - 4]
}

#[test]
fn every_framing_with_a_checksum_is_found_for_certain() {
    use ByteOrder::{Big, Little};
    use CrcFrom::{Body, Length, Sync};
    let field = |sync, bytes, order, counts, from| length(sync, bytes, order, counts, from);
    let cases = [
        (FramingKind::Cobs, "crc16_ibm_3740", None, None),
        (FramingKind::Cobs, "crc32_iso_hdlc", None, None),
        (FramingKind::Cobs, "crc16_modbus", Some(Big), None),
        (FramingKind::Cobs, "crc8_smbus", None, None),
        (FramingKind::Slip, "crc16_kermit", None, None),
        (FramingKind::Slip, "crc8_maxim_dow", None, None),
        (field("aa55", 2, Little, LengthCounts::Body, Body), "crc16_ibm_3740", None, None),
        (field("aa55", 1, Little, LengthCounts::Body, Length), "crc16_modbus", None, None),
        (field("7e", 1, Little, LengthCounts::Whole, Sync), "crc16_kermit", None, None),
        (field("a5a55a", 4, Big, LengthCounts::BodyAndCrc, Length), "crc32_iso_hdlc", None, None),
        (field("c6", 2, Little, LengthCounts::Whole, Length), "crc16_genibus", None, None),
        (field("aa55", 3, Big, LengthCounts::Body, Body), "crc16_xmodem", None, None),
        (field("b562", 2, Big, LengthCounts::Body, Sync), "crc8_smbus", None, None),
        (fixed("eb90", 12, Sync), "crc16_ibm_3740", None, Some(12)),
        (fixed("aa55", 8, Body), "crc16_xmodem", None, Some(8)),
        (fixed("7e", 20, Body), "crc32_mpeg_2", None, Some(20)),
    ];
    for (kind, crc, order, size) in cases {
        let sent = framing(kind, Some(crc), order);
        let wire = stream(&sent, &bodies(60, size));
        let found = best(torn(&wire));
        assert_eq!(found.confidence, Confidence::Certain, "{kind:?} {crc}: {found:?}");
        assert!(found.explained > 0.9, "{kind:?} {crc}: {found:?}");
        let Spoken::Frames(found) = found.spoken else { panic!("{found:?}") };
        assert_eq!((found.crc, found.crc_order), (sent.crc, sent.crc_order), "{kind:?}");
        // Where a checksum covers the sync word, its length does not show.
        if !matches!(kind, FramingKind::Fixed { crc_from: Sync, .. }) {
            assert_eq!(found.kind, sent.kind, "{crc}");
        }
    }
}

#[test]
fn noise_on_the_line_hides_none_of_them() {
    let mut chance = Chance(3);
    for kind in [FramingKind::Cobs, FramingKind::Slip, fixed("aa55", 12, CrcFrom::Body)] {
        let sent = framing(kind, Some("crc16_ibm_3740"), None);
        let mut wire = stream(&sent, &bodies(120, Some(12)));
        // One frame in six is hit.
        for _ in 0..20 {
            let at = chance.below(wire.len());
            wire[at] ^= 1 << chance.below(8);
        }
        let found = best(&wire);
        assert_eq!(
            (found.confidence, found.spoken),
            (Confidence::Certain, Spoken::Frames(sent)),
            "{found:?}"
        );
        assert!(found.bad > 0, "{found:?}");
    }
}

#[test]
fn a_byte_lost_among_frames_of_one_size_hides_nothing_where_a_byte_repeats_in_them() {
    let sent = framing(fixed("23c6", 16, CrcFrom::Body), Some("crc16_genibus"), None);
    let mut chance = Chance(5);
    let text = |chance: &mut Chance| format!("T{:05} H{:05}   ", chance.below(1_000), chance.below(1_000));
    let texts: Vec<Vec<u8>> = (0..150).map(|_| text(&mut chance).into_bytes()).collect();
    let mut wire = stream(&sent, &texts);
    wire.remove(60 * 20 + 3);
    let found = best(&wire);
    assert_eq!((found.confidence, found.spoken), (Confidence::Certain, Spoken::Frames(sent)), "{found:?}");
}

#[test]
fn lines_of_text_are_likely_and_with_a_checksum_certain() {
    let plain = best(torn(&stream(&framing(FramingKind::Line, None, None), &texts(20))));
    assert_eq!((plain.confidence, plain.format), (Confidence::Likely, Some(Format::Csv)));
    assert_eq!(plain.keys()[1], ("framing", "\"line\"".into()));
    let sealed = framing(FramingKind::Line, Some("crc16_ibm_3740"), None);
    let found = best(torn(&stream(&sealed, &texts(20))));
    assert_eq!((found.confidence, found.spoken), (Confidence::Certain, Spoken::Frames(sealed)));
    let json: Vec<Vec<u8>> = (0..9).map(|n| format!("{{\"t\": {n}}}").into_bytes()).collect();
    assert_eq!(best(&stream(&framing(FramingKind::Line, None, None), &json)).format, Some(Format::Json));
}

#[test]
fn characters_of_seven_bits_with_parity_are_seen_through() {
    let text = stream(&framing(FramingKind::Line, None, None), &texts(30));
    let even: Vec<u8> = text.iter().map(|byte| byte | (byte.count_ones() as u8 % 2) << 7).collect();
    let found = best(&even);
    assert_eq!((found.line.data_bits, found.line.parity), (7, Parity::Even), "{found:?}");
    assert_eq!(found.format, Some(Format::Csv));
    assert_eq!(&found.keys()[1..3], [("data_bits", "7".into()), ("parity", "\"even\"".into())]);
}

#[test]
fn stuffed_frames_without_a_checksum_are_likely() {
    for kind in [FramingKind::Cobs, FramingKind::Slip] {
        let wire = stream(&framing(kind, None, None), &bodies(40, Some(20)));
        let found = best(&wire);
        assert_eq!(found.spoken, Spoken::Frames(framing(kind, None, None)), "{found:?}");
        assert!(found.confidence < Confidence::Certain);
    }
}

#[test]
fn lengths_without_a_checksum_are_found_by_where_they_lead() {
    let kind = length("aa55", 2, ByteOrder::Little, LengthCounts::Body, CrcFrom::Body);
    let found = best(&stream(&framing(kind, None, None), &bodies(60, None)));
    assert_eq!(found.spoken, Spoken::Frames(framing(kind, None, None)), "{found:?}");
    assert_eq!(found.confidence, Confidence::Likely);
}

#[test]
fn packets_are_known_in_any_framing() {
    use packet::{Header, SampleType};
    let body = |n: u16| {
        let mut out = [0; 64];
        let header = Header {
            samples: SampleType::I16,
            sensor: 1,
            schema: 1,
            sequence: n,
            time_us: 1000 * u32::from(n),
            channels: 3,
        };
        let bytes = header.write_i16(&[n as i16, 2, -3], &mut out).unwrap();
        out[..bytes].to_vec()
    };
    let bodies: Vec<Vec<u8>> = (0..30).map(body).collect();
    let found = best(torn(&stream(&framing(FramingKind::Cobs, Some("crc16_ibm_3740"), None), &bodies)));
    assert_eq!((found.confidence, found.format_word()), (Confidence::Certain, Some("packet")));
}

#[test]
fn a_modbus_bus_is_known_by_its_questions_and_answers() {
    let mut wire = Vec::new();
    let mut adu = Bytes::new();
    for round in 0..10u16 {
        for unit in 1..4u8 {
            let read =
                Request::Read { table: Table::HoldingRegisters, address: 7 * u16::from(unit), count: 2 };
            read.encode(unit, &mut adu).unwrap();
            wire.extend_from_slice(&adu);
            let answer = [unit, 3, 4, 0, unit, 1, round as u8];
            let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&answer);
            wire.extend(answer);
            wire.extend(crc.to_le_bytes());
        }
    }
    let found = best(torn(&wire));
    assert_eq!((found.spoken, found.confidence), (Spoken::Modbus, Confidence::Certain), "{found:?}");
}

#[test]
fn noise_gives_nothing_certain_and_nothing_likely() {
    let mut chance = Chance(1);
    for length in [24, 300, 5000] {
        for _ in 0..6 {
            let noise = chance.bytes(length);
            let ranking = rank(&[sampled(&noise)]);
            assert!(ranking.hypotheses.is_empty(), "{length}: {:?}", ranking.hypotheses);
        }
    }
    for same in [0, 0xff, 0x55, b'x'] {
        let ranking = rank(&[sampled(&vec![same; 2000])]);
        assert!(ranking.hypotheses.iter().all(|one| one.confidence == Confidence::Hint), "{ranking:?}");
    }
}

/// What a UART set to another rate makes of a line: samples in the middle of what it takes for bits;
/// gives the bytes, and the stop bits that were none.
fn heard_at(sent: &[u8], sent_baud: f64, heard_baud: f64) -> (Vec<u8>, u64) {
    let bits: Vec<bool> = sent
        .iter()
        .flat_map(|byte| {
            let data = (0..8).map(move |bit| byte >> bit & 1 == 1);
            // Start, data, stop, and a pause of two bits now and then.
            let pause = if byte % 16 == 0 { 3 } else { 1 };
            std::iter::once(false).chain(data).chain(std::iter::repeat_n(true, pause))
        })
        .collect();
    let level = |time: f64| bits.get((time * sent_baud) as usize).copied().unwrap_or(true);
    let end = bits.len() as f64 / sent_baud;
    let (mut heard, mut faults, mut now) = (Vec::new(), 0, 0.0);
    let bit = 1.0 / heard_baud;
    while now < end {
        // Sixteen looks a bit for the edge, as hardware does.
        if level(now) {
            now += bit / 16.0;
            continue;
        }
        let sampled = |nth: f64| level(now + (nth + 0.5) * bit);
        heard.push((0..8).fold(0, |byte, nth| byte | u8::from(sampled(nth as f64 + 1.0)) << nth));
        if sampled(9.0) {
            now += 9.5 * bit;
        } else {
            faults += 1;
            now += 10.0 * bit;
            while now < end && !level(now) {
                now += bit / 16.0;
            }
        }
    }
    (heard, faults)
}

#[test]
fn the_right_rate_wins_over_all_others() {
    let texts = stream(&framing(FramingKind::Line, None, None), &texts(60));
    let cobs = stream(&framing(FramingKind::Cobs, Some("crc16_ibm_3740"), None), &bodies(60, Some(14)));
    let sync =
        stream(&framing(fixed("aa55", 12, CrcFrom::Body), Some("crc16_modbus"), None), &bodies(60, Some(12)));
    assert_eq!(heard_at(&texts, 9600.0, 9600.0), (texts.clone(), 0));
    for (sent, confidence) in
        [(texts, Confidence::Likely), (cobs, Confidence::Certain), (sync, Confidence::Certain)]
    {
        let heard: Vec<(u32, (Vec<u8>, u64))> = [1200u32, 4800, 9600, 19_200, 38_400, 57_600, 115_200]
            .map(|baud| (baud, heard_at(&sent, 19_200.0, f64::from(baud))))
            .into();
        let samples: Vec<Sample<'_>> = heard
            .iter()
            .map(|(baud, (bytes, faults))| Sample {
                line: Line { baud: *baud, ..ANY_LINE },
                bytes,
                line_faults: *faults,
            })
            .collect();
        let ranking = rank(&samples);
        let best = &ranking.hypotheses[0];
        assert_eq!((best.line.baud, best.confidence), (19_200, confidence), "{best:?}");
        assert!(!ranking.any_rate);
        let others = ranking.hypotheses.iter().filter(|one| one.line.baud != 19_200);
        assert!(others.into_iter().all(|one| one.confidence < confidence), "{:?}", ranking.hypotheses);
    }
}

#[test]
fn a_port_without_a_rate_is_known_by_hearing_the_same_at_all() {
    let wire = stream(&framing(FramingKind::Cobs, Some("crc16_ibm_3740"), None), &bodies(60, None));
    let at = |baud| Sample { line: Line { baud, ..ANY_LINE }, bytes: &wire, line_faults: 0 };
    let ranking = rank(&[at(9600), at(115_200), Sample { bytes: &wire[..10], ..at(300) }]);
    assert!(ranking.any_rate);
    assert!(ranking.hypotheses.iter().all(|one| one.line.baud == 9600));
    assert!(!rank(&[at(9600)]).any_rate, "one rate alone tells nothing");
}

#[test]
fn keys_are_those_of_a_config() {
    let kind = length("a5a5", 2, ByteOrder::Big, LengthCounts::Whole, CrcFrom::Sync);
    let wire = stream(&framing(kind, Some("crc16_modbus"), None), &bodies(60, None));
    let found = best(&wire);
    let source: Vec<String> = found.keys().iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let text = format!(
        "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\nmodel = \"m\"\n\
         decode = {{ format = \"i16le\" }}\n[pipeline.source]\nkind = \"serial\"\nport = \"/dev/x\"\n{}\n",
        source.join("\n")
    );
    let config = crate::config::Config::parse(&text, std::path::Path::new("l.toml"), &|_: &str| None);
    let config = config.unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    let crate::config::SourceKind::Serial(serial) = &config.pipelines[0].source.kind else {
        panic!("{text}")
    };
    let crate::config::serial::Wire::Frames(meant) = serial.wire else { panic!("{text}") };
    assert_eq!(Spoken::Frames(meant), found.spoken);
}
