//! Other programs at the ends of wires: scripts in `tests/peers/`, socat, qemu. Ended on drop.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{SOON, eventually, root};

/// A running program, and what it says line by line.
pub(crate) struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Peer {
    /// Starts a program; `remedy` says how to get it when it is not there.
    pub(crate) fn start(mut command: Command, remedy: &str) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child =
            started.unwrap_or_else(|error| panic!("{command:?} does not start ({error}); {remedy}"));
        let (said, lines) = channel();
        let out = child.stdout.take().expect("stdout is piped");
        let err = child.stderr.take().expect("stderr is piped");
        let hear = |pipe: Box<dyn std::io::Read + Send>| {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    // Nobody listens any more when the test is over.
                    let _ = said.send(line);
                }
            });
        };
        hear(Box::new(out));
        hear(Box::new(err));
        let stdin = child.stdin.take();
        Self { child, stdin, lines, heard: Vec::new() }
    }

    /// A script of `tests/peers/`, in the tests' own Python.
    pub(crate) fn script(name: &str, args: &[&str]) -> Self {
        let python = std::env::var_os("LINESIDE_TEST_PYTHON")
            .map_or_else(|| root().join("target/test-venv/bin/python"), PathBuf::from);
        let mut command = Command::new(&python);
        command.arg("-u").arg(root().join("tests/peers").join(name)).args(args);
        Self::start(command, "tests/run makes target/test-venv and sets LINESIDE_TEST_PYTHON")
    }

    /// Says a line to it.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it listens");
    }

    /// The next line that `accept` takes.
    pub(crate) fn wait_for(&mut self, what: &str, accept: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if accept(&line) => return line,
                Ok(line) => self.heard.push(line),
                Err(_) => panic!("it never said {what}; it said:\n{}", self.heard.join("\n")),
            }
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; the exit code, or `None` after a signal.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<i32> {
        let ended = eventually(timeout, || self.child.try_wait().ok().flatten());
        ended.unwrap_or_else(|| panic!("still running; it said:\n{}", self.heard.join("\n"))).code()
    }

    /// What it has said since it was last asked for something.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ends of one wire, made by socat of two ptys; they stay while it is kept.
pub(crate) struct Wire {
    _socat: Peer,
    /// One end.
    pub(crate) here: PathBuf,
    /// The other.
    pub(crate) there: PathBuf,
}

/// A wire with its ends in `folder`.
pub(crate) fn wire(folder: &Path, name: &str) -> Wire {
    let (here, there) = (folder.join(format!("{name}-a")), folder.join(format!("{name}-b")));
    let mut command = Command::new("socat");
    for end in [&here, &there] {
        command.arg(format!("pty,rawer,link={}", end.display()));
    }
    let socat = Peer::start(command, "apt-get install socat");
    let is_there = eventually(Duration::from_secs(5), || (here.exists() && there.exists()).then_some(()));
    assert!(is_there.is_some(), "socat made no ptys in {}", folder.display());
    Wire { _socat: socat, here, there }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Before socat ends: its ptys go to whoever asks next, and a name left behind would lead there.
        for end in [&self.here, &self.there] {
            let _ = std::fs::remove_file(end);
        }
    }
}
