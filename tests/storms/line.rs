//! A line under weather: broker, proxy, daemon and peers as separate processes or threads, one book.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::book::Book;
use super::peers::Peer;
use super::proxy::Proxy;
use super::support::daemon::Daemon;
use super::support::models::weigh;
use super::support::mosquitto::{Mosquitto, Setup};
use super::support::site::{pipeline, pipeline_with_ids, work_folder, write_config};
use super::support::{SOON, eventually};

/// The shortest that the config allows: silence is noticed within one and a half of these.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// For a storm's last answers.
const PATIENCE: Duration = Duration::from_secs(90);

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

/// Everything that one storm needs. Ends in the order of its fields.
pub(crate) struct Line {
    pub(crate) daemon: Daemon,
    pub(crate) sender: Peer,
    pub(crate) hearer: Peer,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) broker: Mosquitto,
    pub(crate) book: Arc<Book>,
    config: PathBuf,
    name: String,
    _folder: TempDir,
}

impl Line {
    /// Ready: the daemon has answered a first frame. `named` says which frames carry their id.
    pub(crate) fn start(name: &str, link: Link, named: fn(u64) -> bool) -> Self {
        let tls = link == Link::ProxiedTls;
        let broker = Mosquitto::start_with(Setup { persistent: true, tls, ..Setup::default() });
        let folder = work_folder(&[weigh()]);
        let book = Arc::new(Book::create(&books().join(format!("{name}.book"))));
        let handed = book.clone();
        let upstream = if tls { broker.tls_port } else { broker.port };
        let proxy =
            (link != Link::Direct).then(|| Proxy::start(upstream, tls, move |frame| handed.handed(frame)));
        let port = proxy.as_ref().map_or(broker.port, |proxy| proxy.port);
        let broker_lines = match link {
            Link::ProxiedTls => {
                format!("url = \"mqtts://localhost:{port}\"\nca_file = \"{}\"", broker.ca_file().display())
            }
            _ => format!("url = \"mqtt://127.0.0.1:{port}\""),
        };
        let config = write_config(
            folder.path(),
            &format!("{broker_lines}\nkeep_alive_secs = {}", KEEP_ALIVE.as_secs()),
            &folder.path().join("models"),
            &(pipeline_with_ids("named", "weigh", "s/named")
                + &pipeline("plain", "weigh", "s/plain", "json")),
        );
        let hearer = Peer::hearer(broker.port, book.clone());
        assert!(eventually(SOON, || hearer.is_ready().then_some(())).is_some(), "{}", broker.log());
        let sender = Peer::sender(broker.port, book.clone(), named);
        let daemon = spawn(&config);
        let line =
            Self { daemon, sender, hearer, proxy, broker, book, config, name: name.into(), _folder: folder };
        line.subscribed();
        line
    }

    /// Waits until both connections of a fresh daemon stand and its session is with the broker: from
    /// then on frames are kept for it.
    fn subscribed(&self) {
        self.daemon.wait_log(&["taking frames"], SOON);
    }

    /// SIGKILL, and a new process at once.
    pub(crate) fn kill(&mut self) {
        self.daemon.kill();
        self.book.killed();
        self.daemon = spawn(&self.config);
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
        eventually(PATIENCE, || (self.book.open() == 0).then_some(()));
        // A duplicate may come a moment later than the answer.
        std::thread::sleep(Duration::from_millis(300));
        let log = books().join(format!("{}.log", self.name));
        std::fs::write(&log, self.daemon.log()).expect("the storm's folder is writable");
        judge(&[self.book.close().as_os_str()])
    }
}

/// With every wait between attempts in the log: a reason that repeats is said at `debug` only.
fn spawn(config: &Path) -> Daemon {
    Daemon::spawn_with(config, &[("LINESIDE_LOG", "info,lineside::mqtt=debug")])
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
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}
