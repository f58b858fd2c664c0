//! A line under weather: broker, proxy, daemon and peers as separate processes or threads, one book.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::book::Book;
use super::peers::Peer;
use super::proxy::Proxy;
use super::support::daemon::{Daemon, lineside, runtime_directory};
use super::support::models::weigh;
use super::support::mosquitto::{Mosquitto, Setup};
use super::support::site::{pipeline, pipeline_with_ids, work_folder, write_config};
use super::support::{SOON, eventually};

/// The shortest that the config allows: silence is noticed within one and a half of these.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// For a storm's last answers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How the daemon reaches its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Straight.
    Direct,
    /// Through the proxy.
    Proxied,
    /// TLS through the proxy.
    ProxiedTls,
}

/// What a storm wants its line to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The storm's.
    pub(crate) name: &'static str,
    /// `[broker] protocol`.
    pub(crate) protocol: &'static str,
    pub(crate) link: Link,
    /// Which frames carry their id.
    pub(crate) named: fn(u64) -> bool,
    /// Lines of `[outbox]`.
    pub(crate) outbox: &'static str,
}

/// Everything that one storm needs. Ends in the order of its fields.
pub(crate) struct Line {
    pub(crate) daemon: Daemon,
    pub(crate) sender: Peer,
    pub(crate) hearer: Peer,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) broker: Mosquitto,
    pub(crate) book: Arc<Book>,
    config: PathBuf,
    name: &'static str,
    /// The disk is full while this file is there.
    full: PathBuf,
    folder: TempDir,
}

impl Line {
    /// Ready: the daemon has answered a first frame.
    pub(crate) fn start(wanted: &Wanted) -> Self {
        let &Wanted { name, protocol, link, named, outbox } = wanted;
        let tls = link == Link::ProxiedTls;
        let broker = Mosquitto::start_with(Setup { persistent: true, tls, ..Setup::default() });
        let folder = work_folder(&[weigh()]);
        fs::create_dir_all(runtime_directory(folder.path())).expect("/dev/shm takes a folder");
        let book = Arc::new(Book::create(&books().join(format!("{name}.book"))));
        let handed = book.clone();
        let upstream = if tls { broker.tls_port } else { broker.port };
        let proxy =
            (link != Link::Direct).then(|| Proxy::start(upstream, tls, move |frame| handed.handed(frame)));
        let port = proxy.as_ref().map_or(broker.port, |proxy| proxy.port);
        let url = match link {
            Link::ProxiedTls => {
                format!("url = \"mqtts://localhost:{port}\"\nca_file = \"{}\"", broker.ca_file().display())
            }
            _ => format!("url = \"mqtt://127.0.0.1:{port}\""),
        };
        let keep_alive = KEEP_ALIVE.as_secs();
        let config = write_config(
            folder.path(),
            &format!("{url}\nprotocol = \"{protocol}\"\nkeep_alive_secs = {keep_alive}"),
            &folder.path().join("models"),
            &(pipeline_with_ids("named", "weigh", "s/named")
                + &pipeline("plain", "weigh", "s/plain", "json")),
        );
        let text = fs::read_to_string(&config).expect("it was written a moment ago");
        fs::write(&config, text.replace("[outbox]\n", &format!("[outbox]\n{outbox}\n")))
            .expect("the temporary folder is writable");
        let hearer = Peer::hearer(broker.port, book.clone());
        assert!(eventually(SOON, || hearer.is_ready().then_some(())).is_some(), "{}", broker.log());
        let sender = Peer::sender(broker.port, book.clone(), named);
        let full = folder.path().join("full");
        let daemon = spawn(&config, &plan_of_a_full_disk(&full));
        let line = Self { daemon, sender, hearer, proxy, broker, book, config, name, full, folder };
        line.subscribed();
        line
    }

    /// Waits until both connections of a fresh daemon stand and its session is with the broker: from
    /// then on frames are kept for it.
    fn subscribed(&self) {
        self.daemon.wait_log(&["taking frames"], SOON);
    }

    /// The same of a process that may die before.
    pub(crate) fn subscribed_or_dead(&mut self) {
        eventually(SOON, || {
            (!self.daemon.is_alive() || self.daemon.log().contains("taking frames")).then_some(())
        });
    }

    /// SIGKILL, and a new process at once.
    pub(crate) fn kill(&mut self) {
        self.daemon.kill();
        self.daemon = spawn(&self.config, &plan_of_a_full_disk(&self.full));
    }

    /// The same with a new process that follows this plan of fail points.
    pub(crate) fn kill_and_plan(&mut self, plan: &str) {
        self.daemon.kill();
        self.daemon = spawn(&self.config, plan);
    }

    /// From now on the disk is full, or has room again.
    pub(crate) fn disk_is_full(&self, is_full: bool) {
        let changed = if is_full { fs::write(&self.full, "") } else { fs::remove_file(&self.full) };
        changed.expect("the temporary folder is writable");
    }

    /// Whether predictions are on disk.
    pub(crate) fn has_written(&self) -> bool {
        let outbox = self.folder.path().join("outbox");
        fs::read_dir(outbox).is_ok_and(|files| {
            files.flatten().any(|file| file.path().extension().is_some_and(|extension| extension == "seg"))
        })
    }

    /// The most memory that the daemon may take, as `lineside check` computes it.
    pub(crate) fn ceiling_kb(&self) -> u64 {
        let checked = lineside(&["check", "-c", &self.config.display().to_string(), "--json"]);
        let checked: Value = serde_json::from_slice(&checked.stdout).expect("`check --json` says JSON");
        checked["memory_ceiling_bytes"].as_u64().expect("it says a ceiling") / 1024
    }

    /// The proxy, in storms that have one.
    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("this storm's link is proxied")
    }

    /// Waits until a frame that is sent from now on has been answered; how long that took.
    pub(crate) fn live_again(&self) -> Option<Duration> {
        let (begun, first) = (Instant::now(), self.book.sent());
        eventually(PATIENCE, || self.book.is_answered_since(first).then(|| begun.elapsed()))
    }

    /// Sends no more, waits for what is owed, and asks the judge.
    pub(crate) fn verdict(&self) -> Verdict {
        self.sender.rate(0);
        // Frames in the sender's window are still on their way.
        std::thread::sleep(Duration::from_millis(300));
        eventually(PATIENCE, || (self.book.open() <= self.book.dropped()).then_some(()));
        // A duplicate may come a moment later than the answer.
        std::thread::sleep(Duration::from_millis(300));
        let log = books().join(format!("{}.log", self.name));
        fs::write(&log, self.daemon.log()).expect("the storm's folder is writable");
        judge(&[self.book.close().as_os_str()])
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.daemon.kill();
        // What the daemons remembered in memory goes with the line.
        let _ = fs::remove_dir_all(runtime_directory(self.folder.path()));
    }
}

/// Fail points of a disk that has no room while `flag` is there.
fn plan_of_a_full_disk(flag: &Path) -> String {
    let full = |point| format!("{point}=errno:28:{}", flag.display());
    ["segment_create", "records_write", "records_sync"].map(full).join(";")
}

/// With every wait between attempts in the log (a reason that repeats is said at `debug` only), and an allocator
/// that gives back what is free: glibc's keeps an arena for each thread, which would hide what the daemon
/// itself keeps.
fn spawn(config: &Path, plan: &str) -> Daemon {
    let environment = [
        ("LINESIDE_LOG", "info,lineside::mqtt=debug"),
        ("LINESIDE_FAIL_POINT", plan),
        ("MALLOC_ARENA_MAX", "1"),
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ];
    Daemon::spawn_with(config, &environment)
}

/// What the judge says of a book.
pub(crate) struct Verdict {
    /// Nothing is wrong.
    pub(crate) green: bool,
    /// Its figures.
    pub(crate) figures: Value,
}

/// Runs the judge, a program of its own.
pub(crate) fn judge(arguments: &[&std::ffi::OsStr]) -> Verdict {
    let python = std::env::var("LINESIDE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = super::support::root().join("tests/storms/judge.py");
    let output = Command::new(&python).arg(&script).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{python} does not start: {error}; install python3"));
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("the judge says {text:?} {}", String::from_utf8_lossy(&output.stderr)));
    Verdict { green: output.status.success(), figures }
}

/// Where books and logs of storms stay, for whoever looks into a red one.
pub(crate) fn books() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("storms");
    fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}
