//! The thread around a [`Link`]: opens the socket, moves bytes, tells the time.
//!
//! One current-thread runtime a connection. Reading, writing, waking and the clock are watched at
//! once, so a broker that does not read cannot keep us from reading. Writes go out as soon as they
//! are encoded (`TCP_NODELAY`): a prediction waits for nobody.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::link::{Link, LinkError, Role};
use super::packet::Out;
use super::tls;
use super::wire::Reader;
use crate::base::Clock;
use crate::base::counters::LinkCounters;
use crate::base::words::in_words;
use crate::config::{Broker, Tls};

/// Encoded bytes that may wait for the socket before the role is asked for more.
const OUT_BYTES: usize = 64 * 1024;

/// What a connection needs to know.
#[derive(Clone)]
pub struct Settings {
    /// `intake` or `publish`, in logs.
    pub name: &'static str,
    /// Where the broker is.
    pub broker: Broker,
    /// Largest payload that is held.
    pub max_payload: usize,
    /// Told what happens.
    pub counters: Arc<LinkCounters>,
}

const RUNNING: u8 = 0;
const FINISHING: u8 = 1;
const ENDED: u8 = 2;

/// Wakes and ends a connection from other threads.
#[derive(Clone, Default)]
pub struct Handle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    wake: Notify,
    stage: AtomicU8,
}

impl Handle {
    /// The role has something new to say, or takes more again.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Say what is left, then goodbye.
    pub fn finish(&self) {
        self.0.stage.fetch_max(FINISHING, Ordering::Relaxed);
        self.wake();
    }

    /// Goodbye now.
    pub fn end(&self) {
        self.0.stage.fetch_max(ENDED, Ordering::Relaxed);
        self.wake();
    }

    fn stage(&self) -> u8 {
        self.0.stage.load(Ordering::Relaxed)
    }
}

/// Runs a connection until its handle ends it. Blocks; give it a thread.
pub fn run<R: Role>(
    settings: &Settings,
    role: R,
    handle: &Handle,
    clock: &(impl Clock + Sync),
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    // The clock's microseconds and the process id differ between devices that lost power together.
    let seed = clock.wall().0 ^ (u64::from(std::process::id()) << 32) ^ settings.name.len() as u64;
    let link = Link::new(role, &settings.broker, seed);
    runtime.block_on(Driver { settings, handle, clock, link }.run());
    Ok(())
}

struct Driver<'a, R, C> {
    settings: &'a Settings,
    handle: &'a Handle,
    clock: &'a C,
    link: Link<R>,
}

impl<R: Role, C: Clock> Driver<'_, R, C> {
    async fn run(mut self) {
        let mut said = String::new();
        loop {
            self.wait().await;
            if self.is_over() {
                return;
            }
            let error = match self.attempt().await {
                Ok(()) => return,
                Err(error) => error,
            };
            self.settings.counters.failures.bump();
            self.settings.counters.up.store(0, Ordering::Relaxed);
            let wait = self.link.ended(self.clock.now());
            let words = in_words(&error);
            // A broker that is away for a night fills no log: each reason is said once in full.
            let level = if words == said { log::Level::Debug } else { log::Level::Warn };
            log::log!(
                level,
                "{} connection: {words}; trying again in {:.1} s",
                self.settings.name,
                wait.as_secs_f32()
            );
            said = words;
        }
    }

    /// Waits for the next attempt, unless told to stop.
    async fn wait(&mut self) {
        loop {
            self.settings.counters.turns.bump();
            let left = self.link.wait(self.clock.now());
            if left.is_zero() || self.is_over() {
                return;
            }
            tokio::select! {
                () = sleep(left) => {}
                () = self.handle.0.wake.notified() => {}
            }
        }
    }

    fn is_over(&mut self) -> bool {
        match self.handle.stage() {
            RUNNING => false,
            FINISHING => self.link.role.is_done(),
            _ => true,
        }
    }

    async fn attempt(&mut self) -> Result<(), LinkError> {
        let settings = self.settings;
        let Broker { host, port, tls, connect_timeout, .. } = &settings.broker;
        self.link.opening();
        let opened = timeout(*connect_timeout, open(host, *port, tls.as_ref()));
        let stream = tokio::select! {
            opened = opened => opened.map_err(|_| LinkError::ConnectTimeout {
                host: host.clone(), port: *port, secs: connect_timeout.as_secs(),
            })??,
            () = self.ended() => return Ok(()),
        };
        match stream {
            Stream::Plain(stream) => self.converse(stream).await,
            Stream::Tls(stream) => self.converse(*stream).await,
        }
    }

    async fn ended(&mut self) {
        while !self.is_over() {
            self.settings.counters.turns.bump();
            self.handle.0.wake.notified().await;
        }
    }

    async fn converse(&mut self, stream: impl AsyncRead + AsyncWrite) -> Result<(), LinkError> {
        let (mut from, mut to) = tokio::io::split(stream);
        let protocol = self.settings.broker.protocol;
        let mut reader = Reader::new(protocol, self.settings.max_payload);
        let mut out = Out::new(protocol);
        let now = self.clock.now();
        self.link.opened(now, &mut out);
        let mut was_up = false;
        let mut last_progress = now;
        loop {
            self.settings.counters.turns.bump();
            let now = self.clock.now();
            // What is left from the last read comes first: it may have waited for room downstream.
            let mut is_drained = false;
            while self.link.role.takes_more() {
                let Some(incoming) = reader.next_packet()? else {
                    is_drained = true;
                    break;
                };
                self.link.received(now, incoming, &mut out)?;
            }
            if self.link.is_up() && !was_up {
                was_up = true;
                self.connected();
            }
            // Asked before the role gets its turn: being told to finish may give it a last word.
            let over = self.is_over();
            if out.len() < OUT_BYTES {
                self.link.pump(now, &mut out);
            }
            if over && out.is_empty() {
                return self.say_goodbye(&mut to).await;
            }
            let reads = self.link.role.takes_more();
            if reads && !is_drained && out.len() < OUT_BYTES {
                // The role has found room meanwhile, and no byte need come for what is in our buffer.
                continue;
            }
            if !reads {
                self.link.not_reading(now);
            }
            self.link.tick(now, &mut out)?;
            if out.is_empty() {
                last_progress = now;
            }
            let patience = self.settings.broker.keep_alive;
            if now.since(last_progress) >= patience {
                return Err(LinkError::Stuck { secs: patience.as_secs() });
            }
            let deadline = self.link.deadline(now).min(patience);
            tokio::select! {
                biased;
                written = to.write(&out), if !out.is_empty() => {
                    let written = match written {
                        Ok(0) => Err(self.link.closed()),
                        written => written.map_err(LinkError::of_socket),
                    };
                    let written = match written {
                        Ok(written) => written,
                        Err(error) => {
                            self.hear_out(&mut from, &mut reader).await?;
                            return Err(error);
                        }
                    };
                    out.advance(written);
                    last_progress = self.clock.now();
                    self.link.sent(last_progress);
                    // TLS keeps records back until it is told to let them go.
                    if out.is_empty() {
                        timeout(patience, to.flush())
                            .await
                            .map_err(|_| LinkError::Stuck { secs: patience.as_secs() })?
                            .map_err(LinkError::of_socket)?;
                    }
                }
                read = from.read_buf(reader.buffer()), if reads => {
                    if read.map_err(LinkError::of_socket)? == 0 {
                        return Err(self.link.closed());
                    }
                }
                () = self.handle.0.wake.notified() => {}
                () = sleep(deadline) => {}
            }
        }
    }

    /// We can say nothing more, and what the broker has said before may still be on its way through
    /// our own buffers. A broker that forgets us will not say it again: take what has come whole.
    async fn hear_out(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        reader: &mut Reader,
    ) -> Result<(), LinkError> {
        const LAST_WORDS_WITHIN: Duration = Duration::from_millis(100);
        // Longer would keep the next connection waiting, on which frames come as well.
        const ROOM_WITHIN: Duration = Duration::from_secs(1);
        let patience = Instant::now() + ROOM_WITHIN;
        // Answers have nowhere to go.
        let mut unsaid = Out::new(self.settings.broker.protocol);
        loop {
            let now = self.clock.now();
            let mut is_drained = false;
            while self.link.role.takes_more() && !is_drained {
                match reader.next_packet()? {
                    Some(incoming) => self.link.received(now, incoming, &mut unsaid)?,
                    None => is_drained = true,
                }
            }
            if !is_drained {
                if timeout_at(patience, self.handle.0.wake.notified()).await.is_ok() {
                    continue;
                }
                while let Some(incoming) = reader.next_packet()? {
                    self.link.received(now, incoming, &mut unsaid)?;
                }
                return Ok(());
            }
            match timeout(LAST_WORDS_WITHIN, from.read_buf(reader.buffer())).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Ok(()),
            }
        }
    }

    fn connected(&self) {
        self.settings.counters.connects.bump();
        let Broker { host, port, .. } = &self.settings.broker;
        log::info!("{} connection: connected to {host}:{port}", self.settings.name);
    }

    async fn say_goodbye(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), LinkError> {
        let mut last = Out::new(self.settings.broker.protocol);
        self.link.goodbye(&mut last);
        // The connection ends here in any case: a broker that is gone already needs no goodbye.
        let _ = timeout(Duration::from_secs(1), async {
            to.write_all(&last).await?;
            to.shutdown().await
        })
        .await;
        self.settings.counters.up.store(0, Ordering::Relaxed);
        Ok(())
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn open(host: &str, port: u16, tls: Option<&Tls>) -> Result<Stream, LinkError> {
    let failed = |source| LinkError::Connect { host: host.into(), port, source };
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    match tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => Ok(Stream::Tls(Box::new(tls::connect(tls, host, stream).await?))),
    }
}
