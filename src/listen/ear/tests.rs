//! Facts about what is heard: its own bytes, in any portions, within bounds.

use super::*;
use crate::base::wire::CrcName;
use crate::config::serial::{CrcFrom, Framing, FramingKind, Line, SyncWord};
use proptest::prelude::*;
use std::num::NonZeroUsize;

const LINE: Line = Line::USUAL;

fn config(kind: FramingKind) -> Framing {
    Framing {
        kind,
        crc: CrcName::parse("crc16_ibm_3740"),
        crc_order: None,
        sequence_bytes: 1,
        max_frame_bytes: NonZeroUsize::new(64).unwrap(),
        idle_reset: Duration::from_millis(200),
    }
}

fn kinds() -> [FramingKind; 4] {
    let sync = SyncWord::parse("aa55").unwrap();
    let bytes = NonZeroUsize::new(4).unwrap();
    let fixed = FramingKind::Fixed { sync, bytes, crc_from: CrcFrom::Body };
    [FramingKind::Cobs, FramingKind::Slip, FramingKind::Line, fixed]
}

/// Three bodies of three bytes, numbered 5, 6 and 9, as they stand on the wire one by one.
fn sent(config: &Framing) -> Vec<Vec<u8>> {
    let mut enframer = port::framing(config).enframer();
    let one = |number| {
        let mut wire = Vec::new();
        enframer.encode(number, b"a\xaab", &mut wire).unwrap();
        wire
    };
    [5, 6, 9].map(one).into()
}

/// Each thing seen: its bytes on the wire and a word.
fn seen(ear: &mut Ear, portions: &[&[u8]]) -> Vec<(Vec<u8>, String)> {
    let mut all = Vec::new();
    let mut see = |seen: Seen<'_>| {
        let word = match seen.what {
            What::Bytes => "bytes".into(),
            What::Frame { payload, sequence } => format!("{payload:x?} {sequence:?}"),
            What::Bad(why) => format!("bad: {why}"),
            What::Adu(adu) => adu.to_string(),
        };
        all.push((seen.wire.to_vec(), word));
    };
    for portion in portions {
        ear.received(Micros(5), portion, &mut see);
    }
    all
}

#[test]
fn a_frame_is_told_with_its_own_bytes_and_a_gap_is_counted() {
    for kind in kinds() {
        let config = config(kind);
        let sent = sent(&config);
        let mut ear = Ear::of_frames(&LINE, &config, false);
        let end: &[u8] = if matches!(kind, FramingKind::Line) { b"\n" } else { &[0xc0, 0] };
        let stream = [b"\xaanoise".as_slice(), end, &sent[0], &sent[1], &sent[2]].concat();
        let told = seen(&mut ear, &[&stream]);
        let good: Vec<_> = told.iter().filter(|(_, word)| !word.starts_with("bad")).collect();
        let numbers: Vec<_> = good.iter().map(|(_, word)| word.rsplit_once("Some").unwrap().1).collect();
        assert_eq!(numbers, ["((5, First))", "((6, Next))", "((9, Lost(2)))"], "{kind:?}");
        // What is passed over in front of a frame is not the frame's.
        let slip = matches!(kind, FramingKind::Slip);
        for ((wire, _), sent) in good.iter().zip(&sent) {
            assert_eq!(wire, &sent[usize::from(slip)..], "{kind:?}");
        }
        assert_eq!((ear.tally.frames, ear.tally.lost), (3, 2));
        assert!(ear.tally.bad.iter().sum::<u64>() > 0, "{kind:?}: {:?}", ear.tally);
        assert_eq!(ear.tally.bytes, stream.len() as u64);
    }
}

#[test]
fn bytes_without_a_framing_come_in_rows_and_the_last_one_when_it_is_silent() {
    let mut ear = Ear::of_bytes(&LINE);
    let told = seen(&mut ear, &[&[7; 20], &[8; 20]]);
    assert_eq!(told.iter().map(|(wire, _)| wire.len()).collect::<Vec<_>>(), [16, 16]);
    let at = ear.wake_at().unwrap();
    let mut rows = Vec::new();
    ear.tick(at, &mut |seen| rows.push(seen.wire.to_vec()));
    assert_eq!((rows, ear.wake_at()), (vec![vec![8; 8]], None));
}

#[test]
fn a_frame_that_breaks_off_is_told_when_it_has_been_silent_for_long_enough() {
    let config = config(kinds()[3]);
    let mut ear = Ear::of_frames(&LINE, &config, false);
    assert_eq!(seen(&mut ear, &[&sent(&config)[0][..5]]), []);
    let mut words = Vec::new();
    ear.tick(Micros(100_000), &mut |_| panic!("it is not late yet"));
    ear.tick(ear.wake_at().unwrap(), &mut |seen| words.push(format!("{:?}", seen.what)));
    assert_eq!(words, ["Bad(BrokenOff { bytes: 5 })", "Bad(Stray { bytes: 3 })"][..words.len()]);
}

proptest! {
    #[test]
    fn any_bytes_in_any_portions_are_told_the_same_within_bounds(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xaa), Just(0x55)], 0..600),
        cut in 0usize..600, which in 0usize..4,
    ) {
        let config = config(kinds()[which]);
        let words = |portions: &[&[u8]]| -> Vec<String> {
            let mut ear = Ear::of_frames(&LINE, &config, true);
            seen(&mut ear, portions).into_iter().map(|(_, word)| word).collect()
        };
        let (one, other) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(words(&[&bytes]), words(&[one, other]));
    }

    #[test]
    fn what_is_kept_is_bounded(portions in prop::collection::vec(1usize..9000, 1..20)) {
        let mut ear = Ear::of_frames(&LINE, &config(FramingKind::Line), false);
        for portion in portions {
            ear.received(Micros(1), &vec![b'x'; portion], &mut |_| ());
            prop_assert!(ear.kept.len() <= 3 * KEPT_BYTES);
        }
    }
}
