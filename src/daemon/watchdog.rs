//! Whoever restarts us when we hang: systemd's watchdog, the board's, or both.
//!
//! Promise: they are fed only while [`Vitals`](super::vitals::Vitals) finds every part well, so a worker that hangs in a kernel
//! or a connection that no longer turns ends in a restart, although the process lives. An ordered stop
//! disarms the board's; a crash does not, and the board restarts.
//! No libsystemd: a notification is one datagram.

use std::fs::File;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The line to systemd, when it started us as `Type=notify`.
#[derive(Clone, Debug)]
pub struct Notifier {
    socket: Arc<UnixDatagram>,
    address: SocketAddr,
    /// How often systemd wants to hear from us; `None`: it does not ask.
    pub watchdog: Option<Duration>,
}

impl Notifier {
    /// From the environment that systemd gives (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`), through
    /// `variable`; `None`: it did not start us, or does not listen.
    pub fn from(variable: impl Fn(&str) -> Option<String>, process: u32) -> io::Result<Option<Self>> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let is_for_us = variable("WATCHDOG_PID").is_none_or(|id| id.parse() == Ok(process));
        let period = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|us| *us > 0);
        let watchdog = period.filter(|_| is_for_us).map(Duration::from_micros);
        Ok(Some(Self { socket: Arc::new(UnixDatagram::unbound()?), address, watchdog }))
    }

    /// One notification: `READY=1`. That systemd does not listen is no reason to end.
    pub fn say(&self, words: &str) {
        if let Err(error) = self.socket.send_to_addr(words.as_bytes(), &self.address) {
            log::debug!("systemd does not hear {words:?}: {error}");
        }
    }
}

/// The board's watchdog, armed from opening on.
#[derive(Debug)]
pub struct HardwareWatchdog {
    device: File,
    /// How often it wants to be fed.
    pub period: Duration,
}

/// What most drivers do without being asked is 15 s and more; a third of that is early enough.
const UNKNOWN_PERIOD: Duration = Duration::from_secs(4);

impl HardwareWatchdog {
    /// Opens and arms it.
    pub fn open(device: &Path) -> io::Result<Self> {
        // Only one process can hold it.
        let file = File::options().write(true).open(device)?;
        Ok(Self { device: file, period: timeout(device).map_or(UNKNOWN_PERIOD, |timeout| timeout / 3) })
    }

    /// All is well.
    pub fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b"\n")
    }

    /// Disarms it: we end on purpose.
    pub fn close(mut self) -> io::Result<()> {
        // Linux watchdog API, "magic close".
        self.device.write_all(b"V")
    }
}

/// What the kernel says about the device's timeout.
fn timeout(device: &Path) -> Option<Duration> {
    let name = device.file_name()?.to_str()?;
    // `watchdog` is the first one under its old name.
    let name = if name == "watchdog" { "watchdog0" } else { name };
    let text = std::fs::read_to_string(format!("/sys/class/watchdog/{name}/timeout")).ok()?;
    text.trim().parse().ok().filter(|secs| *secs > 0).map(Duration::from_secs)
}

/// How often to look: well within what each of them waits for.
pub fn period(systemd: Option<Duration>, hardware: Option<Duration>) -> Duration {
    // sd_watchdog_enabled(3): notify at half of the time; a third leaves room for one late turn.
    let periods = systemd.map(|period| period / 3).into_iter().chain(hardware);
    periods.min().unwrap_or(UNKNOWN_PERIOD).clamp(Duration::from_millis(100), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_what_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let variables = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.to_str().unwrap().to_owned()),
            "WATCHDOG_USEC" => Some("90000000".into()),
            "WATCHDOG_PID" => Some("7".into()),
            _ => None,
        };
        let notifier = Notifier::from(variables, 7).unwrap().unwrap();
        assert_eq!(notifier.watchdog, Some(Duration::from_secs(90)));
        notifier.say("READY=1\nSTATUS=well");
        let mut heard = [0; 64];
        let length = systemd.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1\nSTATUS=well");
        assert_eq!(
            Notifier::from(variables, 8).unwrap().unwrap().watchdog,
            None,
            "meant for another process"
        );
        drop(systemd);
        notifier.say("nobody is there, and nothing happens");
    }

    #[test]
    fn without_systemd_there_is_no_line() {
        assert!(Notifier::from(|_| None, 7).unwrap().is_none());
        assert!(Notifier::from(|name| (name == "NOTIFY_SOCKET").then(String::new), 7).unwrap().is_none());
    }

    #[test]
    fn the_hardware_watchdog_is_fed_and_disarmed() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("watchdog9");
        std::fs::write(&device, "").unwrap();
        let mut dog = HardwareWatchdog::open(&device).unwrap();
        assert_eq!(dog.period, UNKNOWN_PERIOD);
        dog.feed().unwrap();
        dog.close().unwrap();
        assert_eq!(std::fs::read(&device).unwrap(), b"\nV");
    }

    #[test]
    fn the_more_impatient_one_sets_the_pace() {
        let secs = Duration::from_secs;
        assert_eq!(period(Some(secs(90)), Some(secs(5))), secs(5));
        assert_eq!(period(Some(secs(9)), Some(secs(5))), secs(3));
        assert_eq!(period(Some(secs(3_600)), None), secs(10));
    }
}
