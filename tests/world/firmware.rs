//! A sensor without an operating system: `boards/firmware/` in qemu, its wire a pty that the daemon reads,
//! its lamp told by the daemon. Codec, wire, daemon, tract and broker are all real; only the copper is not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rumqttc::QoS::AtLeastOnce;

use crate::serial_page::blocks;
use crate::support::peer::Peer;
use crate::support::site::{Site, pipeline, result};
use crate::support::{SOON, eventually, root, shipped_models};

/// What docs/serial.md says of it.
const HEADING: &str = "## From an empty microcontroller project to frames on the wire";
const CHANNELS: usize = 8;
const CYCLES: usize = 4;

/// `sample` of `boards/firmware/src/main.rs`, in hundredths.
fn sample(number: usize, channel: usize) -> i16 {
    const CENTRE: [[i16; CHANNELS]; 2] =
        [[3560, 4090, 3830, 3060, 60, 4640, 219, 5900], [5570, 6060, 5770, 5220, 68, 1990, 146, 5690]];
    let noise = (number * 37 + channel * 11) % 9;
    CENTRE[number / 60 % 2][channel] + noise as i16 - 4
}

/// The chip of the evaluation board, not running yet, and the pty that its first port is.
fn chip(elf: &Path, folder: &Path) -> (Peer, String) {
    let mut command = Command::new("qemu-system-arm");
    command.args(["-M", "lm3s6965evb", "-display", "none", "-monitor", "none", "-S"]);
    command.args(["-chardev", "pty,id=wire", "-serial", "chardev:wire"]);
    command.arg("-serial").arg(format!("file:{}", folder.join("lamp").display()));
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", folder.join("qmp").display()));
    command.arg("-kernel").arg(elf);
    let mut qemu = Peer::start(command, "apt-get install qemu-system-arm");
    let line = qemu.wait_for("its pty", |line| line.contains("char device redirected to"));
    let pty = line.split(' ').find(|word| word.starts_with("/dev/")).expect("a path").to_owned();
    (qemu, pty)
}

/// Lets the chip run: a port whose pty nobody has opened loses its bytes.
fn let_it_run(folder: &Path) {
    let mut monitor = UnixStream::connect(folder.join("qmp")).expect("qemu listens");
    let mut said = BufReader::new(monitor.try_clone().expect("one more handle")).lines();
    said.next();
    for command in ["qmp_capabilities", "cont"] {
        writeln!(monitor, "{{\"execute\": \"{command}\"}}").expect("qemu listens");
        let answer = said.next().expect("an answer").expect("text");
        assert!(!answer.contains("error"), "{answer}");
    }
}

#[test]
fn the_lines_that_the_page_shows_are_those_that_run_on_the_chip() {
    let folder = root().join("boards/firmware");
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let source = read("src/codec.rs") + &read("src/main.rs");
    let rust = blocks(HEADING, "rust");
    assert_eq!(rust.len(), 2, "what goes out, and what comes in");
    for part in rust.iter().flat_map(|block| block.split("\n\n")) {
        assert!(source.contains(part.trim_end()), "neither in codec.rs nor in main.rs:\n{part}");
    }
    let manifest = read("Cargo.toml");
    let project = &blocks(HEADING, "toml")[0];
    for line in project.replace("../lineside", "../..").lines() {
        assert!(manifest.lines().any(|known| known == line), "not in Cargo.toml: {line}");
    }
}

#[test]
fn a_sensor_without_an_operating_system_is_heard_and_its_lamp_told() {
    let elf = root().join("target/firmware/sensor.elf");
    assert!(
        elf.is_file(),
        "no {}; `boards/firmware/build` makes it, and tests/run calls that",
        elf.display()
    );
    let mut site = Site::new(&[]);
    let model = site.models().join("hydraulic-cooler");
    let copied =
        Command::new("cp").arg("-r").arg(shipped_models().join("hydraulic-cooler")).arg(&model).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let [_, page_pipeline, page_packet] = &blocks(HEADING, "toml")[..] else { panic!("three of them") };
    let card = fs::read_to_string(model.join("model.toml")).unwrap();
    fs::write(model.join("model.toml"), format!("{card}\n{page_packet}")).unwrap();

    let folder = site.folder.path().to_owned();
    let (_qemu, pty) = chip(&elf, &folder);
    // The chip sends an hour's samples in two seconds: those of the page come one by one.
    let port = format!("port = \"{pty}\", queue_frames = 64, when_full = \"block\"");
    let by_wire = page_pipeline
        .replace("port = \"/dev/ttyACM0\"", &port)
        .replace("\"{verdict}\"", "\"{verdict}\", expires_ms = 20000");
    assert!(by_wire.contains(&port) && by_wire.contains("expires_ms"), "{by_wire}");
    let by_mqtt = pipeline("by-mqtt", "hydraulic-cooler", "rig/frame", "csv");
    let daemon = site.run(&format!("{by_wire}\n{by_mqtt}"));
    daemon.wait_log(&["open", &pty], SOON);
    let_it_run(&folder);

    // The same samples by MQTT, four a frame.
    for packet in 0..CYCLES * 15 {
        let row = |row| {
            let cells: Vec<String> = (0..CHANNELS)
                .map(|channel| (f64::from(sample(packet * 4 + row, channel)) * 0.01).to_string())
                .collect();
            cells.join(",")
        };
        let rows: Vec<String> = (0..4).map(row).collect();
        site.client.publish("rig/frame", AtLeastOnce, rows.join("\n"));
    }
    let by_mqtt = site.client.wait_count(&result("by-mqtt"), CYCLES, SOON);
    let by_wire = site.client.wait_count(&result("rig"), CYCLES, SOON);
    for (wire, mqtt) in by_wire.iter().zip(&by_mqtt) {
        let (wire, mqtt) = (wire.json(), mqtt.json());
        assert_eq!(wire["scores"], mqtt["scores"], "bit for bit");
        let port = wire["source"]["port"].as_str().unwrap_or_default();
        assert!(port.starts_with(&pty), "{wire}");
    }
    let verdicts: Vec<String> =
        by_wire.iter().map(|message| message.json()["verdict"].as_str().unwrap().to_owned()).collect();
    assert_eq!(verdicts, ["pass", "fail", "pass", "fail"]);
    let lamp = || fs::read_to_string(folder.join("lamp")).ok().filter(|letters| letters.len() >= CYCLES);
    assert_eq!(eventually(Duration::from_secs(5), lamp).as_deref(), Some("PFPF"), "{}", daemon.log());
    let stats = site.stats("rig", |stats| stats["write_back"]["written"] == CYCLES);
    assert_eq!(stats["frames"], CYCLES * 15, "{stats}");
    assert_eq!(stats["lost_total"], 0, "{stats}");
}
