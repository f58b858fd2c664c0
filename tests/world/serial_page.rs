//! docs/serial.md as written: its configuration, its commands and its samples are what a newcomer finds.
//! What it says of a microcontroller is held against the program by `firmware`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::daemon::lineside;
use crate::support::peer::{Peer, wire};
use crate::support::site::{Site, result};
use crate::support::{SOON, root, shipped_models};

/// The page's blocks in `language` behind a heading, up to the next one, without what indents them.
pub(crate) fn blocks(heading: &str, language: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/serial.md")).unwrap();
    let mut blocks = Vec::new();
    let mut fence: Option<(&str, String)> = None;
    let mut lines = page.lines().skip_while(|line| *line != heading);
    lines.next().unwrap_or_else(|| panic!("docs/serial.md has no {heading:?}"));
    for line in lines {
        match &mut fence {
            None if line.starts_with('#') => break,
            None => {
                let indent = &line[..line.len() - line.trim_start().len()];
                fence = line.trim_start().strip_prefix("```").map(|word| (indent, word.to_owned() + "\n"));
            }
            Some((indent, block)) if line.trim_start() == "```" && line.starts_with(*indent) => {
                let (word, text) = block.split_once('\n').unwrap();
                if word == language {
                    blocks.push(text.to_owned());
                }
                fence = None;
            }
            Some((indent, block)) => {
                *block += line.strip_prefix(*indent).unwrap_or_default();
                block.push('\n');
            }
        }
    }
    blocks
}

#[test]
fn what_the_page_tells_to_write_and_to_run_leads_to_predictions() {
    const HEADING: &str = "## 2. Say what comes";
    let [config] = &blocks(HEADING, "toml")[..] else { panic!("one whole file") };
    let [lines] = &blocks(HEADING, "text")[..] else { panic!("what the sensor prints") };
    let [commands] = &blocks(HEADING, "sh")[..] else { panic!("the commands") };
    let site = Site::new(&[]);
    let folder = site.folder.path();
    fs::remove_dir(site.models()).unwrap();
    symlink(shipped_models(), site.models()).unwrap();
    let wire = wire(folder, "adapter");
    let mut text = config.clone();
    for (theirs, ours) in [
        ("localhost:1883", format!("127.0.0.1:{}", site.broker.port)),
        ("/dev/serial/by-id/usb-FTDI_*", wire.here.to_str().unwrap().to_owned()),
    ] {
        assert_eq!(text.matches(theirs).count(), 1, "{theirs}");
        text = text.replace(theirs, &ours);
    }
    let file = folder.join("line.toml");
    fs::write(&file, text).unwrap();
    let mut sensor = Peer::script("serial_sensor.py", &[wire.there.to_str().unwrap(), "{}"]);
    sensor.wait_for("ready", |line| line == "ready");
    let say: String = lines.bytes().map(|byte| format!("{byte:02x}")).collect();

    let (mut subscriber, mut daemon) = (None, None);
    for line in commands.lines() {
        let command = line.split('#').next().unwrap().trim_end_matches([' ', '&']);
        let command = if line.contains("'lineside/#'") { "mosquitto_sub -v -t lineside/#" } else { command };
        let command = command.replace("line.toml", file.to_str().unwrap());
        let mut args: Vec<&str> = command.split_whitespace().collect();
        match (args.remove(0), args[0]) {
            ("lineside", "check") => {
                let said = lineside(&args);
                assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            }
            ("lineside", "listen") => {
                sensor.say(&format!("raw {say}"));
                let said = lineside(&[&args[..], &["--frames", "2"]].concat());
                let heard = String::from_utf8(said.stdout).unwrap();
                for line in lines.lines() {
                    assert!(heard.lines().any(|heard| heard.ends_with(line)), "{line}:\n{heard}");
                }
            }
            ("lineside", "run") => daemon = Some(site.start(&file)),
            ("mosquitto_sub", _) => {
                let mut command = Command::new("mosquitto_sub");
                command.args(&args).args(["-p", &site.broker.port.to_string()]);
                subscriber = Some(Peer::start(command, "apt-get install mosquitto-clients"));
            }
            _ => panic!("{line:?} is none of what this test can do"),
        }
    }
    let (daemon, mut subscriber) = (daemon.unwrap(), subscriber.unwrap());
    daemon.wait_log(&["open", "115200 8N1"], SOON);
    subscriber.wait_for("availability", |line| line.ends_with("online"));
    sensor.say(&format!("raw {say}"));
    let topic = result("mill");
    let said = [(); 2].map(|()| subscriber.wait_for("a prediction", |line| line.starts_with(&topic)));
    // Two workers answer, each as soon as it can.
    for verdict in ["\"verdict\":\"fail\"", "\"verdict\":\"pass\""] {
        assert_eq!(said.iter().filter(|said| said.contains(verdict)).count(), 1, "{said:?}");
    }
}

#[test]
fn the_sample_of_listen_is_what_listen_says() {
    let [sample, ..] = &blocks("## Listen", "text")[..] else { panic!("a sample") };
    let lines: Vec<&str> = sample.lines().collect();
    let [command, _, frames @ .., summary] = &lines[..] else { panic!("{sample}") };
    // What the ellipses stand for: the end of FORMAT.md's packet, with this checksum. A recording has the
    // time of the read, a line that of the first byte, 22 characters before it.
    let mut tape = String::from("lineside-recording 1\n");
    for line in frames {
        let (shown, _) = line.split_once('…').unwrap();
        let (seconds, bytes) = shown.trim().split_once(' ').unwrap();
        let seconds: f64 = seconds.parse().unwrap();
        tape += &format!("{:.6} {}ff2c0170feb12e00\n", seconds + 0.001_909, bytes.replace(' ', ""));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("line.rec");
    fs::write(&file, tape).unwrap();
    let args = command.strip_prefix("$ lineside ").unwrap().replace("/dev/ttyUSB0", file.to_str().unwrap());
    let said = lineside(&args.split(' ').collect::<Vec<_>>());
    let heard = String::from_utf8(said.stdout).unwrap();
    assert_eq!(heard.lines().collect::<Vec<_>>(), frames);
    assert_eq!(String::from_utf8(said.stderr).unwrap().trim_end(), *summary);
}
