//! Brokers that are away or say no, configurations and models that are wrong: what is waited for,
//! what ends the process, and with which words and exit code.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rumqttc::QoS::AtLeastOnce;

use crate::support::SOON;
use crate::support::client::Client;
use crate::support::daemon::{Daemon, lineside};
use crate::support::models::{Model, bright, total, weigh, weighed};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::site::{AVAILABILITY, Site, pipeline, result, value, work_folder, write_config};

const CONFIG: i32 = 78;
const USAGE: i32 = 64;
const BAD_DATA: i32 = 65;
const NO_FILE: i32 = 74;

/// A broker that first refuses in some way and then does not: the daemon waits, says why, and works
/// as soon as it may.
fn refused_then_admitted(setup: Setup, login: &str, words: &[&str], log_after_start: bool) {
    let mut broker = Mosquitto::planned(setup);
    if log_after_start {
        broker.resume();
    }
    let folder = work_folder(&[weigh()]);
    let config = write_config(
        folder.path(),
        &format!("url = \"mqtt://127.0.0.1:{}\"{login}", broker.port),
        &folder.path().join("models"),
        &pipeline("scale", "weigh", "s/frame", "json"),
    );
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_log(words, SOON);
    std::thread::sleep(Duration::from_secs(1));
    assert!(daemon.is_alive(), "it waits for the broker:\n{}", daemon.log());
    let lines = daemon.log().lines().count();
    assert!(lines < 60, "{lines} log lines within seconds: attempts need pauses\n{}", daemon.log());

    broker.stop();
    broker.change(Setup::default());
    broker.resume();
    let mut client = Client::connect(broker.port, "test");
    client.subscribe("lineside/#", AtLeastOnce);
    client.wait_for(AVAILABILITY, SOON * 3, |message| message.payload == b"online");
    client.publish("s/frame", AtLeastOnce, "[1,2,3]");
    client.wait_for(&result("scale"), SOON, |_| true);
    assert_eq!(daemon.stop(SOON), Some(0));
}

#[test]
fn a_broker_absent_at_start_is_waited_for() {
    refused_then_admitted(Setup::default(), "", &["cannot connect"], false);
}

#[test]
fn a_broker_that_refuses_the_password_is_named_and_tried_again() {
    refused_then_admitted(
        Setup { users: vec![("press", "right")], ..Setup::default() },
        "\nusername = \"press\"\npassword = \"wrong\"",
        &["refused the connection", "authori"],
        true,
    );
}

#[test]
fn a_broker_that_refuses_the_client_id_is_named_and_tried_again() {
    refused_then_admitted(
        Setup { client_id_prefix: Some("accepted-"), ..Setup::default() },
        "\nclient_id = \"stranger\"",
        &["refused the connection", "client_id"],
        true,
    );
}

#[test]
fn a_broker_that_refuses_the_subscription_is_named_with_the_topic() {
    refused_then_admitted(
        Setup { only_subscribe: Some(vec!["lineside/#"]), ..Setup::default() },
        "",
        &["s/frame", "refused"],
        true,
    );
}

#[test]
fn a_broker_that_goes_away_while_starting_does_not_hold_up_sigterm() {
    let folder = work_folder(&[weigh()]);
    let broker = Mosquitto::planned(Setup::default());
    let config = write_config(
        folder.path(),
        &format!("url = \"mqtt://127.0.0.1:{}\"", broker.port),
        &folder.path().join("models"),
        &pipeline("scale", "weigh", "s/frame", "json"),
    );
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_log(&["cannot connect"], SOON);
    assert_eq!(daemon.stop(Duration::from_secs(8)), Some(0), "{}", daemon.log());
}

/// `check` and `run` both end with 78 and say the same; returns what they say.
fn complaints(config: &Path) -> String {
    let config = config.to_str().expect("temporary folders have plain names");
    let said = ["check", "run"].map(|verb| {
        let output = lineside(&[verb, "-c", config]);
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(CONFIG), "{verb}: {text}");
        text
    });
    said[0].clone()
}

#[test]
fn ten_mistakes_in_a_configuration_are_named_at_once_each_with_its_place() {
    let folder = work_folder(&[weigh()]);
    let file = folder.path().join("line.toml");
    let lines = [
        ("[device]", ""),
        ("id = \"press/07\"", "id"),
        ("[broker]", ""),
        ("url = \"http://localhost\"", "http"),
        ("keep_alive_secs = 0", "keep_alive_secs"),
        ("[models]", ""),
        ("path = \"models\"", ""),
        ("[[pipeline]]", ""),
        ("name = \"scale\"", ""),
        ("model = \"weigh\"", ""),
        ("[pipeline.source]", ""),
        ("kind = \"mqtt\"", ""),
        ("topic = \"a/#/b\"", "a/#/b"),
        ("qos = 2", "qos"),
        ("queue_frames = 0", "queue_frames"),
        ("stale_after = 5", "stale_after"),
        ("[pipeline.decode]", ""),
        ("format = \"jsn\"", "jsn"),
        ("[pipeline.publish]", ""),
        ("topic = \"out/{camera}/result\"", "camera"),
        ("retain = \"yes\"", "retain"),
        ("[[pipeline]]", ""),
        ("name = \"scale\"", "scale"),
        ("model = \"weigh\"", ""),
        ("[pipeline.source]", ""),
        ("kind = \"mqtt\"", ""),
        ("topic = \"b/frame\"", ""),
        ("[pipeline.decode]", ""),
        ("format = \"json\"", ""),
        ("[pipeline.publish]", ""),
        ("topic = \"out/result\"", ""),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    fs::write(&file, text).unwrap();
    let said = complaints(&file);
    let mut missing = Vec::new();
    for (index, (line, word)) in lines.iter().enumerate().filter(|(_, (_, word))| !word.is_empty()) {
        let place = format!("line.toml:{}:", index + 1);
        if !said.lines().any(|complaint| complaint.contains(&place) && complaint.contains(word)) {
            missing.push(format!("{place} {line}"));
        }
    }
    assert!(missing.is_empty(), "nothing said on\n  {}\nin\n{said}", missing.join("\n  "));
}

#[test]
fn broken_toml_and_no_pipeline_end_with_78_and_a_missing_file_is_named() {
    let folder = work_folder(&[weigh()]);
    let file = folder.path().join("line.toml");
    fs::write(&file, "[broker]\nurl = \"mqtt://localhost\n").unwrap();
    assert!(complaints(&file).contains("line.toml:2:"));
    fs::write(&file, "[broker]\nurl = \"mqtt://localhost\"\n").unwrap();
    assert!(complaints(&file).contains("pipeline"));
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    assert!(complaints(&file).contains("line.toml"));
    let absent = folder.path().join("absent.toml");
    for verb in ["check", "run"] {
        let output = lineside(&[verb, "-c", absent.to_str().unwrap()]);
        assert!(matches!(output.status.code(), Some(CONFIG | NO_FILE)), "{verb}: {:?}", output.status);
        assert!(String::from_utf8_lossy(&output.stderr).contains("absent.toml"), "{verb}");
    }
}

#[test]
fn an_environment_variable_that_is_not_set_is_named() {
    let folder = work_folder(&[weigh()]);
    let config = write_config(
        folder.path(),
        "url = \"mqtt://localhost\"\nusername = \"u\"\npassword = \"${LINESIDE_TEST_UNSET}\"",
        &folder.path().join("models"),
        &pipeline("scale", "weigh", "s/frame", "json"),
    );
    assert!(complaints(&config).contains("LINESIDE_TEST_UNSET"));
}

/// A line with one model that `spoil` has touched.
fn with_spoiled(model: &Model, format: &str, spoil: impl FnOnce(&Path)) -> String {
    let folder = work_folder(&[]);
    let models = folder.path().join("models");
    spoil(&model.write(&models));
    let config = write_config(
        folder.path(),
        "url = \"mqtt://127.0.0.1:1\"",
        &models,
        &pipeline("p", model.name, "s/frame", format),
    );
    complaints(&config)
}

/// A card with one text replaced by another; the text must be there.
fn card(from: &str, to: &str) -> impl FnOnce(&Path) {
    move |folder: &Path| {
        let file = folder.join("model.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from:?} is not in\n{text}");
        fs::write(file, text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn a_card_that_contradicts_its_model_is_refused_with_both_values() {
    for (model, format, from, to, words) in [
        (weigh(), "json", "shape = [1, 3]", "shape = [1, 4]", &["4", "3"][..]),
        (weigh(), "json", "name = \"X\"", "name = \"Z\"", &["Z"][..]),
        (weigh(), "json", "input = \"X\"", "input = \"Q\"", &["Q"][..]),
        (weigh(), "json", "tensor = \"y\"", "tensor = \"yy\"", &["yy"][..]),
        (weigh(), "json", "[[features.column]]\nname = \"a\"\nunit = \"kg\"\n", "", &["2", "3"][..]),
        (weigh(), "json", "name = \"weigh\"", "name = \"weight\"", &["weight"][..]),
        (weigh(), "json", "kind = \"table\"", "kind = \"tabel\"", &["tabel"][..]),
        (weigh(), "json", "lineside.card/1", "lineside.card/9", &["lineside.card/9"][..]),
        (weigh(), "json", "impute = 4.0", "impute = 4.0\nimputee = 4.0", &["imputee"][..]),
        (weigh(), "image", "summary", "summary", &["pictures", "format = \"json\""][..]),
        (
            bright(),
            "image",
            "labels = [\"dark\", \"bright\"]",
            "labels = [\"dark\", \"grey\", \"bright\"]",
            &["3", "2"][..],
        ),
        (bright(), "image", "pass = [\"bright\"]", "pass = [\"brite\"]", &["brite"][..]),
        (bright(), "image", "width = 4", "width = 8", &["8", "4"][..]),
        (bright(), "image", "layout = \"nchw\"", "layout = \"nhwc\"", &["[1, 3, 4, 4]", "[1, 4, 4, 3]"][..]),
        (bright(), "image", "channels = \"rgb\"", "channels = \"rgb\"\nstd = [0.0, 1.0, 1.0]", &["std"][..]),
        (bright(), "image", "channels = \"rgb\"", "channels = \"rgb\"\nmean = [0.5]", &["mean"][..]),
        (total(), "json", "output = \"after\"", "output = \"aftre\"", &["aftre"][..]),
    ] {
        let said = with_spoiled(&model, format, card(from, to));
        for word in words {
            assert!(said.contains(word), "{to:?} in the card of {}: no {word:?} in\n{said}", model.name);
        }
        assert!(said.contains(model.name), "names the model:\n{said}");
    }
}

#[test]
fn a_model_that_answers_its_golden_case_wrongly_is_refused() {
    let said = with_spoiled(&weigh(), "json", |folder| {
        let file = folder.join("golden/one/output-0.npy");
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&5.6f32.to_le_bytes());
        fs::write(file, bytes).unwrap();
    });
    assert!(said.contains("golden") && said.contains("one"), "{said}");
}

#[test]
fn a_model_folder_that_is_missing_a_file_is_refused_by_name() {
    for file in ["model.onnx", "model.toml"] {
        let said = with_spoiled(&weigh(), "json", |folder| fs::remove_file(folder.join(file)).unwrap());
        assert!(said.contains(file), "{said}");
    }
    for file in ["golden/one/input-0.npy", "golden/one/output-0.npy"] {
        let said = with_spoiled(&weigh(), "json", |folder| fs::remove_file(folder.join(file)).unwrap());
        assert!(said.contains("put-0"), "{said}");
    }
    let said = with_spoiled(&weigh(), "json", |folder| fs::remove_dir_all(folder).unwrap());
    assert!(said.contains("weigh"), "{said}");
    let said = with_spoiled(&weigh(), "json", |folder| {
        let file = folder.join("model.onnx");
        let mut bytes = fs::read(&file).unwrap();
        bytes.push(0);
        fs::write(file, bytes).unwrap();
    });
    assert!(said.contains("sha256") || said.contains("SHA-256"), "another file than the card's: {said}");
}

#[test]
fn a_bad_command_line_ends_with_64_and_bad_data_with_65() {
    for arguments in [&["fly"][..], &["run", "--fast"][..], &[][..], &["infer"][..]] {
        assert_eq!(lineside(arguments).status.code(), Some(USAGE), "{arguments:?}");
    }
    let folder = work_folder(&[weigh()]);
    let file = folder.path().join("broken.onnx");
    fs::write(&file, b"this is not a graph").unwrap();
    let path = file.to_str().unwrap();
    let output = lineside(&["inspect", path]);
    assert_eq!(output.status.code(), Some(BAD_DATA), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.onnx"));
    for verb in ["--help", "--version"] {
        assert_eq!(lineside(&[verb]).status.code(), Some(0), "{verb}");
    }
}

#[test]
fn the_example_configuration_is_taken_as_it_stands() {
    let output = lineside(&["config", "example"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("[[pipeline]]") && text.contains('#'), "{text}");
    let site = Site::new(&[]);
    let file = site.folder.path().join("example.toml");
    fs::write(&file, text).unwrap();
    // Its models are the shipped ones.
    fs::remove_dir(site.models()).unwrap();
    std::os::unix::fs::symlink(crate::support::shipped_models(), site.models()).unwrap();
    let output = lineside(&["check", "-c", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let only_the_place = said.lines().all(|line| line.contains("models") || !line.contains("example.toml:"));
    assert!(output.status.code() == Some(0) || only_the_place, "{said}");
}

#[test]
fn a_prepared_graph_that_is_damaged_is_told_and_its_model_runs_all_the_same() {
    let mut site = Site::new(&[weigh()]);
    let model = site.models().join("weigh");
    let folder = model.to_str().unwrap();
    let output = lineside(&["prepare", folder]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let prepared = model.join("model.1x3.prepared");
    let inspected = || String::from_utf8(lineside(&["inspect", folder]).stdout).unwrap();
    assert!(inspected().contains(&format!("prepared    {}", prepared.display())), "{}", inspected());

    let config = site.configure(&pipeline("scale", "weigh", "s/frame", "json"));
    let checked = || {
        let output = lineside(&["check", "-c", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0));
        [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat()
    };
    assert!(!checked().contains("prepared graph"), "{}", checked());
    let mut bytes = fs::read(&prepared).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&prepared, bytes).unwrap();
    let told = "its prepared graph is not used, so that it is ready later: it is damaged";
    assert!(checked().contains(told), "{}", checked());
    assert!(inspected().contains("prepared    no: it is damaged"), "{}", inspected());

    let mut daemon = site.start(&config);
    assert!(daemon.log().contains(told), "{}", daemon.log());
    site.client.publish("s/frame", AtLeastOnce, "[1,2,3]");
    let answer = site.client.wait_for(&result("scale"), SOON, |_| true);
    assert!((value(&answer.json(), "y") - weighed(1.0, 2.0, 3.0)).abs() < 1e-3, "{:?}", answer.json());
    assert_eq!(daemon.stop(SOON), Some(0));
}
