//! The built binary as a child process: its output, its signals, its exit code; killed on drop.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::eventually;

/// `lineside` with these arguments, run to its end.
pub(crate) fn lineside(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary under test starts")
}

/// A folder in memory for the daemons of a work folder.
pub(crate) fn runtime_directory(work: &Path) -> PathBuf {
    Path::new("/dev/shm").join(work.file_name().expect("a work folder has a name"))
}

/// Sends a signal by name: `TERM`, `HUP`, `STOP`, `CONT`.
pub(crate) fn signal(pid: u32, name: &str) {
    // The shell's own `kill`: procps is not on every machine.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// A running `lineside run`.
pub(crate) struct Daemon {
    child: Child,
    stderr: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts it on a configuration file; does not wait for anything.
    pub(crate) fn spawn(config: &Path) -> Self {
        Self::spawn_with(config, &[])
    }

    /// The same with these environment variables.
    pub(crate) fn spawn_with(config: &Path, environment: &[(&str, &str)]) -> Self {
        Self::command(Command::new(env!("CARGO_BIN_EXE_lineside")), config, environment)
    }

    /// The same by a program that becomes it: `setpriv`, with arguments.
    pub(crate) fn spawn_under(program: &[&str], config: &Path) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(env!("CARGO_BIN_EXE_lineside"));
        Self::command(command, config, &[])
    }

    fn command(mut command: Command, config: &Path, environment: &[(&str, &str)]) -> Self {
        let runtime = runtime_directory(config.parent().expect("a configuration lies in a folder"));
        let mut child = command
            .args(["run", "-c"])
            .arg(config)
            // Not there: the daemon takes the next best.
            .env("RUNTIME_DIRECTORY", runtime)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, sink) = (child.stderr.take().expect("stderr is piped"), Arc::clone(&stderr));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = sink.lock().expect("no reader panics while it holds the lock");
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self { child, stderr }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().expect("no writer panics while it holds the lock").clone()
    }

    /// Waits for a log line that holds all of `words`, in any case of letters.
    pub(crate) fn wait_log(&self, words: &[&str], timeout: Duration) -> String {
        eventually(timeout, || {
            self.log().lines().map(str::to_owned).find(|line| {
                let line = line.to_lowercase();
                words.iter().all(|word| line.contains(&word.to_lowercase()))
            })
        })
        .unwrap_or_else(|| panic!("no log line with {words:?} within {timeout:?}:\n{}", self.log()))
    }

    /// Still running?
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end; the exit code, or `None` after a signal.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<i32> {
        eventually(timeout, || self.child.try_wait().ok().flatten())
            .unwrap_or_else(|| panic!("still running after {timeout:?}; its log:\n{}", self.log()))
            .code()
    }

    /// SIGTERM, then its exit code.
    pub(crate) fn stop(&mut self, timeout: Duration) -> Option<i32> {
        self.signal("TERM");
        self.wait(timeout)
    }

    /// SIGKILL: what a power cut looks like from outside.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A figure of `/proc/PID/status` in kB, such as `VmRSS` or `VmHWM`.
    pub(crate) fn memory_kb(&self, key: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon runs");
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix(key)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok()
            })
            .unwrap_or_else(|| panic!("no {key} in:\n{status}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}
