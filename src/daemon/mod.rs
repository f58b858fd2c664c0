//! The whole wiring on one page: config and models in, threads started, a stop in order.
//!
//! Threads: `intake` and `publish` (one broker connection each), `ports` (those whose bytes may wait a
//! moment) and `port-N` (each of the others: Modbus measures silences), `worker-N`, `stats`, `http`,
//! `watchdog`. What joins them: lanes (frames), outbox (predictions), ledger (acknowledgements). Every
//! frame walks [`way`]; nothing else knows all stages.
//!
//! Promise: at a stop, sources end first, then workers drain, then the outbox, then acknowledgements;
//! whoever misses the deadline is named. What was not settled stays with the broker.

mod at_rest;
pub mod boot;
pub mod boots;
pub mod ceiling;
pub mod port;
pub mod vitals;
pub mod watchdog;
pub mod way;
#[cfg(test)]
mod weather;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::base::counters::{LinkCounters, ModbusCounters, PortCounters};
use crate::base::words::panic_words;
use crate::base::{Clock, Micros, Reason, SystemClock};
use crate::config::{Config, SourceKind};
use crate::flow::{LaneLimits, Lanes, Threads, Writes};
use crate::mqtt::{Filter, Handle, Ledger, Settings, driver};
use crate::observe::board::BoardView;
use crate::observe::memory::Memory;
use crate::observe::{
    self, DiskView, LinkView, ModelView, OutboxView, Phase, PipelineView, PortView, QueueView, SafeModeView,
    Snapshot,
};
use crate::outbox::{Opened, Outbox};
use crate::stage::acquire::identity::{self, Identities};
use crate::stage::acquire::memory::{Memory as RecentFrames, Remembered};
use crate::stage::acquire::mqtt::{MqttSource, OnTaking, Route};
use crate::stage::acquire::serial::{self, PortHandle, SerialSource};
use crate::stage::acquire::{Arrival, Intake};
use crate::stage::publish::write_back::VerdictWriter;
use crate::stage::publish::{Availability, Notices, Outlet, Publisher};

pub use boot::BootError;
use vitals::{Pulse, Sign, Vitals};
use watchdog::{HardwareWatchdog, Notifier};
use way::{Pipeline, Way};

/// A frame on the slowest board is done with in less; what takes longer does not come back.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// The last part of a stop's time in which answers that no broker has acknowledged are written to disk.
const DISK_GETS: u32 = 4;
/// What overload drops is logged so often at most; `stats` counts it all.
const SAY_OVERLOAD_EVERY: Duration = Duration::from_secs(60);

/// A running daemon.
pub struct Daemon {
    config: Config,
    shared: Arc<Shared>,
    intake_handle: Handle,
    publish_handle: Handle,
    workers: Threads,
    port_handles: Vec<PortHandle>,
    ports: Threads,
    intake_thread: Threads,
    publish_thread: Threads,
    keeper_thread: Threads,
    notices: Arc<Notices>,
    stats_thread: Threads,
    stop_stats: Sender<()>,
    watch_thread: Threads,
    stop_watch: Option<Sender<()>>,
    /// The memory of recent frames.
    recent: Option<PathBuf>,
    http: Option<observe::http::Server>,
}

/// What a snapshot looks at.
struct Shared {
    device: String,
    started: Micros,
    pipelines: Vec<Arc<Pipeline>>,
    intake: Arc<Intake>,
    lanes: Arc<Lanes<Arrival>>,
    outbox: Arc<Outbox>,
    outbox_path: PathBuf,
    /// Looked at once a `stats_secs`, published with each prediction.
    clock_synced: Arc<AtomicBool>,
    intake_link: Arc<LinkCounters>,
    publish_link: Arc<LinkCounters>,
    /// One a worker.
    pulses: Vec<Pulse>,
    /// In the order of the config.
    ports: Vec<(String, Arc<PortCounters>, Option<Arc<ModbusCounters>>)>,
    safe_mode: Option<SafeMode>,
}

/// No load for a while ([`boots`]): connected and reporting, without models, frames, or what waits on disk.
#[derive(Clone, Copy, Debug)]
struct SafeMode {
    short_boots: u32,
    ends: Micros,
}

impl Daemon {
    /// Loads and verifies every model, then starts every thread. Returns before the broker has
    /// answered: a broker that is absent is waited for.
    pub fn start(config: Config) -> Result<Self, BootError> {
        Self::begin(config, None)
    }

    /// A daemon that reports and does nothing else, for `wait`: the board has had so many short boots in a row.
    pub fn start_safe(mut config: Config, short_boots: u32, wait: Duration) -> Result<Self, BootError> {
        config.pipelines.clear();
        Self::begin(config, Some(SafeMode { short_boots, ends: SystemClock.now() + wait }))
    }

    fn begin(config: Config, safe_mode: Option<SafeMode>) -> Result<Self, BootError> {
        if let Some(kernels) = config.device.board.kernels {
            crate::engine::kernels::prefer(kernels);
        }
        let pipelines = boot::pipelines(&config)?;
        let counters: Vec<_> = pipelines.iter().map(|pipeline| pipeline.counters.clone()).collect();

        let intake_handle = Handle::default();
        let publish_handle = Handle::default();
        let limits = pipelines.iter().map(|pipeline| LaneLimits {
            items: pipeline.config.source.queue_frames.get(),
            bytes: pipeline.config.source.queue_bytes.get(),
            when_full: pipeline.config.source.when_full,
            ordered: pipeline.is_stateful(),
        });
        let ports = port::ports(pipelines.iter().map(|pipeline| &pipeline.config));
        let mut bells = Vec::new();
        let mut port_handles = Vec::new();
        for _ in &ports {
            let (handle, bell) = serial::pair().map_err(BootError::Thread)?;
            bells.push(bell);
            port_handles.push(handle);
        }
        let lanes = Arc::new(Lanes::new(limits, {
            let (intake, ports) = (intake_handle.clone(), port_handles.clone());
            move || {
                intake.wake();
                ports.iter().for_each(PortHandle::wake);
            }
        }));
        let counted = pipelines.iter().map(|p| (p.config.name.as_str().into(), p.counters.clone())).collect();
        let Opened { outbox, keeper, frames } = if safe_mode.is_some() {
            // What waits on disk also tells which frames are answered: it goes out beside them, later.
            let outbox = Outbox::new(&config.outbox, counted, config.broker.max_inflight, SystemClock.now());
            Opened { outbox: Arc::new(outbox), keeper: None, frames: Vec::new() }
        } else {
            Outbox::open(
                &config.outbox,
                counted,
                config.broker.max_inflight,
                SystemClock.now(),
                identity::random(),
                wake(&publish_handle),
            )?
        };
        let mut keeper_thread = Threads::default();
        if let Some(keeper) = keeper {
            keeper_thread.spawn("outbox", move || keeper.run(&SystemClock)).map_err(BootError::Thread)?;
        }
        let intake = Arc::new(Intake::new(lanes.clone(), counters.clone()));
        let notices = Arc::new(Notices::default());
        let publisher = Publisher { outbox: outbox.clone(), counters, wake: Arc::new(wake(&publish_handle)) };
        let shared = Arc::new(Shared {
            device: config.device.id.clone(),
            started: SystemClock.now(),
            pipelines: pipelines.clone(),
            intake,
            lanes: lanes.clone(),
            outbox,
            outbox_path: config.outbox.path.clone(),
            clock_synced: Arc::new(AtomicBool::new(observe::date::clock_synced())),
            intake_link: Arc::default(),
            publish_link: Arc::default(),
            pulses: (0..config.runtime.workers.get()).map(|_| Pulse::default()).collect(),
            ports: ports
                .iter()
                .map(|port| (port.settings.port.clone(), port.counters.clone(), port.modbus.clone()))
                .collect(),
            safe_mode,
        });

        let http = match config.http {
            None => None,
            Some(address) => {
                let source = shared.clone();
                let server = observe::http::serve(address, Arc::new(move || source.snapshot()));
                Some(server.map_err(|source| BootError::Http { address, source })?)
            }
        };
        let writes: Vec<Option<Arc<Writes>>> = ports
            .iter()
            .zip(&port_handles)
            .map(|(port, handle)| port.writes(&publisher.counters, handle))
            .collect();
        let writer = |pipeline: &Arc<Pipeline>| {
            let write_back = pipeline.config.write_back.clone()?;
            let port = ports.iter().position(|port| port.settings.port == write_back.port)?;
            Some(VerdictWriter::new(write_back, pipeline.index, &pipeline.config.name, writes[port].clone()?))
        };
        let writers: Vec<Option<VerdictWriter>> = pipelines.iter().map(writer).collect();
        let mut workers = Threads::default();
        for index in 0..config.runtime.workers.get() {
            let way = |pipeline: &Arc<Pipeline>| {
                let writer = writers[pipeline.index].clone();
                Way::new(pipeline.clone(), publisher.clone(), writer, shared.clock_synced.clone())
            };
            let mut ways: Vec<Way> = pipelines.iter().map(way).collect();
            let (lanes, signs) = (lanes.clone(), shared.clone());
            workers
                .spawn(format!("worker-{index}"), move || {
                    while let Some((lane, arrival)) = lanes.take() {
                        signs.pulses[index].begin();
                        let answer = || ways[lane].answer(arrival, &SystemClock);
                        // The way catches what a frame can cause; this is for mistakes of ours. The
                        // frame is settled by the panic, and counted: one that came again for ever
                        // would hold up all that are behind it.
                        if let Err(panic) = catch_unwind(AssertUnwindSafe(answer)) {
                            signs.pipelines[lane].counters.lost(Reason::InferPanicked).bump();
                            log::error!(
                                "a panic after the answer, please report it: {}",
                                panic_words(&*panic)
                            );
                        }
                        lanes.done(lane);
                        signs.pulses[index].end();
                    }
                })
                .map_err(BootError::Thread)?;
        }

        let outlet = Outlet::new(
            &config.device.id,
            &config.broker.client_id,
            config.broker.max_inflight,
            publisher,
            notices.clone(),
            shared.publish_link.clone(),
            Box::new({
                let pipelines = pipelines.clone();
                move |pipeline, waited| pipelines[pipeline].latencies.acknowledged(waited)
            }),
        );
        // The publishing connection receives nothing but acknowledgements.
        let publish_thread =
            connection("publish", &config, 0, &shared.publish_link, outlet, &publish_handle)?;
        let on_taking = {
            let (notices, publish) = (notices.clone(), publish_handle.clone());
            move |taking| {
                notices.set_availability(if taking { Availability::Online } else { Availability::Offline });
                publish.wake();
            }
        };
        let mut recent_path = None;
        let intake_thread = if shared.takes_from_broker() {
            let recent = RecentFrames::of(&config.broker.client_id, &config.outbox.path);
            if recent.is_none() {
                log::warn!(
                    "no folder in memory takes a file of ours (/dev/shm, /run): a frame without an id of its own that \
                     comes again after a restart gets a new id"
                );
            }
            recent_path = recent.as_ref().map(|recent| recent.path().to_owned());
            let answered = frames.into_iter().map(|(key, delivery)| Remembered { key, delivery });
            let identities = Identities::new(recent, answered);
            let source = mqtt_source(&config, &shared, &intake_handle, Box::new(on_taking), identities);
            let max_payload = pipelines.iter().map(|p| p.config.source.max_payload_bytes.get()).max();
            let max_payload = max_payload.unwrap_or_default();
            connection("intake", &config, max_payload, &shared.intake_link, source, &intake_handle)?
        } else {
            // Ports alone: frames are taken from the start, whether or not the broker is there.
            on_taking(safe_mode.is_none());
            Threads::default()
        };

        let sources: Vec<_> = ports
            .into_iter()
            .zip(writes)
            .zip(bells)
            .zip(&port_handles)
            .map(|(((port, writes), bell), handle)| {
                let talk = port.talk(writes);
                let (intake, handle) = (shared.intake.clone(), handle.clone());
                SerialSource::new(port.settings, talk, intake, port.counters, handle, bell)
            })
            .collect();
        let mut port_threads = Threads::default();
        let (patient, punctual): (Vec<_>, Vec<_>) = sources.into_iter().partition(SerialSource::is_patient);
        let mut serve = |thread: String, sources| {
            let intake = shared.intake.clone();
            port_threads.spawn(thread, move || serial::serve(sources, &intake)).map_err(BootError::Thread)
        };
        for (index, source) in punctual.into_iter().enumerate() {
            serve(format!("port-{index}"), vec![source])?;
        }
        if !patient.is_empty() {
            serve("ports".into(), patient)?;
        }

        let (stop_stats, stopped) = channel();
        let mut stats_thread = Threads::default();
        let (source, period) = (shared.clone(), config.runtime.stats_period);
        let (news, publish) = (notices.clone(), publish_handle.clone());
        stats_thread
            .spawn("stats", move || {
                while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                    source.next_period();
                    news.set_stats(observe::stats::stats_json(&source.snapshot()));
                    publish.wake();
                }
            })
            .map_err(BootError::Thread)?;

        let given = at_rest::give_back_code();
        log::debug!("gave back {given} bytes of code");
        Ok(Self {
            config,
            shared,
            intake_handle,
            publish_handle,
            workers,
            port_handles,
            ports: port_threads,
            intake_thread,
            publish_thread,
            keeper_thread,
            notices,
            stats_thread,
            stop_stats,
            watch_thread: Threads::default(),
            stop_watch: None,
            recent: recent_path,
            http,
        })
    }

    /// Tells systemd that we are up, and from now on feeds its watchdog and the board's while every part
    /// gets its work done.
    pub fn watch(&mut self, notifier: Option<Notifier>) -> Result<(), BootError> {
        let hardware = match &self.config.device.hardware_watchdog {
            None => None,
            Some(device) => Some(
                HardwareWatchdog::open(device)
                    .map_err(|source| BootError::Watchdog { device: device.clone(), source })?,
            ),
        };
        if let Some(notifier) = &notifier {
            let status = if self.shared.safe_mode.is_some() { "safe mode" } else { "taking frames" };
            // How often it wants to hear from us: loading models after a safe mode was allowed more.
            let watchdog = notifier
                .watchdog
                .map_or(String::new(), |every| format!("\nWATCHDOG_USEC={}", every.as_micros()));
            notifier.say(&format!("READY=1\nSTATUS={status}{watchdog}"));
        }
        let asked = notifier.as_ref().and_then(|notifier| notifier.watchdog);
        if asked.is_none() && hardware.is_none() {
            return Ok(());
        }
        let period = watchdog::period(asked, hardware.as_ref().map(|dog| dog.period));
        let (stop, stopped) = channel();
        self.stop_watch = Some(stop);
        let shared = self.shared.clone();
        let wakes = [self.intake_handle.clone(), self.publish_handle.clone()];
        let patience = STUCK_AFTER.max(2 * self.config.broker.connect_timeout);
        let watch = move || watch(&shared, &wakes, patience, period, &stopped, notifier, hardware);
        self.watch_thread.spawn("watchdog", watch).map_err(BootError::Thread)
    }

    /// The daemon as `stats` shows it.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Where HTTP listens, when it does.
    pub fn http_address(&self) -> Option<std::net::SocketAddr> {
        self.http.as_ref().map(observe::http::Server::address)
    }

    /// Ends in the order of the way, within `shutdown_secs`. The names of threads that were late;
    /// empty: every frame that was taken has been settled.
    pub fn stop(mut self) -> Vec<String> {
        let patience = self.config.runtime.shutdown_deadline;
        let deadline = Instant::now() + patience;
        self.shared.intake.stop();
        self.intake_handle.wake();
        self.port_handles.iter().for_each(PortHandle::stop);
        self.shared.lanes.close();
        // Dropping the sender ends the thread at once.
        drop(self.stop_stats);
        let mut late = self.ports.join(deadline);
        late.extend(self.workers.join(deadline));
        // Past the deadline nobody makes room any more.
        self.shared.outbox.close();
        for (pipeline, arrival) in self.shared.lanes.drain() {
            self.shared.pipelines[pipeline].counters.lost(Reason::Stopped).bump();
            // Its broker delivers it again at the next start.
            arrival.ticket.leave();
        }
        // The last word of what was lost: nothing more is taken, and nobody asks for a minute's silence.
        for pipeline in &self.shared.pipelines {
            pipeline.say_overload(SystemClock.now(), Duration::ZERO);
        }
        self.notices.set_stats(observe::stats::stats_json(&self.shared.snapshot()));
        self.publish_handle.finish();
        // A broker that acknowledges nothing is not waited for until it is too late for the disk.
        let for_the_disk = if self.shared.outbox.has_disk() { patience / DISK_GETS } else { Duration::ZERO };
        self.publish_thread.wait((deadline - for_the_disk).max(soon()));
        self.publish_handle.end();
        late.extend(self.publish_thread.join(soon()));
        let unsafe_answers = self.shared.outbox.finish(SystemClock.now(), deadline.max(soon()));
        if unsafe_answers > 0 {
            log::warn!(
                "{unsafe_answers} answer(s) could be neither published nor written to disk; frames of QoS 1 stay with the \
                 broker, those of QoS 0 and of ports are lost"
            );
        }
        late.extend(self.keeper_thread.join(deadline.max(soon())));
        // Acknowledgements go out with the goodbye of a connection that stands.
        self.intake_handle.finish();
        late.extend(self.intake_thread.join(deadline.max(soon())));
        self.intake_handle.end();
        let counters = self.shared.pipelines.iter().map(|pipeline| &pipeline.counters);
        let is_told = self.intake_handle.was_heard_out();
        let not_begun: u64 = counters.map(|counters| counters.lost(Reason::Stopped).get()).sum();
        if not_begun > 0 {
            log::warn!("{not_begun} waiting frame(s) were not begun; those of QoS 1 stay with the broker");
        }
        if let Some(recent) =
            self.recent.filter(|_| is_told && late.is_empty() && unsafe_answers + not_begun == 0)
        {
            // No frame comes again. What is left of the file otherwise serves the next start.
            let _ = std::fs::remove_file(recent);
        }
        late.extend(self.stats_thread.join(soon()));
        drop(self.http);
        // Last, so that the board's watchdog is disarmed only when all the rest has ended.
        drop(self.stop_watch);
        late.extend(self.watch_thread.join(soon()));
        late
    }
}

/// The thread that feeds the watchdogs, until it is told to stop.
fn watch(
    shared: &Shared,
    links: &[Handle],
    patience: Duration,
    period: Duration,
    stopped: &Receiver<()>,
    notifier: Option<Notifier>,
    mut hardware: Option<HardwareWatchdog>,
) {
    let mut vitals = Vitals::new(patience);
    loop {
        let stuck = vitals.look(SystemClock.now(), shared.signs());
        if stuck.is_empty() {
            if let Some(notifier) = &notifier {
                notifier.say("WATCHDOG=1");
            }
            if let Some(Err(error)) = hardware.as_mut().map(HardwareWatchdog::feed) {
                log::error!("the board's watchdog cannot be fed: {error}");
            }
        }
        for vitals::Stuck { part, silent } in &stuck {
            log::error!(
                "{part} has got nothing done for {} s; no watchdog is fed until it does",
                silent.as_secs()
            );
        }
        // A connection with nothing to do sleeps: woken, one that is alive makes a turn before we look again.
        links.iter().for_each(Handle::wake);
        if stopped.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    if let Some(Err(error)) = hardware.map(HardwareWatchdog::close) {
        log::error!("the board's watchdog cannot be disarmed, the board will restart: {error}");
    }
}

/// A last moment for a thread that has nothing left to wait for.
fn soon() -> Instant {
    Instant::now() + Duration::from_millis(500)
}

fn wake(handle: &Handle) -> impl Fn() + Send + Sync + 'static {
    let handle = handle.clone();
    move || handle.wake()
}

fn mqtt_source(
    config: &Config,
    shared: &Shared,
    handle: &Handle,
    on_taking: OnTaking,
    identities: Identities,
) -> MqttSource {
    let route = |(index, pipeline): (usize, &Arc<Pipeline>)| {
        let SourceKind::Mqtt { topic, qos, id_property } = &pipeline.config.source.kind else {
            return None;
        };
        Some(Route {
            pipeline: index,
            name: pipeline.config.name.clone(),
            filter: Filter::parse(topic),
            qos: *qos,
            id_property: id_property.clone(),
            max_payload_bytes: pipeline.config.source.max_payload_bytes.get(),
            is_stateful: pipeline.is_stateful(),
        })
    };
    MqttSource::new(
        config.broker.client_id.clone(),
        shared.pipelines.iter().enumerate().filter_map(route).collect(),
        shared.intake.clone(),
        Arc::new(Ledger::new(wake(handle))),
        shared.intake_link.clone(),
        on_taking,
        identities,
    )
}

fn connection(
    name: &'static str,
    config: &Config,
    max_payload: usize,
    counters: &Arc<LinkCounters>,
    role: impl crate::mqtt::Role + 'static,
    handle: &Handle,
) -> Result<Threads, BootError> {
    let settings = Settings { name, broker: config.broker.clone(), max_payload, counters: counters.clone() };
    let handle = handle.clone();
    let mut thread = Threads::default();
    let run = move || {
        if let Err(error) = driver::run(&settings, role, &handle, &SystemClock) {
            log::error!("{name} connection: cannot set up its event loop: {error}");
        }
    };
    thread.spawn(name, run).map_err(BootError::Thread)?;
    Ok(thread)
}

impl Shared {
    /// What each part shows of itself.
    fn signs(&self) -> Vec<Sign> {
        // Workers before a full outbox wait for the broker, which a restart does not bring back; in an
        // ordered stop the deadline decides.
        let may_wait = self.outbox.makes_wait() || self.intake.is_stopping();
        let workers =
            self.pulses.iter().enumerate().map(|(index, pulse)| pulse.sign(format!("worker-{index}")));
        let mut signs: Vec<Sign> = workers.collect();
        signs.push(Sign {
            part: "lanes".into(),
            turns: signs.iter().fold(0, |sum, sign| sum.wrapping_add(sign.turns)),
            has_work: self.pipelines.iter().any(|pipeline| self.lanes.depth(pipeline.index).0 > 0),
        });
        signs.iter_mut().for_each(|sign| sign.has_work &= !may_wait);
        let intake = self.takes_from_broker().then_some(("intake", &self.intake_link));
        for (name, link) in intake.into_iter().chain([("publish", &self.publish_link)]) {
            let has_work = !self.intake.is_stopping();
            signs.push(Sign { part: name.into(), turns: link.turns.get(), has_work });
        }
        signs
    }

    /// Whether any pipeline's frames come by MQTT.
    fn takes_from_broker(&self) -> bool {
        self.pipelines.iter().any(|p| matches!(p.config.source.kind, SourceKind::Mqtt { .. }))
    }

    fn snapshot(&self) -> Snapshot {
        let outbox = self.outbox.depth();
        let disk = &self.outbox.disk;
        let pipeline = |pipeline: &Arc<Pipeline>| {
            let (frames, bytes) = self.lanes.depth(pipeline.index);
            let card = &pipeline.card;
            PipelineView::of(
                &pipeline.config.name,
                ModelView { name: card.name.clone(), version: card.version.clone() },
                &pipeline.counters,
                QueueView { depth_frames: frames as u64, bytes: bytes as u64 },
                pipeline.latencies.view(),
            )
        };
        Snapshot {
            device: self.device.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            at: SystemClock.wall(),
            clock_synced: self.clock_synced.load(Ordering::Relaxed),
            uptime: SystemClock.now().since(self.started),
            safe_mode: self.safe_mode.map(|mode| SafeModeView {
                short_boots: mode.short_boots,
                resumes_in: mode.ends.since(SystemClock.now()),
            }),
            phase: if self.intake.is_stopping() { Phase::Stopping } else { Phase::Running },
            links: self
                .takes_from_broker()
                .then(|| LinkView::of("intake", &self.intake_link))
                .into_iter()
                .chain([LinkView::of("publish", &self.publish_link)])
                .collect(),
            ports: self
                .ports
                .iter()
                .map(|(port, counters, modbus)| PortView::of(port, counters, modbus.as_deref()))
                .collect(),
            outbox: OutboxView {
                depth_predictions: outbox.live as u64 + outbox.stored,
                bytes: outbox.live_bytes + outbox.stored_bytes,
                max_bytes: self.outbox.max_bytes(),
                disk: DiskView {
                    state: outbox.disk.as_str(),
                    depth_predictions: outbox.stored,
                    bytes: outbox.stored_bytes,
                    written_predictions: disk.written.get(),
                    written_bytes: disk.written_bytes.get(),
                    syncs: disk.syncs.get(),
                    errors: disk.errors.get(),
                    damaged_bytes: disk.damaged_bytes.get(),
                    dropped_unnamed: disk.dropped_unnamed.get(),
                },
            },
            pipelines: self.pipelines.iter().map(pipeline).collect(),
            memory: Memory::now(),
            board: BoardView::now(&self.outbox_path),
        }
    }

    /// Once a `stats_secs`: looks whether the date can be trusted, and begins a new period.
    fn next_period(&self) {
        self.clock_synced.store(observe::date::clock_synced(), Ordering::Relaxed);
        for pipeline in &self.pipelines {
            pipeline.latencies.rotate();
            pipeline.say_overload(SystemClock.now(), SAY_OVERLOAD_EVERY);
        }
    }
}
