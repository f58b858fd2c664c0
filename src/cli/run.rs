//! `lineside run`.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Exit, Failure};
use crate::config::{Config, ConfigError};
use crate::daemon::boots::{Boots, STEADY};
use crate::daemon::watchdog::Notifier;
use crate::daemon::{BootError, Daemon};
use crate::observe;
use crate::outbox::PlaceError;

/// The daemon: takes frames, decides on the spot, publishes predictions
///
/// Reads the configuration, verifies every model against its golden cases on this very device, and
/// only then takes the first frame. A broker that is absent is waited for. SIGTERM and Ctrl-C end it
/// in order: frames under way are finished within `shutdown_secs`, the rest stays with the broker.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration; default: lineside.toml here, else /etc/lineside/lineside.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = read_config(args.config)?;
    observe::log::init(config.runtime.log_format);
    log::info!(
        "lineside {} on {}: {} pipeline(s), {} worker(s)",
        env!("CARGO_PKG_VERSION"),
        config.device.id,
        config.pipelines.len(),
        config.runtime.workers
    );
    // Before any thread starts, so that no signal finds nobody at home.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error: io::Error| Failure::new(Exit::Software, error))?;
    let notifier = Notifier::from(|name| std::env::var(name).ok(), std::process::id())
        .map_err(|error| Failure::new(Exit::Software, format!("NOTIFY_SOCKET cannot be used: {error}")))?;
    let boots = Boots::count(&config.outbox.path);
    if let Some(wait) = boots.wait() {
        match rest(&config, &boots, wait, &mut signals, notifier.as_ref()) {
            Ok(false) => {}
            Ok(true) => {
                boots.end();
                return Ok(());
            }
            Err(error) => {
                boots.end();
                return Err(Failure::new(exit_of(&error), error));
            }
        }
    }
    let boots = boots.watch(STEADY).map_err(|error| Failure::new(Exit::Software, error))?;
    let done = serve(config, &mut signals, notifier.as_ref());
    // However it ended, it was no sudden death.
    boots.end();
    done
}

/// Takes frames until it is asked to stop.
fn serve(config: Config, signals: &mut Signals, notifier: Option<&Notifier>) -> Result<(), Failure> {
    let failed = |error| Failure::new(exit_of(&error), error);
    let mut daemon = Daemon::start(config).map_err(failed)?;
    daemon.watch(notifier.cloned()).map_err(failed)?;
    for signal in signals.forever() {
        if asks_to_stop(signal, notifier) {
            break;
        }
    }
    let late = daemon.stop();
    if late.is_empty() {
        log::info!("stopped: every frame that was taken is settled");
    } else {
        log::error!(
            "stopped at the deadline while still at work: {}; unsettled frames of QoS 1 stay with the broker",
            late.join(", ")
        );
    }
    Ok(())
}

/// Loading models is allowed this long where systemd already watches.
const LOAD_WITHIN: Duration = Duration::from_secs(300);

/// Safe mode: reports, and takes no frames, for `wait`. Whether it was asked to stop.
fn rest(
    config: &Config,
    boots: &Boots,
    wait: Duration,
    signals: &mut Signals,
    notifier: Option<&Notifier>,
) -> Result<bool, BootError> {
    log::error!(
        "safe mode: the board has started {} times in a row and gone off within {} minutes, nobody having asked it to; \
         a supply too weak for its load, or a watchdog? No frames are taken for {} s",
        boots.short(),
        STEADY.as_secs() / 60,
        wait.as_secs()
    );
    let mut daemon = Daemon::start_safe(config.clone(), boots.short(), wait)?;
    daemon.watch(notifier.cloned())?;
    let ends = Instant::now() + wait;
    let mut is_asked = false;
    while !is_asked && Instant::now() < ends {
        thread::sleep(Duration::from_millis(200));
        is_asked = signals.pending().any(|signal| asks_to_stop(signal, notifier));
    }
    if let Some(notifier) = notifier.filter(|notifier| notifier.watchdog.is_some() && !is_asked) {
        notifier.say(&format!("WATCHDOG_USEC={}\nSTATUS=loading models", LOAD_WITHIN.as_micros()));
    }
    daemon.stop();
    log::info!("safe mode ends{}", if is_asked { "" } else { ": frames are taken again" });
    Ok(is_asked)
}

fn asks_to_stop(signal: i32, notifier: Option<&Notifier>) -> bool {
    if signal == SIGHUP {
        log::warn!("SIGHUP refused: the configuration is read at the start only; restart to apply a new one");
        return false;
    }
    log::info!("asked to stop (signal {signal}): finishing frames under way");
    if let Some(notifier) = notifier {
        notifier.say("STOPPING=1");
    }
    true
}

/// The config at `path` or at the default places, with the failure that its verb ends with.
pub(super) fn read_config(path: Option<PathBuf>) -> Result<Config, Failure> {
    let path = path.unwrap_or_else(super::check::default_config);
    Config::read(&path).map_err(|error| {
        let exit = match error {
            ConfigError::Read { .. } => Exit::IoErr,
            ConfigError::Wrong(_) => Exit::Config,
        };
        Failure::new(exit, error)
    })
}

fn exit_of(error: &BootError) -> Exit {
    match error {
        BootError::Setup(_) => Exit::Config,
        // Its holder may be about to end.
        BootError::Http { .. } | BootError::Watchdog { .. } | BootError::Outbox(PlaceError::InUse { .. }) => {
            Exit::Unavailable
        }
        BootError::Outbox(_) => Exit::Config,
        BootError::Thread(_) => Exit::Software,
    }
}
