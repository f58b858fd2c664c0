//! Mutated files: whatever becomes of the bytes, the answer is a model or an error in words.
//!
//! Seeded, so that a finding can be played again; each finding becomes a test with a name of its own.
//! `LINESIDE_FUZZ_SECONDS` sets how long the long form goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;

use crate::config::Card;
use crate::engine::compile::Random;
use crate::engine::oracle::grown_for_fuzzing;
use crate::engine::{Verified, nnef, sample};

/// Numbers that lengths and tags break at.
const EDGES: &[&[u8]] = &[
    &[0x00],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    b"../",
    b"((((((((",
    b"9999999999999",
];

/// A few changes: bits, bytes, cuts, copies, edges.
fn mutated(random: &mut Random, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..1 + random.next() % 4 {
        if bytes.is_empty() {
            break;
        }
        let at = random.next() as usize % bytes.len();
        match random.next() % 7 {
            0 => bytes[at] ^= 1 << (random.next() % 8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + random.next() as usize % 64).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + 1 + random.next() as usize % 64).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.next() as usize % bytes.len();
                bytes.splice(to..to, copy);
            }
            5 => {
                let edge = EDGES[random.next() as usize % EDGES.len()];
                bytes.splice(at..at, edge.iter().copied());
            }
            _ => {
                let edge = EDGES[random.next() as usize % EDGES.len()];
                let end = (at + edge.len()).min(bytes.len());
                bytes.splice(at..end, edge.iter().copied());
            }
        }
    }
    bytes
}

fn onnx_corpus() -> Vec<Vec<u8>> {
    let samples = [sample::relu_layer(), sample::lstm(), sample::gru(2)];
    let grown = (0..24).map(|seed| grown_for_fuzzing(seed).encode_to_vec());
    samples.iter().map(sample::Sample::bytes).chain(grown).collect()
}

fn nnef_corpus() -> Vec<Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    [sample::relu_layer(), sample::gru(2)]
        .iter()
        .map(|sample| {
            let card = sample.card(place.path());
            let typed = Verified::of_card(&card).and_then(Verified::parse).unwrap().typed(&card.graph.inputs);
            let mut typed = typed.unwrap().decluttered().unwrap();
            typed.properties.clear();
            nnef::framework().write_to_tar_with_config(&typed, Vec::new(), false, true).unwrap()
        })
        .collect()
}

/// Read, and run through typing and optimisation where that far it is a model.
fn take(bytes: Vec<u8>) -> bool {
    let verified = Verified::of_bytes("mutated".into(), bytes, Instant::now());
    verified.parse().and_then(|parsed| parsed.prepare(&[])).is_ok()
}

fn take_card(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    // A card has the name of its folder.
    let named = text.lines().find(|line| line.starts_with("name"));
    let name = named.and_then(|line| line.split('"').nth(1)).unwrap_or("m");
    Card::parse(text, Path::new(name)).is_ok()
}

fn card_corpus() -> Vec<Vec<u8>> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let folders = std::fs::read_dir(models).unwrap().flatten();
    let cards: Vec<Vec<u8>> =
        folders.filter_map(|folder| std::fs::read(folder.path().join("model.toml")).ok()).collect();
    assert!(!cards.is_empty());
    cards
}

/// Takes mutations until `enough`; says how many there were and how many were taken for models.
fn storm(seed: u64, corpus: &[Vec<u8>], mut enough: impl FnMut(u64) -> bool, take: impl Fn(Vec<u8>) -> bool) {
    let mut random = Random::new(seed);
    let (mut count, mut models, mut slowest) = (0, 0, Duration::ZERO);
    while !enough(count) {
        let whole = &corpus[random.next() as usize % corpus.len()];
        let bytes = mutated(&mut random, whole);
        let begun = Instant::now();
        models += u64::from(take(bytes));
        slowest = slowest.max(begun.elapsed());
        count += 1;
    }
    println!("{count} mutated files, {models} still models, the slowest took {slowest:?}");
    assert!(count > 0 && models < count, "every mutation passed: the bytes do not matter");
}

#[test]
fn the_corpus_itself_is_taken() {
    assert!(onnx_corpus().into_iter().filter(|bytes| take(bytes.clone())).count() >= 20);
    assert!(nnef_corpus().into_iter().all(take));
}

#[test]
fn mutated_onnx_files_end_in_an_error_or_a_model() {
    storm(1, &onnx_corpus(), |count| count == 1500, take);
}

#[test]
fn mutated_nnef_archives_end_in_an_error_or_a_model() {
    storm(2, &nnef_corpus(), |count| count == 1500, take);
}

#[test]
fn mutated_cards_end_in_complaints_or_a_card() {
    assert!(card_corpus().iter().all(|card| take_card(card)));
    storm(3, &card_corpus(), |count| count == 1500, |bytes| take_card(&bytes));
}

#[test]
#[ignore = "as long as LINESIDE_FUZZ_SECONDS says, a minute each without it"]
fn mutated_files_for_long() {
    let seconds = std::env::var("LINESIDE_FUZZ_SECONDS").map_or(60, |text| text.parse().expect("a number"));
    let until = || {
        let end = Instant::now() + Duration::from_secs(seconds);
        move |_| Instant::now() >= end
    };
    storm(11, &onnx_corpus(), until(), take);
    storm(12, &nnef_corpus(), until(), take);
    storm(13, &card_corpus(), until(), |bytes| take_card(&bytes));
}
