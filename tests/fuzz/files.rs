//! Files: whatever a model's file or its card holds, it becomes a model or an error in words, in
//! bounded memory and time.
//!
//! Built with the crate, so that it shares the tests' own build of the engine: run as it is, it plays
//! `corpus/` and `found/`. `run` links the same page with libFuzzer (`--cfg fuzzing`); `LINESIDE_FUZZ_TARGET` says which
//! of the three it is then. A panic of Lineside's own code is a finding, also where the engine's guard would catch
//! it. One of tract's, which that guard turns into an error, is told once for each place, and the search
//! goes on.

#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use lineside::base::{Data, DataType, Tensor};
use lineside::config::Card;
use lineside::engine::{Model, Verified};

/// Models that are still models run once, up to this much memory: a run takes as long as it is large.
const RUN_BYTES: u64 = 8 << 20;

/// Takes any bytes; a panic is a finding.
type Target = fn(&[u8]);

/// By the name of their corpus.
const TARGETS: [(&str, Target); 3] = [("onnx", onnx), ("nnef", nnef), ("card", card)];

fn onnx(data: &[u8]) {
    file("fuzzed.onnx", data);
}

/// Bytes that are no archive are the text of a graph in one, which a fuzzer that cannot sum up a header
/// would never get to.
fn nnef(data: &[u8]) {
    if data.get(257..262) == Some(b"ustar") {
        return file("fuzzed.nnef.tar", data);
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append_data(&mut header, "graph.nnef", data).expect("memory takes it");
    file("fuzzed.nnef.tar", &archive.into_inner().expect("memory takes it"));
}

/// A card is one, or each complaint has its words.
fn card(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A card has the name of its folder.
    let named = text.lines().find(|line| line.starts_with("name"));
    let name = named.and_then(|line| line.split('"').nth(1)).unwrap_or("fuzzed");
    let Err(complaints) = Card::parse(text, Path::new(name)) else { return };
    assert!(!complaints.0.is_empty(), "refused without a reason");
    assert!(complaints.0.iter().all(|complaint| !complaint.to_string().is_empty()));
}

fn file(name: &str, data: &[u8]) {
    let verified = Verified::of_bytes(name.into(), data.to_vec(), Instant::now());
    let prepared = verified.parse().and_then(|parsed| {
        parsed.page();
        parsed.prepare(&[])
    });
    match prepared {
        Ok(model) => run(&model),
        Err(error) => look_at(&error),
    }
}

fn run(model: &Model) {
    if model.memory().is_none_or(|memory| memory.peak_bytes() > RUN_BYTES) {
        return;
    }
    let inputs: Vec<Tensor> = model
        .inputs()
        .iter()
        .map(|spec| match spec.data_type {
            DataType::Text => {
                let data = Data::Text(vec![String::new(); spec.shape.iter().product()]);
                Tensor { shape: spec.shape.clone(), data }
            }
            data_type => Tensor::uniform(data_type, &spec.shape, 1.0).expect("every type has a one"),
        })
        .collect();
    match model.session().run(&inputs.iter().collect::<Vec<_>>()) {
        Ok(answers) => assert_eq!(answers.len(), model.outputs().len()),
        Err(error) => look_at(&error),
    }
}

/// Panics over a caught panic of our own, tells one of tract's.
fn look_at(error: &dyn Error) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words += &format!(": {error}");
        cause = error.source();
    }
    assert!(!words.is_empty(), "refused without a reason");
    if !words.contains("panicked") {
        return;
    }
    let place = words.rsplit('(').next().unwrap_or_default().to_owned();
    let ours = ["src/engine/", "src/base/", "src/config/"].iter().any(|folder| place.starts_with(folder));
    assert!(!ours, "{words}");
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
        eprintln!("caught: {words}");
    }
}

#[cfg(not(fuzzing))]
fn main() {
    for (name, target) in TARGETS {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        let inside = |kind: &str| all.join(kind).join(name).read_dir().into_iter().flatten();
        let files = inside("corpus").chain(inside("found")).map(|file| file.expect("a file").path());
        let files: Vec<_> = files.collect();
        assert!(files.len() > 3, "{name} has {} inputs", files.len());
        for file in &files {
            let bytes = std::fs::read(file).expect("a file");
            let survived = std::panic::catch_unwind(|| target(&bytes));
            assert!(survived.is_ok(), "{} is not survived", file.display());
        }
        println!("{name}: {} inputs survived", files.len());
    }
}

#[cfg(fuzzing)]
#[expect(unsafe_code, reason = "libFuzzer is C++ and hands a pointer over")]
mod fuzzer {
    use std::sync::OnceLock;

    /// A panic does not pass through here: it aborts, which libFuzzer takes for a finding.
    #[unsafe(no_mangle)]
    extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, length: usize) -> i32 {
        static TARGET: OnceLock<super::Target> = OnceLock::new();
        let target = TARGET.get_or_init(|| {
            let wanted = std::env::var("LINESIDE_FUZZ_TARGET").expect("LINESIDE_FUZZ_TARGET is set");
            let found = super::TARGETS.iter().find(|(name, _)| *name == wanted);
            found.unwrap_or_else(|| panic!("there is no target {wanted:?}")).1
        });
        // SAFETY: libFuzzer's contract; of no bytes the pointer may be null.
        target(if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, length) } });
        0
    }
}
