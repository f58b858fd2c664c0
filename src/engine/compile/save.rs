//! In which form the graph is kept: NNEF where it can carry everything, else ONNX, saying why.
//!
//! NNEF is tract's decluttered graph: nothing is left to infer. What was written is read back and must
//! answer the same before it counts as saved.

use std::io::Read;
use std::time::Instant;

use prost::Message;
use tract_core::prelude::TractResult;

use super::{CompileError, Subject, graph, opinion, probe};
use crate::engine::caught::caught;
use crate::engine::{Model, ModelError, Verified, digest, nnef};

/// The graph as bytes.
pub(super) struct Saved {
    pub(super) file: String,
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: String,
    /// Why it is not NNEF.
    pub(super) kept_as_onnx: Option<String>,
}

/// How a graph's file is called; those of further batch sizes have the size behind it.
pub(super) const STEM: &str = "model";

/// NNEF, or the reason why not and ONNX. The one ONNX file serves every `batch`: it is concretised when
/// it is loaded.
pub(super) fn save(subject: &Subject, model: &Model, batch: Option<usize>) -> Result<Saved, CompileError> {
    let saved = |file: String, bytes: Vec<u8>, kept_as_onnx| {
        let sha256 = digest::hex(&bytes);
        Saved { file, bytes, sha256, kept_as_onnx }
    };
    match as_nnef(subject, model) {
        Ok(bytes) => {
            let batch = batch.map_or(String::new(), |batch| format!("-batch-{batch}"));
            Ok(saved(format!("{STEM}{batch}.nnef.tar"), bytes, None))
        }
        Err(why) => Ok(saved(format!("{STEM}.onnx"), as_onnx(subject)?, Some(why))),
    }
}

/// The file's own bytes; written anew only where inputs were fixed.
fn as_onnx(subject: &Subject) -> Result<Vec<u8>, CompileError> {
    if !subject.fixed.is_empty() {
        return Ok(subject.proto.encode_to_vec());
    }
    let bytes = std::fs::read(&subject.path).map_err(CompileError::file("read", &subject.path))?;
    let seen: String = digest::hex(&bytes);
    if seen == subject.sha256 {
        return Ok(bytes);
    }
    let (path, expected) = (subject.path.clone(), subject.sha256.clone());
    Err(CompileError::Model(ModelError::Digest { path, seen, expected }))
}

/// Fails in words.
fn as_nnef(subject: &Subject, model: &Model) -> Result<Vec<u8>, String> {
    let typed = subject.parsed(subject.proto.clone()).typed(&subject.specs);
    let mut typed = typed.and_then(|typed| typed.decluttered()).map_err(|error| error.to_string())?;
    // tract writes quotes in metadata so that it cannot read them again; the card has the names.
    typed.properties.clear();
    let write = || -> TractResult<Vec<u8>> {
        let bytes = nnef::framework().write_to_tar_with_config(&typed, Vec::new(), false, true)?;
        Ok(same_times(&bytes)?)
    };
    let bytes = match caught(write) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            return Err(format!("NNEF cannot carry it ({})", first_line(&error.root_cause().to_string())));
        }
        Err(panic) => return Err(format!("writing NNEF panicked ({})", first_line(&panic))),
    };
    // Hash maps inside the writer could give another order the next time.
    if caught(write).ok().and_then(Result::ok).as_ref() != Some(&bytes) {
        return Err("NNEF does not come out the same way twice".to_owned());
    }
    reads_back(subject, model, &bytes)?;
    Ok(bytes)
}

/// Whether the archive answers as the model did.
fn reads_back(subject: &Subject, model: &Model, bytes: &[u8]) -> Result<(), String> {
    let path = subject.path.with_extension("nnef.tar");
    let again = Verified::of_bytes(path, bytes.to_vec(), Instant::now())
        .parse()
        .and_then(|parsed| parsed.prepare(&subject.specs))
        .map_err(|error| format!("NNEF cannot be read back ({})", crate::base::words::in_words(&error)))?;
    let names =
        |model: &Model| -> Vec<String> { model.outputs().iter().map(|output| output.name.clone()).collect() };
    if again.inputs() != model.inputs() || names(&again) != names(model) {
        return Err("NNEF changes the names of its inputs or outputs".to_owned());
    }
    // The first probes are ordinary numbers, on which two orders of addition agree.
    for probe in probe::probes(model.inputs(), &graph::states(&subject.proto)).into_iter().take(3) {
        let inputs: Vec<_> = probe.inputs.iter().collect();
        let (Ok(ours), Ok(theirs)) = (model.session().run(&inputs), again.session().run(&inputs)) else {
            return Err(format!("read back from NNEF it fails on {}", probe.name));
        };
        for (ours, (theirs, least)) in ours.iter().zip(theirs.iter().zip(model.least())) {
            let measure = opinion::Measure { coarse: false, least: *least };
            let worst = opinion::distance(theirs, ours, measure).map_or(0.0, |worst| worst.relative);
            if worst > 1e-5 {
                return Err(format!(
                    "read back from NNEF it answers otherwise on {} ({worst:.1e})",
                    probe.name
                ));
            }
        }
    }
    Ok(())
}

/// The archive with one time in all its headers, archives inside it included: tract writes the
/// present one into those of inner graphs.
fn same_times(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // 1980-01-01, as tract takes for the outer one.
    const TIME_SECS: u64 = 315_532_800;
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if path.to_string_lossy().ends_with(".nnef.tar") {
            content = same_times(&content)?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(TIME_SECS);
        header.set_cksum();
        out.append_data(&mut header, path, &*content)?;
    }
    out.into_inner()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(160).collect()
}
