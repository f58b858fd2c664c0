//! What black-box tests and benches share: real peers, tiny models, an outside opinion.
//!
//! Promise: nothing here names the library `lineside`. The binary is met as a user meets it: by its
//! files, its signals, its exit code and what it publishes. Whatever is started is ended on drop.

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod leaving;
pub(crate) mod models;
pub(crate) mod mosquitto;
pub(crate) mod onnx;
pub(crate) mod oracle;
pub(crate) mod peer;
pub(crate) mod pictures;
pub(crate) mod scripted;
pub(crate) mod site;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for something that should come at once; generous, because a build may run beside.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The models that the project ships.
pub(crate) fn shipped_models() -> PathBuf {
    root().join("models")
}

/// The folder of shared data sets, or `None` where there is none: then one line says that `check`
/// was left out. With `CI=true` its absence is a failure.
pub(crate) fn shared(check: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LINESIDE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    if folder.join("data").is_dir() {
        return Some(folder);
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{check}: no shared data at {}; set LINESIDE_SHARED", folder.display());
    // Straight to the terminal: cargo hides the output of tests that pass, and this must be seen.
    let line = format!("left out: {check} (no shared data at {})\n", folder.display());
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    None
}

/// A loopback port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Asks `probe` until it answers or `timeout` is over.
pub(crate) fn eventually<T>(timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
