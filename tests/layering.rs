//! The direction of layers, read from the source: a module names only what stands to its left.
//!
//! A scan of `crate::` paths, not a compiler: enough to stop a slip in review.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// From left to right; names in one group do not know each other.
const LAYERS: [&[&str]; 10] = [
    &["base"],
    &["modbus"],
    &["config"],
    &["engine", "flow"],
    &["mqtt", "outbox"],
    &["stage"],
    &["observe"],
    &["daemon"],
    &["demo", "listen"],
    &["cli"],
];
const STAGES: [&str; 6] = ["acquire", "decode", "featurize", "infer", "interpret", "publish"];
/// Crates behind one door.
const DOORS: [(&str, &[&str]); 3] =
    [("tract_", &["engine"]), ("rumqttc", &["mqtt", "demo"]), ("rumqttd", &["demo"])];

/// What `path` (below `src/`) may not say in `text`, one line each.
fn complaints(path: &Path, text: &str) -> Vec<String> {
    let parts: Vec<&str> =
        path.iter().filter_map(|part| part.to_str()).map(|part| part.trim_end_matches(".rs")).collect();
    let module = parts[0];
    let own_stage = parts.get(1).copied().filter(|_| module == "stage");
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut wrong = Vec::new();
    let Some(layer) = LAYERS.iter().position(|group| group.contains(&module)) else {
        return wrong; // lib.rs and main.rs name everything
    };
    for used in heads(&code, "crate::") {
        let there = LAYERS.iter().position(|group| group.contains(&used.as_str()));
        if used != module && there.is_some_and(|there| there >= layer) {
            wrong
                .push(format!("{}: {module} names {used}, which does not stand to its left", path.display()));
        }
    }
    if let Some(own) = own_stage.filter(|own| STAGES.contains(own)) {
        let mut named = heads(&code, "crate::stage::");
        named.extend(heads(&code, "super::"));
        for sibling in named.iter().filter(|name| STAGES.contains(&name.as_str()) && *name != own) {
            wrong.push(format!("{}: stage {own} names its sibling {sibling}", path.display()));
        }
    }
    let stages: std::collections::BTreeSet<String> = heads(&code, "crate::stage::").into_iter().collect();
    if module != "daemon" && STAGES.iter().all(|stage| stages.contains(*stage)) {
        wrong.push(format!("{}: only daemon knows all stages", path.display()));
    }
    for (door, keepers) in DOORS {
        let named = code.match_indices(door).any(|(at, _)| {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            !before.is_alphanumeric() && before != '_' && before != '"' && before != '.'
        });
        if named && !keepers.contains(&module) {
            wrong.push(format!("{}: only {keepers:?} may name {door}", path.display()));
        }
    }
    wrong
}

/// First names behind each `prefix`: `crate::a::b` gives `a`, `crate::{a::x, b}` gives both.
fn heads(code: &str, prefix: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    found.push(name(&group[start..i]));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    found
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn a_module_names_only_what_stands_to_its_left() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 30, "only {} files under src/", files.len());
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|file| complaints(file.strip_prefix(&src).unwrap(), &fs::read_to_string(file).unwrap()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_kind_of_slip_is_seen() {
    for (path, text) in [
        ("config/card.rs", "use crate::engine::Model;"),
        ("base/frame.rs", "use crate::{config::Card, base::Micros};"),
        ("engine/load.rs", "fn f() { crate::flow::x() }"),
        ("stage/infer/mod.rs", "use crate::stage::decode::Image;"),
        ("stage/infer/mod.rs", "use crate::stage::{decode, infer};"),
        ("stage/infer/worker.rs", "use super::super::publish::Payload;"),
        ("flow/queue.rs", "use tract_core::prelude::*;"),
        ("daemon/mod.rs", "use rumqttc::Packet;"),
        ("mqtt/mod.rs", "use rumqttd::Broker;"),
        ("observe/mod.rs", "use crate::stage::{acquire, decode, featurize, infer, interpret, publish};"),
    ] {
        assert!(!complaints(Path::new(path), text).is_empty(), "{path}: {text}");
    }
    for (path, text) in [
        ("stage/infer/mod.rs", "use crate::{base::Frame, engine::Session}; // crate::daemon"),
        ("mqtt/link.rs", "use rumqttc::Packet; use crate::mqtt::acks::Acks;"),
        ("daemon/mod.rs", "use crate::stage::{acquire, decode, featurize, infer, interpret, publish};"),
        ("lib.rs", "use crate::cli::main;"),
    ] {
        assert_eq!(complaints(Path::new(path), text), Vec::<String>::new(), "{path}: {text}");
    }
}
