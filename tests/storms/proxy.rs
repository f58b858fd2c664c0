//! A TCP proxy with faults, between the daemon and its broker.
//!
//! It knows nothing of MQTT, but for three things that a storm needs: where a chunk's first byte can be
//! broken so that the packet cannot be read any more (TCP's own checksum lets one flipped byte in
//! billions through; MQTT has none, so a flipped byte *inside* a payload is nobody's to find, except
//! under TLS, where any byte may be broken), the ids of frames that were handed to the daemon, and which
//! of its connections publishes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;

/// What can happen to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Both sides see an orderly end.
    Cut,
    /// Both sides see a reset; what is under way is thrown away.
    Reset,
    /// The broker's side ends; the daemon's stays open and is never heard of again.
    HalfOpen,
    /// Everything comes 300 ms late.
    Delay,
    /// 4 kB a second.
    Throttle,
    /// One byte arrives as another.
    Corrupt,
    /// Connections end, and new ones are refused.
    Refuse,
    /// Connections stay and new ones are taken, but no byte comes through.
    BlackHole,
    /// The publishing connection ends, and again whenever it comes: frames come in, and no answer goes
    /// out.
    NoWayOut,
}

impl Fault {
    /// What befalls a link as a whole.
    pub(crate) const ALL: [Self; 8] = [
        Self::Cut,
        Self::Reset,
        Self::HalfOpen,
        Self::Delay,
        Self::Throttle,
        Self::Corrupt,
        Self::Refuse,
        Self::BlackHole,
    ];
}

const LATE: Duration = Duration::from_millis(300);
const TRICKLE_BYTES_PER_S: usize = 4096;
/// Some 15 frames of the storms.
const AHEAD: Duration = Duration::from_millis(50);

const OPEN: u8 = 0;
const MUTE: u8 = 1;
const RESET: u8 = 2;

const CALM: u8 = 0;
const LATE_NOW: u8 = 1;
const TRICKLE_NOW: u8 = 2;
const REFUSE_NOW: u8 = 3;
const SWALLOW_NOW: u8 = 4;
const BAR_OUT_NOW: u8 = 5;

/// In the CONNECT of the publishing connection: the end of its client id.
const PUBLISHES: &[u8] = b"-out";

struct Connection {
    daemon: Arc<TcpStream>,
    broker: Option<Arc<TcpStream>>,
    /// [`OPEN`], or why no byte comes through any more.
    mute: Arc<AtomicU8>,
    /// It is the one that publishes.
    publishes: Arc<AtomicBool>,
}

struct Shared {
    weather: AtomicU8,
    /// Chunks whose byte is to be broken.
    break_next: AtomicUsize,
    /// Any byte may be broken, not only a packet's first.
    any_byte: bool,
    connections: Mutex<Vec<Connection>>,
    stopping: AtomicBool,
    upstream: u16,
    handed: Box<dyn Fn(u64) + Send + Sync>,
}

/// A running proxy.
pub(crate) struct Proxy {
    /// Where the daemon connects to, on 127.0.0.1.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// To `upstream` on 127.0.0.1. `any_byte`: the bytes are TLS. `handed` hears of every frame whose
    /// bytes are in the daemon's socket.
    pub(crate) fn start(upstream: u16, any_byte: bool, handed: impl Fn(u64) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared {
            weather: AtomicU8::new(CALM),
            break_next: AtomicUsize::new(0),
            any_byte,
            connections: Mutex::default(),
            stopping: AtomicBool::new(false),
            upstream,
            handed: Box::new(handed),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || accept(listener, port, &accepting));
        Self { port, shared }
    }

    /// The fault begins; one that passes at once is over when this returns.
    pub(crate) fn begin(&self, fault: Fault) {
        let set = |weather| self.shared.weather.store(weather, Ordering::SeqCst);
        match fault {
            Fault::Cut => self.end_all(false),
            Fault::Reset => self.end_all(true),
            Fault::HalfOpen => {
                self.mute_way_out();
                for connection in self.shared.lock().drain(..) {
                    connection.mute.store(MUTE, Ordering::SeqCst);
                    if let Some(broker) = connection.broker {
                        let _ = broker.shutdown(Shutdown::Both);
                    }
                }
            }
            Fault::Delay => set(LATE_NOW),
            Fault::Throttle => set(TRICKLE_NOW),
            Fault::Corrupt => self.shared.break_next.store(1, Ordering::SeqCst),
            Fault::Refuse => {
                set(REFUSE_NOW);
                self.end_all(false);
            }
            Fault::NoWayOut => {
                set(BAR_OUT_NOW);
                for connection in self.shared.lock().iter() {
                    if connection.publishes.load(Ordering::SeqCst) {
                        let _ = connection.daemon.shutdown(Shutdown::Both);
                    }
                }
            }
            Fault::BlackHole => {
                self.mute_way_out();
                set(SWALLOW_NOW);
                for connection in self.shared.lock().iter() {
                    connection.mute.store(MUTE, Ordering::SeqCst);
                }
            }
        }
    }

    /// Good weather again; what was broken stays so.
    pub(crate) fn calm(&self) {
        self.shared.weather.store(CALM, Ordering::SeqCst);
    }

    /// The publishing connection goes first, so that there are answers on their way to nobody.
    fn mute_way_out(&self) {
        for connection in self.shared.lock().iter() {
            if connection.publishes.load(Ordering::SeqCst) {
                connection.mute.store(MUTE, Ordering::SeqCst);
            }
        }
        std::thread::sleep(AHEAD);
    }

    fn end_all(&self, reset: bool) {
        for Connection { daemon, broker, mute, .. } in self.shared.lock().drain(..) {
            let ends = [Some(daemon), broker];
            if reset {
                // With a linger of zero, closing sends RST. Ending the reading wakes the two threads
                // that hold the sockets, and sends nothing.
                mute.store(RESET, Ordering::SeqCst);
                for end in ends.iter().flatten() {
                    let _ = SockRef::from(&**end).set_linger(Some(Duration::ZERO));
                }
            }
            let how = if reset { Shutdown::Read } else { Shutdown::Both };
            for end in ends.iter().flatten() {
                let _ = end.shutdown(how);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.end_all(false);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weather(&self) -> u8 {
        self.weather.load(Ordering::SeqCst)
    }
}

fn accept(listener: TcpListener, port: u16, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    while !shared.stopping.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(2));
        if shared.weather() == REFUSE_NOW {
            listener = None;
            continue;
        }
        let listening = listener.get_or_insert_with(|| {
            // The port was ours a moment ago; connections that ended on it may linger.
            super::support::eventually(super::support::SOON, || TcpListener::bind(("127.0.0.1", port)).ok())
                .expect("the proxy gets its port back")
        });
        let _ = listening.set_nonblocking(true);
        while let Ok((daemon, _)) = listening.accept() {
            let _ = daemon.set_nonblocking(false);
            connect(daemon, shared);
        }
    }
}

fn connect(daemon: TcpStream, shared: &Arc<Shared>) {
    let _ = daemon.set_nodelay(true);
    let daemon = Arc::new(daemon);
    let swallows = shared.weather() == SWALLOW_NOW;
    let mute = Arc::new(AtomicU8::new(if swallows { MUTE } else { OPEN }));
    let publishes = Arc::new(AtomicBool::new(false));
    // A broker that is away: the daemon's connection ends at once, as behind a router.
    let broker =
        if swallows { None } else { TcpStream::connect(("127.0.0.1", shared.upstream)).ok().map(Arc::new) };
    if broker.is_none() && !swallows {
        return;
    }
    let broker_end = broker.clone();
    {
        let mut connections = shared.lock();
        connections.retain(|old| Arc::strong_count(&old.daemon) > 1);
        connections.push(Connection {
            daemon: daemon.clone(),
            broker: broker.clone(),
            mute: mute.clone(),
            publishes: publishes.clone(),
        });
    }
    if let Some(broker) = broker {
        let _ = broker.set_nodelay(true);
        let (from, to, mute, shared) = (broker, daemon.clone(), mute.clone(), shared.clone());
        std::thread::spawn(move || pump(&from, Some(&to), &mute, &shared, Watch::Frames(Tap::default())));
    }
    let shared = shared.clone();
    std::thread::spawn(move || {
        pump(&daemon, broker_end.as_deref(), &mute, &shared, Watch::Greeting(publishes))
    });
}

/// What a direction is looked at for.
enum Watch {
    /// To the daemon: which frames.
    Frames(Tap),
    /// From the daemon: whether its first bytes say that it publishes.
    Greeting(Arc<AtomicBool>),
}

/// Moves bytes until one side ends.
fn pump(from: &TcpStream, to: Option<&TcpStream>, mute: &AtomicU8, shared: &Shared, mut watch: Watch) {
    let mut buffer = [0; 16 * 1024];
    let (mut reading, mut writing) = (from, to);
    while let Ok(length @ 1..) = reading.read(&mut buffer) {
        let chunk = &mut buffer[..length];
        if mute.load(Ordering::SeqCst) != OPEN {
            continue;
        }
        if let Watch::Greeting(publishes) = &watch {
            if chunk.first() == Some(&0x10) && chunk.windows(PUBLISHES.len()).any(|part| part == PUBLISHES) {
                publishes.store(true, Ordering::SeqCst);
            }
            if publishes.load(Ordering::SeqCst) && shared.weather() == BAR_OUT_NOW {
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
        }
        if shared.break_next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            let at = if shared.any_byte { length / 2 } else { 0 };
            chunk[at] ^= 0x80;
        }
        let Some(writing) = &mut writing else { continue };
        let portion = match shared.weather() {
            LATE_NOW => {
                std::thread::sleep(LATE);
                length
            }
            TRICKLE_NOW => TRICKLE_BYTES_PER_S / 20,
            _ => length,
        };
        let mut written = true;
        for part in chunk.chunks(portion) {
            if portion < length && shared.weather() == TRICKLE_NOW {
                std::thread::sleep(Duration::from_millis(50));
            }
            written &= writing.write_all(part).is_ok();
        }
        if !written {
            break;
        }
        if let Watch::Frames(tap) = &mut watch {
            tap.read(chunk, &shared.handed);
        }
    }
    match (mute.load(Ordering::SeqCst), to) {
        (OPEN, to) => {
            let _ = from.shutdown(Shutdown::Read);
            let _ = to.map(|to| to.shutdown(Shutdown::Write));
        }
        // The daemon has given up on a mute connection: nobody is left to keep it open for.
        (MUTE, Some(to)) if matches!(watch, Watch::Greeting(_)) => {
            let _ = to.shutdown(Shutdown::Both);
        }
        // A mute connection's daemon is not told; a reset is said by closing.
        _ => {}
    }
}

/// Finds `{"id":"N"` in what goes to the daemon, over the borders of chunks.
#[derive(Default)]
struct Tap(Vec<u8>);

impl Tap {
    const MARK: &'static [u8] = b"{\"id\":\"";
    /// A mark, twenty digits and the closing quote.
    const LONGEST: usize = Self::MARK.len() + 21;

    fn read(&mut self, chunk: &[u8], handed: &dyn Fn(u64)) {
        self.0.extend_from_slice(chunk);
        let mut at = 0;
        while let Some(found) = self.0[at..].windows(Self::MARK.len()).position(|bytes| bytes == Self::MARK) {
            let digits = at + found + Self::MARK.len();
            // The frame is handed over with its last byte, a `}`.
            let Some(end) = self.0[digits..].iter().position(|&byte| byte == b'}') else {
                self.0.drain(..at + found);
                return;
            };
            let text: String = self.0[digits..digits + end]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .map(|&b| char::from(b))
                .collect();
            if let Ok(frame) = text.parse() {
                handed(frame);
            }
            at = digits + end;
        }
        let keep = self.0.len().saturating_sub(Self::LONGEST).max(at);
        self.0.drain(..keep);
    }
}
