//! "From notebook to device in five commands" of docs/models.md, followed as written: what stands there
//! is run by a shell, and the device that it fills answers a picture as onnxruntime does.
//!
//! Four words stand for what a test cannot have: `pip` looks whether the packages are there, `$EDITOR`
//! does what a person is asked to do, `scp` copies into a folder that is the device's disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rumqttc::QoS::AtLeastOnce;
use serde_json::Value;

use crate::support::site::{Site, pipeline, result};
use crate::support::{SOON, oracle, root};

/// The first block of commands behind this heading of the page.
fn commands() -> String {
    let page = fs::read_to_string(root().join("docs/models.md")).unwrap();
    let section = page.split("## From notebook to device in five commands").nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for number in 1..=5 {
        assert!(block.contains(&format!("# {number}  ")), "no command {number} in\n{block}");
    }
    block.to_owned()
}

fn tool(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn five_commands_lead_from_a_notebook_to_a_device_that_answers() {
    let mut site = Site::new(&[]);
    let place = site.folder.path();
    let (notebook, tools, disk) = (place.join("notebook"), place.join("tools"), place.join("disk"));
    for folder in [&notebook, &tools, &disk.join("etc/lineside")] {
        fs::create_dir_all(folder).unwrap();
    }
    let made = Command::new(oracle::python())
        .arg(root().join("tests/world/screw.py"))
        .arg(&notebook)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::copy(root().join("models/golden.py"), notebook.join("golden.py")).unwrap();
    // What an engineer writes: paths are left to their defaults, beside the file.
    let line = format!(
        "[device]\nid = \"press-07\"\n\n[broker]\nurl = \"mqtt://127.0.0.1:{}\"\n\n[outbox]\npath = \"{}\"\n\n{}",
        site.broker.port,
        disk.join("outbox").display(),
        pipeline("screw", "screw", "camera/frame", "image")
    );
    fs::write(notebook.join("line.toml"), line).unwrap();

    symlink(env!("CARGO_BIN_EXE_lineside"), tools.join("lineside")).unwrap();
    let python = oracle::python();
    tool(&tools, "python", &format!("exec \"{}\" \"$@\"", python.display()));
    tool(&tools, "pip", "[ \"$1\" = install ]; shift\nfor package; do python -c \"import $package\"; done");
    tool(
        &tools,
        "edit",
        "grep -q CONFIRM \"$1\"\nsed -i -e '/^draft/d' -e 's/^pass .*/pass = [\"ok\"]/' -e 's/^scale .*/scale = 0.00392156862745098/' \"$1\"",
    );
    tool(
        &tools,
        "scp",
        "[ \"$1\" = -r ]; shift\nfor last; do :; done\ncase \"$last\" in press-07:*) ;; *) exit 1 ;; esac\n\
         while [ $# -gt 1 ]; do cp -r \"$1\" \"$DISK${last#press-07:}\"; shift; done",
    );
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let ran = Command::new("sh")
        .args(["-euxc", &commands()])
        .current_dir(&notebook)
        .envs([("PATH", path.as_str()), ("EDITOR", "edit"), ("DISK", disk.to_str().unwrap())])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("line.toml: all well"), "nothing is left to be done:\n{said}");

    let _daemon = site.start(&disk.join("etc/lineside/line.toml"));
    site.client.publish("camera/frame", AtLeastOnce, fs::read(notebook.join("frame.png")).unwrap());
    let said = site.client.wait_for(&result("screw"), SOON, |_| true).json();
    let right: Value = serde_json::from_slice(&fs::read(notebook.join("answer.json")).unwrap()).unwrap();
    for label in ["ok", "pitted"] {
        let (ours, right) = (said["scores"][label].as_f64().unwrap(), right[label].as_f64().unwrap());
        assert!((ours - right).abs() < 1e-5, "{label}: {ours}, onnxruntime {right}: {said}");
    }
}
