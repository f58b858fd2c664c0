//! `listen` and `replay --port` on wires of ptys, among frames that other programs made.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{lineside, signal};
use crate::support::models::{weigh, weighed};
use crate::support::peer::{Peer, Wire, wire};
use crate::support::site::{Site, pipeline, result, value};
use crate::support::{SOON, eventually};

/// The packet of FORMAT.md, sequence 258, as the Python packages `cobs` and `crccheck` made it.
const PACKET: [u8; 23] = [
    0x04, 0x10, 0x03, 0x07, 0x06, 0x02, 0x01, 0x40, 0x42, 0x0f, 0x03, 0x02, 0x01, 0x09, 0xfe, 0xff, 0x2c,
    0x01, 0x70, 0xfe, 0x4e, 0xd1, 0x00,
];
const COBS: [&str; 4] = ["--framing", "cobs", "--crc", "crc16_ibm_3740"];

/// A running `lineside` with these arguments, and its process id.
fn running(args: &[&str]) -> Peer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.args(args);
    Peer::start(command, "cargo builds it")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn send(wire: &Wire, bytes: &[u8]) {
    let mut end = std::fs::OpenOptions::new().write(true).open(&wire.there).unwrap();
    end.write_all(bytes).unwrap();
}

/// The next object that a listener says.
fn object(listener: &mut Peer) -> Value {
    serde_json::from_str(&listener.wait_for("an object", |line| line.starts_with('{'))).unwrap()
}

/// A listener on `port` that says when it listens; `--json` says nothing, so bytes may wait in the pty.
fn listening(port: &Path, args: &[&str]) -> Peer {
    let mut listener = running(&[&["listen", path(port)], args].concat());
    listener.wait_for("that it listens", |line| line.starts_with("listening on"));
    listener
}

#[test]
fn frames_are_told_with_their_bytes_and_errors_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let wire = wire(folder.path(), "line");
    let mut damaged = PACKET;
    damaged[9] ^= 1;
    send(&wire, &[&PACKET[..], &damaged, b"\xffnoise\0", &PACKET].concat());
    let args = [&["listen", path(&wire.here), "--json", "--frames", "2"], &COBS[..]].concat();
    let mut listener = running(&args);

    let first = object(&mut listener);
    let packet = json!({"sensor": 3, "schema": 7, "time_us": 1_000_000, "type": "i16",
        "samples": [[1.0, -2.0], [300.0, -400.0]]});
    assert_eq!((&first["packet"], &first["sequence"]), (&packet, &json!(258)), "{first}");
    assert_eq!(first["wire"], "0410030706020140420f03020109feff2c0170fe4ed100", "{first}");
    assert_eq!(object(&mut listener)["bad"], "checksum");
    assert_eq!(object(&mut listener)["bad"], "malformed");
    assert_eq!(object(&mut listener)["packet"], packet);
    let summary = &object(&mut listener)["summary"];
    assert_eq!((&summary["frames"], &summary["bad"]["checksum"]), (&json!(2), &json!(1)), "{summary}");
    assert_eq!(summary["bytes"], 2 * 23 + 23 + 7, "{summary}");
}

#[test]
fn people_get_lines_without_colour_where_it_is_no_terminal_and_a_signal_ends_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let wire = wire(folder.path(), "line");
    let mut listener = listening(&wire.here, &["--framing", "line"]);
    send(&wire, b"21.5,1013\r\n\x1b[31m\n");
    let line = listener.wait_for("the first line", |line| line.contains("1013"));
    assert!(line.contains("32 31 2e 35 2c 31 30 31 33 0d 0a"), "{line}");
    assert!(line.ends_with("21.5,1013") && !line.contains('\x1b'), "{line}");
    // What a sensor sends does not reach the terminal as it is.
    listener.wait_for("the second line", |line| line.ends_with("5 bytes  .[31m"));
    signal(listener.pid(), "INT");
    let summary = listener.wait_for("a summary", |line| line.contains("2 frames"));
    assert!(summary.contains("bytes"), "{summary}");
    assert_eq!(listener.wait(SOON), Some(0));
}

#[test]
fn what_is_recorded_is_played_back_at_its_own_times_and_heard_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("tape.rec");
    let first = wire(folder.path(), "first");
    let mut recorder = listening(&first.here, &["--record", path(&tape)]);
    for portion in [&PACKET[..9], &PACKET[9..], &PACKET] {
        send(&first, portion);
        std::thread::sleep(Duration::from_millis(250));
    }
    signal(recorder.pid(), "TERM");
    assert_eq!(recorder.wait(SOON), Some(0));
    let text = std::fs::read_to_string(&tape).unwrap();
    assert!(text.starts_with("lineside-recording 1\nport "), "{text}");

    // Again is refused: nobody loses a night's recording to the arrow-up key.
    let again = lineside(&["listen", path(&first.here), "--record", path(&tape)]);
    assert_eq!(again.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&again.stderr).contains("never written over"));

    let second = wire(folder.path(), "second");
    let args = [&["listen", path(&second.here), "--json", "--frames", "4"], &COBS[..]].concat();
    let mut listener = running(&args);
    let started = Instant::now();
    let played = lineside(&["replay", "--port", path(&second.there), "--loop", "2", "--json", path(&tape)]);
    let took = started.elapsed();
    assert_eq!(played.status.code(), Some(0), "{}", String::from_utf8_lossy(&played.stderr));
    let summary: Value = serde_json::from_slice(&played.stdout).unwrap();
    assert_eq!(summary["bytes"], 2 * 46, "{summary}");
    // Two rounds with two pauses of 250 ms each.
    assert!(took >= Duration::from_millis(950), "{took:?}");
    for _ in 0..4 {
        assert_eq!(object(&mut listener)["sequence"], 258);
    }
    assert_eq!(object(&mut listener)["summary"]["bad"]["checksum"], 0);

    // The same without a wire.
    let offline = lineside(&[&["listen", path(&tape), "--json"], &COBS[..]].concat());
    let said = String::from_utf8_lossy(&offline.stdout).into_owned();
    assert_eq!(said.matches("\"sequence\":258").count(), 2, "{said}");
    // At its own date, as far as it is there.
    let began = text.lines().find_map(|line| line.strip_prefix("began ")).unwrap();
    for (note, at) in [("2001-02-03T04:05:00Z", Some("2001-02-03T04:05:")), ("some day", None)] {
        std::fs::write(&tape, text.replace(began, note)).unwrap();
        let said = lineside(&[&["listen", path(&tape), "--json"], &COBS[..]].concat());
        let first = String::from_utf8_lossy(&said.stdout).lines().next().unwrap().to_owned();
        let first: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(first["at"].as_str().map(|at| &at[..17]), at, "{first}");
    }
}

#[test]
fn the_daemon_answers_what_is_replayed_to_its_port_and_listen_hears_it_as_the_daemon_does() {
    let site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "line");
    let source = format!(
        "kind = \"serial\"\nport = \"{}\"\nframing = \"length\"\nsync = \"aa55\"\ncrc = \"crc16_modbus\"\n\
         sequence_bytes = 1\nwhen_full = \"block\"",
        wire.here.display()
    );
    let config = pipeline("scale", "weigh", "unused", "json");
    let (head, rest) = config.split_once("kind = \"mqtt\"").unwrap();
    let config = format!("{head}{source}\n{}", &rest[rest.find("[pipeline.decode]").unwrap()..]);
    let frames = site.folder.path().join("frames.jsonl");
    std::fs::write(&frames, "[1, 2, 3]\n[4, 5, 6]\n[7, 8, 9]\n").unwrap();
    let line = ["--framing", "length", "--sync", "aa55", "--crc", "crc16_modbus", "--sequence-bytes", "1"];
    let replay =
        [&["replay", "--port", path(&wire.there), "--rate", "max", path(&frames)], &line[..]].concat();

    let mut daemon = site.run(&config);
    daemon.wait_log(&["open", "115200"], SOON);
    let sent = lineside(&replay);
    assert_eq!(sent.status.code(), Some(0), "{}", String::from_utf8_lossy(&sent.stderr));
    let heard = site.client.wait_count(&result("scale"), 3, SOON);
    for (message, row) in heard.iter().zip([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]) {
        let said = message.json();
        let sequence = said["source"]["sequence"].as_u64().unwrap();
        let [a, b, c] = row.map(|value| value - row[0] + 1.0 + 3.0 * sequence as f64);
        assert!((value(&said, "y") - weighed(a, b, c)).abs() < 1e-3, "{said}");
    }

    // The daemon has the port; without it we hear the same.
    let busy = lineside(&["listen", path(&wire.here)]);
    assert_eq!(busy.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("in use"), "{busy:?}");
    daemon.stop(SOON);
    let file = site.folder.path().join("line.toml");
    let mut listener =
        running(&["listen", "-c", path(&file), "--pipeline", "scale", "--json", "--frames", "3"]);
    lineside(&replay);
    for (number, text) in ["[1, 2, 3]", "[4, 5, 6]", "[7, 8, 9]"].iter().enumerate() {
        let said = object(&mut listener);
        assert_eq!((&said["text"], &said["sequence"]), (&json!(text), &json!(number)), "{said}");
    }
}

#[test]
fn a_line_that_nobody_describes_is_guessed_from_a_port_and_from_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let frames = folder.path().join("frames.csv");
    let rows: String = (0..60).map(|row| format!("{row},{}.5,{}\n", row * 37 % 90, 1000 - row)).collect();
    std::fs::write(&frames, rows).unwrap();
    let wire = wire(folder.path(), "line");
    let mut sender = running(&[
        "replay",
        "--port",
        path(&wire.there),
        "--raw",
        "--loop",
        "forever",
        "--rate",
        "400",
        "--framing",
        "slip",
        "--crc",
        "crc16_kermit",
        path(&frames),
    ]);
    sender.wait_for("that it sends", |line| line.starts_with("sending"));
    let guessed = lineside(&["listen", path(&wire.here), "--guess", "--json"]);
    let said: Value = serde_json::from_slice(&guessed.stdout).unwrap();
    let best = &said["hypotheses"][0];
    assert_eq!((&best["confidence"], &best["format"]), (&json!("certain"), &json!("csv")), "{said}");
    assert_eq!(best["source"]["framing"], "slip", "{said}");
    assert_eq!(best["source"]["crc"], "crc16_kermit", "{said}");

    let tape = folder.path().join("tape.rec");
    let recorded = lineside(&["listen", path(&wire.here), "--record", path(&tape), "--secs", "1"]);
    assert_eq!(recorded.status.code(), Some(0), "{}", String::from_utf8_lossy(&recorded.stderr));
    drop(sender);
    let guessed = lineside(&["listen", path(&tape), "--guess"]);
    let said = String::from_utf8_lossy(&guessed.stdout).into_owned();
    assert!(said.contains("1. certain") && said.contains("crc = \"crc16_kermit\""), "{said}");
    let see = said.lines().last().unwrap();
    assert!(see.ends_with("listen PORT --framing slip --crc crc16_kermit"), "{said}");

    let silent = lineside(&["listen", path(&wire.here), "--guess", "--baud", "9600", "--guess-secs", "0.3"]);
    assert_eq!(silent.status.code(), Some(69), "{}", String::from_utf8_lossy(&silent.stderr));
}

#[test]
fn a_modbus_bus_is_told_in_words_while_others_talk_on_it() {
    let mut bus = Peer::script("bus.py", &["3"]);
    let line = bus.wait_for("its ends", |line| line.starts_with("/dev/"));
    let ends: Vec<&str> = line.split(' ').collect();
    let mut units = Peer::script("modbus_units.py", &[ends[0]]);
    units.wait_for("ready", |line| line == "ready");
    let mut listener = listening(Path::new(ends[2]), &["--framing", "modbus_rtu", "--baud", "19200"]);
    let mut master = Peer::script("modbus_master.py", &[ends[1], "3"]);
    listener.wait_for("a question", |line| line.contains("unit 1: reads") && line.contains("registers from"));
    listener.wait_for("an answer", |line| line.contains("unit 1: ") && line.contains("1010"));
    master.wait_for("done", |line| line.starts_with("done"));
    signal(listener.pid(), "TERM");
    let summary = listener.wait_for("a summary", |line| line.contains(" frames ("));
    assert!(!summary.contains("stray"), "{summary}");
    assert_eq!(listener.wait(SOON), Some(0));
}

#[test]
fn what_is_no_port_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let frames = folder.path().join("frames.jsonl");
    std::fs::write(&frames, "[1]\n{\"a\": \"much longer than ten\"}\n").unwrap();
    let frames = path(&frames);
    for (args, code, words) in [
        (&["listen", path(&absent)][..], 69, "is the adapter plugged in?"),
        (&["replay", "--port", path(&absent), frames], 69, "is the adapter plugged in?"),
        (&["listen", "/dev/null"], 64, "is no serial port"),
        (&["listen", frames], 64, "is no serial port"),
        (&["listen", path(&absent), "--framing", "fixed"], 64, "`sync` is missing"),
        (&["listen", path(&absent), "--baud", "quick"], 64, "baud is the string \"quick\""),
        (&["listen", path(&absent), "--crc", "crc16_modbus"], 64, "--framing says how"),
        (&["listen", path(&absent), "--guess", "--framing", "cobs"], 64, "give one of them"),
        (&["listen"], 64, "PORT"),
        (&["listen", path(&absent), "--secs", "0"], 64, "--secs"),
        (&["replay", "--topic", "t", "--baud", "9600", frames], 64, "--port names it"),
        (&["replay", "--port", "/dev/null", "--topic", "t", frames], 64, "cannot be used with"),
        (&["replay", "--port", "/dev/null", "--max-frame-bytes", "10", frames], 65, "frame 2 has 29 bytes"),
        (&["replay", "--port", "/dev/null", "--framing", "modbus_rtu", frames], 64, "a master asks"),
    ] {
        let output = lineside(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn a_port_that_goes_away_ends_it_and_what_came_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("tape.rec");
    let wire = wire(folder.path(), "line");
    let mut listener = listening(&wire.here, &["--framing", "line", "--record", path(&tape)]);
    send(&wire, b"hello\n");
    listener.wait_for("the line", |line| line.ends_with("hello"));
    drop(wire);
    listener.wait_for("why it ended", |line| line.contains("the port went away"));
    assert_eq!(listener.wait(SOON), Some(69));
    let kept =
        eventually(SOON, || std::fs::read_to_string(&tape).ok().filter(|text| text.contains("68656c6c6f0a")));
    assert!(kept.is_some());
}
