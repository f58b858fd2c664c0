//! The thread around a [`Link`]: opens the socket, moves bytes, tells the time.
//!
//! One current-thread runtime a connection. Reading, writing, waking and the clock are watched at
//! once, so a broker that does not read cannot keep us from reading. Writes go out as soon as they
//! are encoded (`TCP_NODELAY`): a prediction waits for nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::link::{Link, LinkError, Role};
use super::packet::Out;
use super::talk::{Talk, Turn};
use super::tls;
use crate::base::Clock;
use crate::base::counters::LinkCounters;
use crate::base::words::in_words;
use crate::config::{Broker, Tls};

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
    heard_out: AtomicBool,
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

    /// Whether the broker has taken our goodbye, and so all that we said before it.
    pub fn was_heard_out(&self) -> bool {
        self.0.heard_out.load(Ordering::Relaxed)
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
    runtime.block_on(Driver { settings, handle, clock, link, ungreeted: 0 }.run());
    Ok(())
}

struct Driver<'a, R, C> {
    settings: &'a Settings,
    handle: &'a Handle,
    clock: &'a C,
    link: Link<R>,
    /// Attempts since the last one that the broker greeted.
    ungreeted: usize,
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
            self.ungreeted = if self.link.is_up() { 0 } else { self.ungreeted.wrapping_add(1) };
            self.settings.counters.failures.bump();
            self.settings.counters.up.store(0, Ordering::Relaxed);
            let wait = self.link.ended(self.clock.now(), &error);
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
            self.link.role.takes_more();
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
        is_over(self.handle.stage(), &mut self.link.role)
    }

    async fn attempt(&mut self) -> Result<(), LinkError> {
        let settings = self.settings;
        let Broker { host, port, tls, connect_timeout, .. } = &settings.broker;
        self.link.opening();
        let opened = timeout(*connect_timeout, open(host, *port, tls.as_ref(), self.ungreeted));
        let stream = tokio::select! {
            opened = opened => opened.map_err(|_| LinkError::ConnectTimeout {
                host: host.clone(), port: *port, secs: connect_timeout.as_secs(),
            })??,
            () = self.ended() => return Ok(()),
        };
        let ended = match stream {
            Stream::Plain(stream) => self.converse(stream).await,
            Stream::Tls(stream) => self.converse(*stream).await,
        };
        ended.map_err(|error| match error {
            LinkError::Closed { .. } | LinkError::Io(_) if !self.link.is_up() => {
                LinkError::Ungreeted { tls: tls.is_some(), source: Box::new(error) }
            }
            error => error,
        })
    }

    async fn ended(&mut self) {
        while !self.is_over() {
            self.settings.counters.turns.bump();
            self.link.role.takes_more();
            self.handle.0.wake.notified().await;
        }
    }

    async fn converse(&mut self, stream: impl AsyncRead + AsyncWrite) -> Result<(), LinkError> {
        let (mut from, mut to) = tokio::io::split(stream);
        let Settings { broker, max_payload, .. } = self.settings;
        let patience = broker.keep_alive;
        let mut talk = Talk::new(broker, *max_payload, self.clock.now(), &mut self.link);
        let mut was_up = false;
        loop {
            self.settings.counters.turns.bump();
            let stage = self.handle.stage();
            let turn = talk.turn(self.clock.now(), &mut self.link, |role| is_over(stage, role))?;
            if self.link.is_up() && !was_up {
                was_up = true;
                self.connected();
            }
            let Turn::Socket { reads, within } = turn else {
                return self.say_goodbye(&mut from, &mut to).await;
            };
            let (into, waits) = talk.buffers();
            tokio::select! {
                biased;
                written = to.write(waits), if !waits.is_empty() => {
                    let written = match written {
                        Ok(0) => Err(self.link.closed()),
                        written => written.map_err(LinkError::of_socket),
                    };
                    let written = match written {
                        Ok(written) => written,
                        Err(error) => {
                            self.hear_out(&mut from, &mut talk).await?;
                            return Err(error);
                        }
                    };
                    talk.wrote(written, self.clock.now(), &mut self.link);
                    // TLS keeps records back until it is told to let them go.
                    if !talk.has_out() {
                        timeout(patience, to.flush())
                            .await
                            .map_err(|_| LinkError::Stuck { secs: patience.as_secs() })?
                            .map_err(LinkError::of_socket)?;
                    }
                }
                read = from.read_buf(into), if reads => {
                    if read.map_err(LinkError::of_socket)? == 0 {
                        return Err(self.link.closed());
                    }
                    talk.came(self.clock.now(), &mut self.link);
                }
                () = self.handle.0.wake.notified() => {}
                () = sleep(within) => {}
            }
        }
    }

    /// We can say nothing more, and what the broker has said before may still be on its way through
    /// the system's buffers.
    async fn hear_out(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        talk: &mut Talk,
    ) -> Result<(), LinkError> {
        const LAST_WORDS_WITHIN: Duration = Duration::from_millis(100);
        // Longer would keep the next connection waiting, on which frames come as well.
        const ROOM_WITHIN: Duration = Duration::from_secs(1);
        let patience = Instant::now() + ROOM_WITHIN;
        loop {
            if !talk.hear_out(self.clock.now(), &mut self.link, false)? {
                if timeout_at(patience, self.handle.0.wake.notified()).await.is_ok() {
                    continue;
                }
                talk.hear_out(self.clock.now(), &mut self.link, true)?;
                return Ok(());
            }
            match timeout(LAST_WORDS_WITHIN, from.read_buf(talk.buffers().0)).await {
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

    async fn say_goodbye(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), LinkError> {
        let mut last = Out::new(self.settings.broker.protocol);
        self.link.goodbye(&mut last);
        // The connection ends here in any case: a broker that is gone already needs no goodbye.
        let said = timeout(Duration::from_secs(1), async {
            to.write_all(&last).await?;
            to.shutdown().await
        });
        if let Ok(Ok(())) = said.await {
            // It ends the connection when it has come to DISCONNECT (§3.14.4).
            const HEARD_WITHIN: Duration = Duration::from_millis(300);
            let ended = timeout(HEARD_WITHIN, tokio::io::copy(from, &mut tokio::io::sink())).await;
            self.handle.0.heard_out.store(matches!(ended, Ok(Ok(_))), Ordering::Relaxed);
        }
        self.settings.counters.up.store(0, Ordering::Relaxed);
        Ok(())
    }
}

fn is_over(stage: u8, role: &mut impl Role) -> bool {
    match stage {
        RUNNING => false,
        FINISHING => role.is_done(),
        _ => true,
    }
}

/// A connection to the broker.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Has no limit of time of its own. `ungreeted`: see [`in_turn`].
pub(super) async fn open(
    host: &str,
    port: u16,
    tls: Option<&Tls>,
    ungreeted: usize,
) -> Result<Stream, LinkError> {
    let failed = |source| LinkError::Connect { host: host.into(), port, source };
    let addresses = lookup_host((host, port)).await.map_err(failed)?.collect();
    let stream = first_to_answer(in_turn(addresses, ungreeted)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    match tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => Ok(Stream::Tls(Box::new(tls::connect(tls, host, stream).await?))),
    }
}

/// A name's addresses, in the system's order at first. One that takes connections and does not greet would
/// stay the first there, so each attempt that ends without a greeting lets another begin.
fn in_turn(mut addresses: Vec<SocketAddr>, ungreeted: usize) -> Vec<SocketAddr> {
    if ungreeted > 0 && !addresses.is_empty() {
        // Name servers turn their answers as well: in an order of our own none is left out.
        addresses.sort_unstable();
        let turns = ungreeted % addresses.len();
        addresses.rotate_left(turns);
    }
    addresses
}

/// Connects to whichever answers first, each with a head start before the next (RFC 8305): an address that
/// swallows our packets, such as of an IPv6 that leads nowhere, would take all the time that there is.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    const HEAD_START: Duration = Duration::from_millis(250);
    let mut addresses = addresses.into_iter();
    let mut asked = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            Some(address) => drop(asked.spawn(TcpStream::connect(address))),
            None if asked.is_empty() => return Err(last),
            None => {}
        }
        match timeout(HEAD_START, asked.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => last = error,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Micros, SystemClock};
    use crate::config::Protocol;
    use crate::mqtt::packet::Welcome;
    use crate::mqtt::{Greeting, Incoming};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Sender, channel};

    /// Tells when it is asked for room.
    struct Holds(Sender<()>);

    impl Role for Holds {
        fn greeting(&self) -> Greeting {
            Greeting { client_id: "c".into(), clean_session: true, will: None }
        }
        fn connected(&mut self, _: Micros, _: &Welcome, _: &mut Out) {}
        fn received(&mut self, _: Micros, _: Incoming, _: &mut Out) -> Result<(), LinkError> {
            Ok(())
        }
        fn pump(&mut self, _: Micros, _: &mut Out) {}
        fn takes_more(&mut self) -> bool {
            self.0.send(()).is_ok()
        }
        fn is_done(&mut self) -> bool {
            true
        }
        fn disconnected(&mut self, _: Micros, _: &LinkError) {}
    }

    fn settings(port: u16) -> Settings {
        let broker = Broker {
            host: "127.0.0.1".into(),
            port,
            protocol: Protocol::V3_1_1,
            tls: None,
            login: None,
            client_id: "c".into(),
            keep_alive: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(60),
            max_inflight: 1,
        };
        Settings { name: "intake", broker, max_payload: 100, counters: Arc::default() }
    }

    #[test]
    fn a_goodbye_counts_as_heard_when_the_broker_ends_the_connection_and_not_when_the_link_is_dead() {
        for is_dead in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let settings = settings(listener.local_addr().unwrap().port());
            let (asked, _told) = channel();
            let handle = Handle::default();
            let its = handle.clone();
            let thread = std::thread::spawn(move || run(&settings, Holds(asked), &its, &SystemClock));
            let (mut broker, _) = listener.accept().unwrap();
            let mut hello = [0; 64];
            assert!(broker.read(&mut hello).unwrap() > 0);
            broker.write_all(&[0x20, 2, 0, 0]).unwrap();
            handle.finish();
            if !is_dead {
                let mut last = Vec::new();
                broker.read_to_end(&mut last).unwrap();
                assert_eq!(last, [0xe0, 0], "DISCONNECT");
                drop(broker);
                thread.join().unwrap().unwrap();
                assert!(handle.was_heard_out());
                continue;
            }
            thread.join().unwrap().unwrap();
            assert!(!handle.was_heard_out());
        }
    }

    #[test]
    fn what_a_role_holds_goes_on_while_there_is_no_connection() {
        // A listener that greets nobody: the connection neither fails nor stands.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for port in [listener.local_addr().unwrap().port(), refused] {
            let settings = settings(port);
            let (asked, told) = channel();
            let handle = Handle::default();
            let (its, ending) = (handle.clone(), handle.clone());
            let thread = std::thread::spawn(move || run(&settings, Holds(asked), &its, &SystemClock));
            // Attempts are ever rarer, and each wake is heard.
            std::thread::sleep(Duration::from_millis(700));
            for _ in 0..20 {
                told.try_iter().for_each(drop);
                handle.wake();
                told.recv_timeout(Duration::from_secs(5)).expect("woken, it looks for room");
            }
            ending.end();
            thread.join().unwrap().unwrap();
        }
    }

    #[test]
    fn an_address_that_swallows_packets_keeps_nobody_from_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let full = tokio::net::TcpSocket::new_v4().unwrap();
            full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let full = full.listen(0).unwrap();
            let swallows = full.local_addr().unwrap();
            let mut taken = Vec::new();
            while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(swallows)).await {
                taken.push(stream.unwrap());
            }
            let broker = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
            let broker = broker.local_addr().unwrap();
            let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let connecting = first_to_answer(vec![swallows, refuses, broker]);
            let stream =
                timeout(Duration::from_secs(20), connecting).await.expect("within the time of an attempt");
            assert_eq!(stream.unwrap().peer_addr().unwrap(), broker);
            let error = first_to_answer(vec![refuses]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            assert_eq!(first_to_answer(vec![]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn each_address_of_a_name_is_the_first_once_while_none_greets() {
        let addresses = |ports: [u16; 3]| ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).to_vec();
        assert_eq!(in_turn(addresses([2, 1, 3]), 0), addresses([2, 1, 3]), "as the system would have it");
        // Whatever the name server does to their order.
        let mut first: Vec<u16> = [[2, 1, 3], [1, 3, 2], [3, 2, 1]]
            .into_iter()
            .zip(1..)
            .map(|(ports, ungreeted)| in_turn(addresses(ports), ungreeted)[0].port())
            .collect();
        first.sort_unstable();
        assert_eq!(first, [1, 2, 3]);
        assert_eq!(in_turn(vec![], 7), []);
    }
}
