//! Lists `boards/*.toml` for `config::board`, so that a new board is one file and nothing else; makes `src/entry.rs` the
//! entry where it is needed.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    list_boards();
    check_processor();
}

/// On 32-bit ARM, linked statically.
fn check_processor() {
    println!("cargo::rustc-check-cfg=cfg(checks_processor, needs_armv7)");
    let target = env::var("TARGET").expect("cargo sets it");
    if !(target.starts_with("arm") && target.contains("-linux-musl")) {
        return;
    }
    println!("cargo::rustc-cfg=checks_processor");
    if target.starts_with("armv7") {
        println!("cargo::rustc-cfg=needs_armv7");
    }
    println!("cargo::rustc-link-arg-bins=-Wl,--entry=lineside_entry");
}

fn list_boards() {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("boards");
    println!("cargo::rerun-if-changed=boards");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| Some(file.strip_suffix(".toml")?.to_owned()))
        .collect();
    names.sort();
    let mut list = String::from("[\n");
    for name in names {
        let path = folder.join(format!("{name}.toml"));
        writeln!(list, "    ({name:?}, include_str!({path:?})),").expect("text takes every line");
    }
    list.push_str("]\n");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("boards.rs");
    fs::write(&out, list).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
}
