//! Sensors on a wire, among peers that nobody here wrote: pyserial sends what PyPI's cobs, sliplib and
//! crccheck made, and socat carries it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lineside::base::wire::{ByteOrder, CRC_NAMES, CrcName};
use lineside::stage::decode::framing::any::{Framing, Kind};
use lineside::stage::decode::framing::sequence::SequenceField;
use lineside::stage::decode::framing::sized::{Counts, Layout, Part, Size};
use lineside::stage::decode::framing::{Deframe, Step};
use rumqttc::QoS::AtLeastOnce;
use serde_json::{Value, json};

use crate::support::client::Message;
use crate::support::daemon::Daemon;
use crate::support::models::{means, weigh, weighed};
use crate::support::mosquitto::Setup;
use crate::support::oracle::{self, Case};
use crate::support::peer::{Peer, Wire, wire};
use crate::support::site::{STATS, Site, error, pipeline_with_ids, result, value};
use crate::support::{SOON, eventually, free_port, root, shared, shipped_models};

/// What most of these sensors speak.
fn cobs() -> Value {
    json!({ "framing": "cobs", "crc": "CRC-16/IBM-3740" })
}

/// A pipeline that listens to `port` and loses nothing by overload.
fn listen(name: &str, model: &str, port: &Path, framing: &Value, format: &str, more: &str) -> String {
    let keys = framing.as_object().unwrap().iter();
    let keys: String = keys.map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!(
        "[[pipeline]]\nname = \"{name}\"\nmodel = \"{model}\"\ndecode = {{ format = \"{format}\" }}\n\
         [pipeline.source]\nkind = \"serial\"\nport = \"{}\"\nqueue_frames = 64\nwhen_full = \"block\"\n{keys}{more}\n",
        port.display()
    )
}

/// A sensor at the far end.
fn sensor(wire: &Wire, framing: &Value) -> Peer {
    let mut sensor = Peer::script("serial_sensor.py", &[wire.there.to_str().unwrap(), &framing.to_string()]);
    sensor.wait_for("ready", |line| line == "ready");
    sensor
}

fn tell(sensor: &mut Peer, command: &str) {
    sensor.say(command);
    sensor.wait_for("done", |line| line == "done");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `stats` of a port, as soon as `accept` takes it.
fn port_stats(site: &Site, port: &Path, accept: impl Fn(&Value) -> bool) -> Value {
    let of_port = |message: &Message| message.json()["ports"][port.to_str().unwrap()].clone();
    of_port(&site.client.wait_for(STATS, SOON, |message| accept(&of_port(message))))
}

/// Lines of the log that hold all of `words`.
fn told(daemon: &Daemon, words: &[&str]) -> usize {
    daemon.log().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// The log says so many times that the adapter of `port` is gone. The line follows the state in `stats`.
fn gone_is_told(daemon: &Daemon, port: &Path, times: usize) {
    let words = ["gone (", port.to_str().unwrap()];
    let all = eventually(SOON, || (told(daemon, &words) >= times).then_some(()));
    assert!(all.is_some() && told(daemon, &words) == times, "gone, {times} times:\n{}", daemon.log());
}

/// Bytes of a body for [`weigh`]: three floats.
fn floats(values: [f32; 3]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The framing of the library that a description for the peers means.
fn our_framing(said: &Value, body_bytes: usize) -> Framing {
    let word = |key: &str| said[key].as_str().unwrap_or_default();
    let sync: Vec<u8> = hex_bytes(word("sync"));
    let from = match word("crc_from") {
        "sync" => Part::Sync,
        "length" => Part::Length,
        _ => Part::Body,
    };
    let kind = match word("framing") {
        "cobs" => Kind::Cobs,
        "slip" => Kind::Slip,
        "line" => Kind::Line,
        "fixed" => Kind::Sized(Layout::new(&sync, Size::Fixed(body_bytes), from).unwrap()),
        _ => {
            let size = Size::Field {
                bytes: said["length_bytes"].as_u64().unwrap() as usize,
                order: if word("length_order") == "big" { ByteOrder::Big } else { ByteOrder::Little },
                counts: match word("length_counts") {
                    "body" => Counts::Body,
                    "body_and_crc" => Counts::BodyAndChecksum,
                    _ => Counts::Whole,
                },
            };
            Kind::Sized(Layout::new(&sync, size, from).unwrap())
        }
    };
    let crc = Some(word("crc")).filter(|name| *name != "none").map(|name| CrcName::parse(name).unwrap());
    Framing { kind, crc, crc_order: None, sequence: SequenceField::None, max_body_bytes: body_bytes }
}

fn hex_bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn packages_of_pypi_make_the_frames_that_we_make_and_read_with_every_checksum_that_they_know() {
    let output = Command::new(oracle::python())
        .arg(root().join("tests/peers/framings.py"))
        .args(CRC_NAMES)
        .output()
        .expect("the interpreter was found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let unknown = lines.pop().unwrap()["unknown"].as_array().unwrap().len();
    assert!(unknown < 10, "crccheck knows all but {unknown} of {}", CRC_NAMES.len());
    let mut checksums = BTreeSet::new();
    for case in &lines {
        let (body, wire) =
            (hex_bytes(case["body"].as_str().unwrap()), hex_bytes(case["wire"].as_str().unwrap()));
        let framing = our_framing(&case["framing"], body.len());
        checksums.insert(case["framing"]["crc"].as_str().unwrap());
        let mut ours = Vec::new();
        framing.enframer().encode(0, &body, &mut ours).unwrap();
        assert_eq!(hex(&ours), hex(&wire), "{case}");
        match framing.deframer().push(&wire) {
            Step::Frame { body: read, rest, .. } => {
                assert_eq!((read, rest.len()), (&body[..], 0), "{case}");
            }
            other => panic!("{other:?}: {case}"),
        }
    }
    assert_eq!(checksums.len() + unknown, CRC_NAMES.len() + 1, "each of them, and none");
}

#[test]
fn what_pyserial_sends_in_every_framing_becomes_the_same_predictions() {
    const FRAMES: usize = 50;
    let site = Site::new(&[weigh()]);
    let sized = |framing: &str, more: Value| {
        let mut keys = json!({ "framing": framing, "sync": "aa55", "crc_from": "sync" });
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        keys
    };
    let framings = [
        cobs(),
        json!({ "framing": "slip", "crc": "CRC-32/ISO-HDLC" }),
        json!({ "framing": "line", "crc": "CRC-8/SMBUS" }),
        sized(
            "length",
            json!({ "crc": "CRC-16/KERMIT", "length_bytes": 2, "length_order": "big", "length_counts": "whole" }),
        ),
        sized("fixed", json!({ "crc": "CRC-16/MODBUS", "frame_bytes": 12 })),
    ];
    let name = |framing: &Value| framing["framing"].as_str().unwrap().to_owned();
    let wires: Vec<Wire> = framings.iter().map(|framing| wire(site.folder.path(), &name(framing))).collect();
    let config: String = framings
        .iter()
        .zip(&wires)
        .map(|(framing, wire)| {
            let format = if framing["framing"] == "line" { "csv" } else { "f32le" };
            listen(&name(framing), "weigh", &wire.here, framing, format, "")
        })
        .collect();
    let _daemon = site.run(&config);
    let mut sensors: Vec<Peer> =
        framings.iter().zip(&wires).map(|(framing, wire)| sensor(wire, framing)).collect();
    let row = |n: usize| [n as f32 * 0.25, 192.0, -4.5];
    for n in 0..FRAMES {
        for (sensor, framing) in sensors.iter_mut().zip(&framings) {
            let body = match framing["framing"] == "line" {
                true => row(n).map(|value| value.to_string()).join(",").into_bytes(),
                false => floats(row(n)),
            };
            sensor.say(&format!("frame {}", hex(&body)));
        }
    }
    for (framing, wire) in framings.iter().zip(&wires) {
        let said = site.client.wait_count(&result(&name(framing)), FRAMES, SOON);
        // Two workers answer, each as soon as it can.
        let mut answers: Vec<f64> = said.iter().map(|message| value(&message.json(), "y")).collect();
        answers.sort_by(f64::total_cmp);
        let expected: Vec<f64> = (0..FRAMES)
            .map(|n| {
                let [a, b, c] = row(n).map(f64::from);
                weighed(a, b, c)
            })
            .collect();
        assert_eq!(answers, expected, "{framing}");
        let stats = port_stats(&site, &wire.here, |port| port["frames"] == FRAMES);
        for kind in ["checksum", "malformed", "overlong", "short", "stray_bytes"] {
            assert_eq!(stats["bad"][kind], 0, "{framing}: {stats}");
        }
    }
}

#[test]
fn a_verdict_longer_than_the_ports_frames_is_not_sent_and_that_is_counted_and_told_once() {
    let site = Site::new(&[weigh()]);
    let wire = wire(site.folder.path(), "lamp");
    // How long a score is, nobody knows beforehand; three of them are more than a body of 12 bytes.
    let more =
        "max_frame_bytes = 12\n[pipeline.write_back]\nas = \"frame\"\ntext = \"{score} {score} {score}\"";
    let daemon = site.run(&listen("lamp", "weigh", &wire.here, &cobs(), "f32le", more));
    let mut sensor = sensor(&wire, &cobs());
    for _ in 0..3 {
        tell(&mut sensor, &format!("frame {}", hex(&floats([0.123, 192.456, -4.5]))));
    }
    let stats = site.stats("lamp", |stats| stats["write_back"]["lost"]["refused"] == 3);
    assert_eq!((&stats["write_back"]["written"], &stats["settled"]), (&json!(0), &json!(3)), "{stats}");
    assert_eq!(told(&daemon, &["pipeline lamp: a verdict of", "carries 0 to 12"]), 1, "{}", daemon.log());
}

/// The part of a published prediction that the model and the card decide, as it was written.
fn decided(message: &Message) -> String {
    let text = message.text();
    text[text.find("\"verdict\"").unwrap_or_else(|| panic!("no verdict in {text}"))..].to_owned()
}

/// Sends a data set four times: as JSON by MQTT and as lines on a wire, as packets by MQTT and as COBS
/// frames on a wire. What is published has to be the same text.
fn the_same_by_wire_as_by_mqtt(kind: &str, model: &str, data: &str) {
    let Some(shared) = shared(&format!("{model} on {data}, by wire")) else { return };
    let mut site = Site::new(&[]);
    let cases: Vec<Case> = oracle::ask(
        kind,
        &shipped_models().join(model),
        site.folder.path(),
        &[&shared.join("data").join(data)],
    );
    let copied = Command::new("cp").arg("-r").arg(shipped_models().join(model)).arg(site.models()).status();
    assert!(copied.is_ok_and(|status| status.success()));

    let first: Value = serde_json::from_slice(&cases[0].payload).unwrap();
    let names: Vec<&String> = first.as_object().unwrap().keys().filter(|key| *key != "id").collect();
    let card = site.models().join(model).join("model.toml");
    let channels: Vec<String> = names.iter().map(|name| format!("{{ name = \"{name}\" }}")).collect();
    let text = fs::read_to_string(&card).unwrap();
    fs::write(&card, format!("{text}\n[[packet]]\nschema = 7\nchannel = [{}]\n", channels.join(", ")))
        .unwrap();

    // Six samples a packet: they neither fill a window alone nor end with one.
    let samples: Vec<Vec<f32>> = cases
        .iter()
        .map(|case| {
            let frame: Value = serde_json::from_slice(&case.payload).unwrap();
            names.iter().map(|name| frame[name.as_str()].as_f64().unwrap() as f32).collect()
        })
        .collect();
    let packets: Vec<Vec<u8>> = samples
        .chunks(6)
        .enumerate()
        .map(|(number, samples)| {
            let [low, high] = (number as u16).to_le_bytes();
            let mut packet = vec![0x11, 1, 7, 0, low, high, 0, 0, 0, 0, names.len() as u8];
            packet.extend(samples.concat().iter().flat_map(|sample| sample.to_le_bytes()));
            packet
        })
        .collect();
    let write = |name: &str, lines: Vec<Vec<u8>>| {
        let file = site.folder.path().join(name);
        fs::write(&file, lines.join(&b'\n')).unwrap();
        format!("frames {}", file.display())
    };
    let lines = write("lines", cases.iter().map(|case| case.payload.clone()).collect());
    let frames =
        write("frames", packets.iter().map(|packet| format!("hex {}", hex(packet)).into_bytes()).collect());

    let (text_wire, packet_wire) = (wire(site.folder.path(), "text"), wire(site.folder.path(), "packet"));
    let line = json!({ "framing": "line", "crc": "CRC-16/IBM-3740" });
    let by_line = listen("text-wire", model, &text_wire.here, &line, "json", "")
        .replace("\"json\"", "\"json\", id_field = \"id\"");
    let by_mqtt = pipeline_with_ids("packet-mqtt", model, "packet/frame")
        .replace("\"json\"\nid_field = \"id\"", "\"packet\"");
    let daemon = site.run(
        &(pipeline_with_ids("text-mqtt", model, "text/frame")
            + &by_line
            + &by_mqtt
            + &listen("packet-wire", model, &packet_wire.here, &cobs(), "packet", "")),
    );
    let (mut text_sensor, mut packet_sensor) = (sensor(&text_wire, &line), sensor(&packet_wire, &cobs()));
    text_sensor.say(&lines);
    packet_sensor.say(&frames);
    for case in &cases {
        site.client.publish("text/frame", AtLeastOnce, case.payload.clone());
    }
    for packet in &packets {
        site.client.publish("packet/frame", AtLeastOnce, packet.clone());
    }
    let long = SOON * 9;
    // A window is answered with its last sample, a forecast is judged from the second one on.
    let answers = match kind {
        "cycles" => cases.iter().filter(|case| !case.answer.is_null()).count(),
        _ => cases.len() - 1,
    };
    let said = |site: &mut Site, name: &str| -> Vec<Message> {
        let heard = site.client.wait_until(&result(name), long, |heard| heard.len() >= answers);
        let all = site.client.heard(&result(name));
        assert!(heard, "{name}: {} of {answers} answers\n{}", all.len(), daemon.log());
        all
    };
    for [mqtt, wire] in [["text-mqtt", "text-wire"], ["packet-mqtt", "packet-wire"]] {
        let (by_mqtt, by_wire) = (said(&mut site, mqtt), said(&mut site, wire));
        for (ours, theirs) in by_wire.iter().zip(&by_mqtt) {
            assert_eq!(decided(ours), decided(theirs), "{wire}: {}", ours.text());
            let (ours, theirs) = (ours.json(), theirs.json());
            assert_eq!(ours["source"]["frame_id"], theirs["source"]["frame_id"], "{wire}");
        }
    }
    for wire in [&text_wire, &packet_wire] {
        let stats = port_stats(&site, &wire.here, |_| true);
        assert_eq!((&stats["bad"]["checksum"], &stats["sequence_lost"]), (&json!(0), &json!(0)), "{stats}");
    }
}

#[test]
fn hydraulic_cycles_of_the_cooler_by_wire_are_judged_as_by_mqtt_to_the_letter() {
    the_same_by_wire_as_by_mqtt("cycles", "hydraulic-cooler", "hydraulic_1hz/hydraulic_1hz.npz");
}

#[test]
fn hydraulic_cycles_of_the_pump_by_wire_are_judged_as_by_mqtt_to_the_letter() {
    the_same_by_wire_as_by_mqtt("cycles", "hydraulic-pump", "hydraulic_1hz/hydraulic_1hz.npz");
}

#[test]
fn the_nab_series_by_wire_is_judged_as_by_mqtt_to_the_letter() {
    the_same_by_wire_as_by_mqtt(
        "series",
        "machine-temperature",
        "nab/machine_temperature_system_failure.csv",
    );
}

#[test]
fn ports_that_cannot_be_had_are_told_once_with_a_remedy_and_taken_when_they_can() {
    let mut site = Site::new(&[weigh()]);
    let folder = site.folder.path().to_owned();
    let at = |name: &str| folder.join(format!("{name}-a"));
    // Somebody else's: pyserial locks as careful programs do.
    let busy = wire(site.folder.path(), "busy");
    let lock = format!(
        "import serial, sys\nport = serial.Serial({:?}, 9600, exclusive=True)\nprint('has it', flush=True)\nsys.stdin.read()",
        busy.here
    );
    let mut owner = Command::new(oracle::python());
    owner.args(["-c", &lock]);
    let mut owner = Peer::start(owner, "tests/run makes target/test-venv");
    owner.wait_for("has it", |line| line == "has it");
    fs::write(at("file"), "not a port").unwrap();
    // One port by two names, in two pipelines.
    let twice = wire(site.folder.path(), "twice");
    let link = at("link");
    std::os::unix::fs::symlink(fs::canonicalize(&twice.here).unwrap(), &link).unwrap();
    let denied = wire(site.folder.path(), "denied");
    fs::set_permissions(&denied.here, fs::Permissions::from_mode(0o000)).unwrap();

    let config: String = ["absent", "busy", "file", "denied", "twice", "link"]
        .map(|name| listen(name, "weigh", &at(name), &cobs(), "f32le", ""))
        .concat()
        + &pipeline_with_ids("well", "weigh", "s/frame");
    let config = site.configure(&config);
    // Root may open everything, but for one without that capability.
    let daemon = match Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n") {
        true => {
            Daemon::spawn_under(&["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"], &config)
        }
        false => Daemon::spawn(&config),
    };
    let expected: [(&str, &[&str]); 4] = [
        ("absent", &["there is no", "is the adapter plugged in?"]),
        ("busy", &["in use by another program", "fuser -v"]),
        ("file", &["is no serial port"]),
        ("denied", &["no permission to open", "with mode 0000, so there is no group to join"]),
    ];
    for (name, words) in expected {
        let stats = port_stats(&site, &at(name), |port| port["failures"].as_u64() > Some(3));
        assert_eq!((&stats["up"], &stats["opens"]), (&json!(false), &json!(0)), "{name}: {stats}");
        let place = at(name).display().to_string();
        let words: Vec<&str> = words.iter().copied().chain([&place[..]]).collect();
        assert_eq!(told(&daemon, &words), 1, "{words:?}, once:\n{}", daemon.log());
    }
    // Which of the two is first is chance.
    let both = eventually(SOON, || (told(&daemon, &["in use by Lineside itself"]) == 1).then_some(()));
    assert!(both.is_some(), "{}", daemon.log());
    // The daemon goes on meanwhile.
    site.client.publish("s/frame", AtLeastOnce, r#"{"id":"0","a":1,"b":2,"c":3}"#);
    site.client.wait_for(&result("well"), SOON, |_| true);

    drop(owner);
    fs::remove_file(at("file")).unwrap();
    fs::set_permissions(&denied.here, fs::Permissions::from_mode(0o600)).unwrap();
    let (absent, file) = (wire(site.folder.path(), "absent"), wire(site.folder.path(), "file"));
    for (name, wire) in [("absent", &absent), ("busy", &busy), ("file", &file), ("denied", &denied)] {
        port_stats(&site, &wire.here, |port| port["up"] == true);
        tell(&mut sensor(wire, &cobs()), &format!("frame {}", hex(&floats([1.0, 2.0, 3.0]))));
        let said = site.client.wait_for(&result(name), SOON, |_| true);
        assert_eq!(value(&said.json(), "y"), weighed(1.0, 2.0, 3.0), "{name}");
    }
}

#[test]
fn a_wire_without_frames_is_told_once_counted_and_heard_again() {
    let site = Site::new(&[weigh()]);
    let body = hex(&floats([1.0, 2.0, 3.0]));
    // What the sensor does, and what is said of it.
    let misheard = vec![format!("misheard 57600 {body}"); 40].join("\n");
    let cases: [(&str, String, &[&str]); 5] = [
        ("silent", String::new(), &["nothing has come for"]),
        ("noise", "noise 3 4000".into(), &["no frame among them", "wrong baud (115200), framing or crc"]),
        ("delimiters", "repeat 4000 00".into(), &["no frame ended in them: only delimiters"]),
        ("endless", "repeat 4000 55".into(), &["no frame ended in them", "a frame without an end"]),
        ("misheard", misheard, &["no frame among them", "wrong baud (115200)"]),
    ];
    let wires: Vec<Wire> = cases.iter().map(|(name, ..)| wire(site.folder.path(), name)).collect();
    let config: String = cases
        .iter()
        .zip(&wires)
        .map(|((name, ..), wire)| {
            listen(
                name,
                "weigh",
                &wire.here,
                &cobs(),
                "f32le",
                "max_frame_bytes = 512\nstale_after_ms = 2000",
            )
        })
        .collect();
    let mut daemon = site.run(&config);
    let mut sensors: Vec<Peer> = wires.iter().map(|wire| sensor(wire, &cobs())).collect();
    for ((_, commands, _), sensor) in cases.iter().zip(&mut sensors) {
        commands.lines().for_each(|command| tell(sensor, command));
    }
    for ((name, _, words), wire) in cases.iter().zip(&wires) {
        let port = wire.here.to_str().unwrap();
        let words: Vec<&str> = words.iter().copied().chain([port]).collect();
        daemon.wait_log(&words, SOON);
        let has_come = |port: &Value| *name == "silent" || port["bytes"].as_u64() > Some(1_000);
        let stats = port_stats(&site, &wire.here, |port| port["stalled"] == true && has_come(port));
        assert_eq!(stats["frames"], 0, "{name}: {stats}");
        if ["noise", "misheard"].contains(name) {
            let bad: u64 = stats["bad"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            assert!(bad > 10, "{name}: {stats}");
        }
    }
    for ((_, _, words), wire) in cases.iter().zip(&wires) {
        let port = wire.here.to_str().unwrap();
        let words: Vec<&str> = words.iter().copied().chain([port]).collect();
        assert_eq!(told(&daemon, &words), 1, "{words:?}, once:\n{}", daemon.log());
    }
    for ((name, ..), (wire, sensor)) in cases.iter().zip(wires.iter().zip(&mut sensors)) {
        // The delimiter in front ends whatever was begun.
        tell(sensor, "raw 00");
        tell(sensor, &format!("frame {body}"));
        let said = site.client.wait_for(&result(name), SOON, |_| true);
        assert_eq!(value(&said.json(), "y"), weighed(1.0, 2.0, 3.0), "{name}");
        port_stats(&site, &wire.here, |port| port["stalled"] == false);
        daemon.wait_log(&["frames come again", wire.here.to_str().unwrap()], SOON);
    }
    assert!(daemon.is_alive());
}

#[test]
fn packets_of_an_unknown_schema_and_samples_without_a_value_cost_themselves() {
    let site = Site::new(&[means()]);
    let card = site.models().join("means/model.toml");
    let text = fs::read_to_string(&card).unwrap();
    let packet = "\n[[packet]]\nschema = 7\nchannel = [{ name = \"u\" }, { name = \"i\" }]\n";
    fs::write(&card, text + packet).unwrap();
    let wire = wire(site.folder.path(), "rig");
    let daemon = site.run(&listen("rig", "means", &wire.here, &cobs(), "packet", ""));
    let mut sensor = sensor(&wire, &cobs());
    let packet = |schema: u8, number: u8, rows: &[[f32; 2]]| {
        let mut packet = vec![0x11, 1, schema, 0, number, 0, 0, 0, 0, 0, 2];
        packet.extend(rows.concat().iter().flat_map(|sample| sample.to_le_bytes()));
        format!("frame {}", hex(&packet))
    };
    let rows = [[1.0, 10.0]; 5];
    for number in 0..3 {
        tell(&mut sensor, &packet(9, number, &rows));
    }
    let mut torn = rows;
    torn[2][1] = f32::NAN;
    tell(&mut sensor, &packet(7, 3, &torn));
    let errors = site.client.wait_count(&error("rig"), 4, SOON);
    for (message, (reason, words)) in errors.iter().zip([
        ("unknown_schema", "schema 9 is not known to the card (it names 7); add a [[packet]] to model.toml"),
        ("unknown_schema", "schema 9"),
        ("unknown_schema", "schema 9"),
        ("missing_feature", "row 3"),
    ]) {
        let said = message.json();
        assert_eq!(said["reason"], reason, "{said}");
        assert!(said["message"].as_str().is_some_and(|message| message.contains(words)), "{said}");
    }
    tell(&mut sensor, &packet(7, 4, &rows));
    let said = site.client.wait_for(&result("rig"), SOON, |_| true).json();
    assert_eq!((value(&said, "u_mean"), value(&said, "i_mean")), (1.0, 10.0), "{said}");
    let stats = site.stats("rig", |stats| stats["settled"].as_u64() > Some(0));
    assert_eq!(stats["lost"], json!({ "unknown_schema": 3, "missing_feature": 1 }), "{stats}");
    let port = port_stats(&site, &wire.here, |port| port["frames"] == 5);
    assert_eq!(port["sequence_lost"], 0, "{port}");
    assert_eq!(told(&daemon, &["pipeline rig", "(unknown_schema)", "schema 9"]), 1, "{}", daemon.log());
    assert_eq!(told(&daemon, &["pipeline rig", "(missing_feature)"]), 1, "{}", daemon.log());
}

/// Unplugs and plugs in `times`, each time away for `away`: every time the next frame is heard, and
/// neither descriptors nor memory become more.
fn unplugged(times: u64, away: Duration) {
    let site = Site::new(&[weigh()]);
    let body = hex(&floats([1.0, 2.0, 3.0]));
    let mut here = wire(site.folder.path(), "usb");
    let port = here.here.clone();
    let daemon = site.run(&listen("oven", "weigh", &port, &cobs(), "f32le", ""));
    let descriptors = |daemon: &Daemon| fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let mut after_first = None;
    for time in 0..=times {
        site.client.forget();
        tell(&mut sensor(&here, &cobs()), &format!("frame {body}"));
        site.client.wait_for(&result("oven"), SOON, |_| true);
        let stats = port_stats(&site, &port, |port| port["opens"] == time + 1 && port["frames"] == time + 1);
        assert_eq!(stats["up"], true, "{stats}");
        let now = (descriptors(&daemon), daemon.memory_kb("VmRSS"));
        let (first, early_kb) = *after_first.get_or_insert(now);
        assert_eq!(now.0, first, "open descriptors after {time} times");
        // What a first time of anything allocates, and no more for each: 100 leaks of 10 kB would show.
        assert!(now.1 < early_kb + 1024, "{early_kb} kB became {} kB after {time} times", now.1);
        if time < times {
            drop(here);
            port_stats(&site, &port, |port| port["up"] == false);
            std::thread::sleep(away);
            here = wire(site.folder.path(), "usb");
        }
    }
    gone_is_told(&daemon, &port, times as usize);
}

#[test]
fn an_adapter_that_is_unplugged_and_plugged_in_again_is_heard_again() {
    unplugged(4, Duration::from_millis(300));
}

#[test]
#[ignore = "a hundred times ten seconds; tests/run --long"]
fn an_adapter_that_is_unplugged_a_hundred_times_leaves_nothing_behind() {
    unplugged(100, Duration::from_secs(10));
}

#[test]
fn an_adapter_that_is_unplugged_in_full_flow_is_heard_again_and_each_frame_taken_is_answered() {
    let site = Site::new(&[weigh()]);
    let port = site.folder.path().join("usb-a");
    let daemon = site.run(&listen("oven", "weigh", &port, &cobs(), "f32le", ""));
    let flow = flow(site.folder.path(), 20_000);
    for time in 0..3 {
        let wire = wire(site.folder.path(), "usb");
        let mut sensor = sensor(&wire, &cobs());
        port_stats(&site, &port, |port| port["opens"] == time + 1);
        sensor.say(&flow);
        port_stats(&site, &port, |port| port["frames"].as_u64() > Some(1_000 * (time + 1)));
        drop(wire);
        port_stats(&site, &port, |port| port["up"] == false);
    }
    let frames = port_stats(&site, &port, |_| true)["frames"].clone();
    let stats = site.stats("oven", |stats| stats["settled"] == frames);
    assert_eq!(stats["predictions"], frames, "{stats}");
    gone_is_told(&daemon, &port, 3);
}

#[test]
fn an_adapter_is_unplugged_and_taken_again_while_another_port_has_nowhere_to_put_its_frames() {
    // The disk takes some 2,400 answers a second: the port is full for four.
    const FRAMES: u64 = 10_000;
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[weigh()]);
    let full = wire(site.folder.path(), "press");
    let usb = wire(site.folder.path(), "usb");
    let (usb_port, http) = (usb.here.clone(), free_port());
    let sources = [("press", &full.here), ("oven", &usb_port)]
        .map(|(name, port)| listen(name, "weigh", port, &cobs(), "f32le", ""));
    let config = site.configure(&format!("[http]\nlisten = \"127.0.0.1:{http}\"\n{}", sources.concat()));
    let daemon = Daemon::spawn_with(&config, &[("LINESIDE_FAIL_POINT", "records_sync=sleep:250")]);
    for port in [&full.here, &usb_port] {
        daemon.wait_log(&["open", port.to_str().unwrap()], SOON);
    }
    let metric = |name: &str, port: &Path| port_metric(http, name, port);
    let becomes = |name: &str, port: &Path, wanted: u64| {
        let there = eventually(SOON, || metric(name, port).filter(|value| *value == wanted));
        there.unwrap_or_else(|| panic!("{name} of {} is not {wanted}:\n{}", port.display(), daemon.log()));
    };
    // Without a broker each answer waits for a slow disk, and so does the worker that made it.
    site.broker.stop();
    let mut sensor_of_full = sensor(&full, &cobs());
    sensor_of_full.say(&flow(site.folder.path(), FRAMES));
    eventually(SOON, || metric("lineside_port_frames_total", &full.here).filter(|frames| *frames > 200));
    drop(usb);
    becomes("lineside_port_up", &usb_port, 0);
    let usb = wire(site.folder.path(), "usb");
    becomes("lineside_port_up", &usb_port, 1);
    let taken = metric("lineside_port_frames_total", &full.here).unwrap();
    assert!(taken < FRAMES, "the other port was not full: this shows nothing");
    site.broker.resume();
    tell(&mut sensor(&usb, &cobs()), &format!("frame {}", hex(&floats([1.0, 2.0, 3.0]))));
    site.client.wait_for(&result("oven"), SOON, |_| true);
    site.client.wait_count(&result("press"), FRAMES as usize, SOON);
}

/// What makes a sensor send `frames` numbered frames without a pause.
fn flow(folder: &Path, frames: u64) -> String {
    let body = |n| format!("hex {}\n", hex(&floats([n as f32, 0.0, 0.0])));
    let file = folder.join("flow");
    fs::write(&file, (0..frames).map(body).collect::<String>()).unwrap();
    format!("frames {}", file.display())
}

/// A number of the port as `/metrics` has it, while there is no broker to publish `stats`.
fn port_metric(http: u16, name: &str, port: &Path) -> Option<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", http)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let wanted = format!("{name}{{port=\"{}\"}} ", port.display());
    text.lines().find_map(|line| line.strip_prefix(&wanted))?.parse().ok()
}

/// A burst of numbered frames while the broker is away and the disk is slow; the daemon is killed in the
/// middle of it. Gives how many it had taken at least, and how many were answered in the end.
fn killed_in_a_burst(durable: bool) -> (u64, u64) {
    const FRAMES: u64 = 3_000;
    // A broker that keeps sessions over its restart: the listener may come back after the daemon.
    let mut site = Site::with(Setup { persistent: true, ..Setup::default() }, &[weigh()]);
    let wire = wire(site.folder.path(), "press");
    let http = free_port();
    let source = listen("press", "weigh", &wire.here, &cobs(), "f32le", &format!("durable = {durable}"));
    let config = site.configure(&format!("[http]\nlisten = \"127.0.0.1:{http}\"\n{source}"));
    let mut daemon = Daemon::spawn_with(&config, &[("LINESIDE_FAIL_POINT", "records_sync=sleep:250")]);
    daemon.wait_log(&["open", wire.here.to_str().unwrap()], SOON);
    site.broker.stop();
    let mut sensor = sensor(&wire, &cobs());
    sensor.say(&flow(site.folder.path(), FRAMES));
    let taken = || port_metric(http, "lineside_port_frames_total", &wire.here);
    let taken = eventually(SOON, || taken().filter(|taken| *taken >= 700));
    let taken = taken.unwrap_or_else(|| panic!("the burst was not read:\n{}", daemon.log()));
    daemon.kill();
    // The port goes with its reader: what had not been read is the kernel's to forget.
    drop((sensor, wire));
    site.broker.resume();
    let _again = site.start(&config);
    let answered = |messages: &[&Message]| {
        let numbers = messages.iter().map(|message| value(&message.json(), "y").to_string());
        numbers.collect::<BTreeSet<String>>().len() as u64
    };
    // Whatever there is, is there soon after it began to come.
    let mut before = u64::MAX;
    eventually(SOON, || {
        std::thread::sleep(Duration::from_millis(700));
        let now = answered(&site.client.heard(&result("press")).iter().collect::<Vec<_>>());
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    let heard = site.client.heard(&result("press"));
    let count = answered(&heard.iter().collect::<Vec<_>>());
    // What is missing is of the last read, of which each worker may have had a frame in hand.
    for n in 0..if durable { count.saturating_sub(OF_ONE_READ) } else { 0 } {
        let y = weighed(n as f64, 0.0, 0.0);
        assert!(heard.iter().any(|message| value(&message.json(), "y") == y), "frame {n} of {count}");
    }
    (taken, count)
}

/// Frames: a kernel hands out 4,096 bytes at once, and one of these takes 16.
const OF_ONE_READ: u64 = 4096 / 16 + 1;

#[test]
fn a_durable_port_has_settled_what_it_took_before_it_reads_on_though_it_is_killed() {
    let (taken, answered) = killed_in_a_burst(true);
    assert!(answered + OF_ONE_READ >= taken, "{taken} frames were taken, {answered} answered");
    // And without it they would have been more, or this shows nothing.
    let (taken, answered) = killed_in_a_burst(false);
    assert!(answered + OF_ONE_READ < taken, "{taken} frames were taken, {answered} answered");
}
