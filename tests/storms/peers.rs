//! The line's other programs: one that sends frames and one that hears answers, both writing the book.
//!
//! Plain blocking MQTT 3.1.1 by rumqttc's codec. They connect to the broker directly, so that a fault
//! between daemon and broker is not theirs.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, Publish, Subscribe, SubscribeFilter};

use super::book::Book;

/// Frames without an acknowledgement.
const WINDOW: usize = 50;
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// One connection, read with a short patience.
struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// CONNECT and its answer; `None`: nobody there, or not yet.
    fn open(port: u16, id: &str, clean_session: bool) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut this = Self { stream, buffer: BytesMut::new() };
        let mut connect = Connect::new(id);
        connect.keep_alive = 0;
        connect.clean_session = clean_session;
        this.write(&Packet::Connect(connect))?;
        while !matches!(this.next()?, Some(Packet::ConnAck(_))) {}
        this.stream.set_read_timeout(Some(Duration::from_millis(1))).ok()?;
        Some(this)
    }

    fn write(&mut self, packet: &Packet) -> Option<()> {
        let mut out = BytesMut::new();
        packet.write(&mut out, usize::MAX).expect("packets of ours can be encoded");
        self.stream.write_all(&out).ok()
    }

    /// The next packet; `Some(None)`: none within the patience; `None`: the connection is gone.
    fn next(&mut self) -> Option<Option<Packet>> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.buffer, 64 << 20) {
                return Some(Some(packet));
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.buffer.extend_from_slice(&bytes[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Some(None);
                }
                Err(_) => return None,
            }
        }
    }
}

struct Shared {
    stopping: AtomicBool,
    /// Frames a second; 0: none.
    rate: AtomicU64,
    ready: AtomicBool,
}

/// A peer's thread, ended on drop.
pub(crate) struct Peer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn spawn(run: impl FnOnce(&Shared) + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            rate: AtomicU64::new(0),
            ready: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        Self { shared, thread: Some(std::thread::spawn(move || run(&theirs))) }
    }

    /// Sends frames on `s/named` and `s/plain`: `named` says which carry an id of their own. What the
    /// broker has not acknowledged when a connection ends goes out again if it carries its id, and
    /// else stays in doubt: a sender without ids cannot know.
    pub(crate) fn sender(port: u16, book: Arc<Book>, named: fn(u64) -> bool) -> Self {
        Self::spawn(move |shared| {
            let mut unacknowledged: BTreeMap<u16, (u64, bool)> = BTreeMap::new();
            let mut last_pkid = 0u16;
            while !shared.is_stopping() {
                let Some(mut connection) = Connection::open(port, "storm-sender", true) else {
                    std::thread::sleep(AGAIN_AFTER);
                    continue;
                };
                unacknowledged.retain(|_, (_, named)| *named);
                let again = std::mem::take(&mut unacknowledged);
                let mut alive = true;
                for (frame, named) in again.into_values() {
                    last_pkid = next_pkid(last_pkid);
                    unacknowledged.insert(last_pkid, (frame, named));
                    alive &= connection.write(&frame_packet(frame, named, last_pkid)).is_some();
                }
                let mut due = Instant::now();
                while alive && !shared.is_stopping() {
                    match connection.next() {
                        None => break,
                        Some(Some(Packet::PubAck(ack))) => {
                            if let Some((frame, _)) = unacknowledged.remove(&ack.pkid) {
                                book.accepted(frame);
                            }
                            continue;
                        }
                        Some(_) => {}
                    }
                    let rate = shared.rate.load(Ordering::Relaxed);
                    let now = Instant::now();
                    if rate == 0 {
                        due = now;
                        continue;
                    }
                    while alive && due <= now && unacknowledged.len() < WINDOW {
                        due += Duration::from_secs(1) / rate as u32;
                        let (frame, named) = book.sending(named);
                        last_pkid = next_pkid(last_pkid);
                        unacknowledged.insert(last_pkid, (frame, named));
                        alive = connection.write(&frame_packet(frame, named, last_pkid)).is_some();
                    }
                    due = due.max(now - Duration::from_secs(1));
                }
                // What the broker has acknowledged, it has accepted, also with its last breath.
                while let Some(Some(packet)) = connection.next() {
                    if let Packet::PubAck(ack) = packet
                        && let Some((frame, _)) = unacknowledged.remove(&ack.pkid)
                    {
                        book.accepted(frame);
                    }
                }
            }
        })
    }

    /// Hears every prediction and every refusal, in a session that a broker may keep.
    pub(crate) fn hearer(port: u16, book: Arc<Book>) -> Self {
        Self::spawn(move |shared| {
            while !shared.is_stopping() {
                if hear(port, &book, shared).is_none() {
                    shared.ready.store(false, Ordering::SeqCst);
                    std::thread::sleep(AGAIN_AFTER / 4);
                }
            }
        })
    }

    /// Frames a second from now on.
    pub(crate) fn rate(&self, per_second: u64) {
        self.shared.rate.store(per_second, Ordering::Relaxed);
    }

    /// Whether the hearer is subscribed.
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("a peer of the storm panicked");
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

fn hear(port: u16, book: &Book, shared: &Shared) -> Option<()> {
    let mut connection = Connection::open(port, "storm-hearer", false)?;
    let filters = ["lineside/+/+/result", "lineside/+/+/error"];
    let filter = |path: &str| SubscribeFilter { path: path.into(), qos: QoS::AtLeastOnce };
    let mut subscribe = Subscribe::new_many(filters.map(filter));
    subscribe.pkid = 1;
    connection.write(&Packet::Subscribe(subscribe))?;
    while !shared.is_stopping() {
        match connection.next()? {
            Some(Packet::SubAck(_)) => shared.ready.store(true, Ordering::SeqCst),
            Some(Packet::Publish(publish)) => {
                let text = String::from_utf8_lossy(&publish.payload).into_owned();
                match serde_json::from_str(&text) {
                    Ok(prediction) if publish.topic.ends_with("/result") => book.answer(&prediction),
                    _ => book.error(&format!("{}: {text}", publish.topic)),
                }
                if publish.qos == QoS::AtLeastOnce {
                    // A broker that is gone by now may have said more before, which counts.
                    let _ = connection.write(&Packet::PubAck(PubAck::new(publish.pkid)));
                }
            }
            _ => {}
        }
    }
    Some(())
}

fn next_pkid(last: u16) -> u16 {
    last.checked_add(1).unwrap_or(1)
}

/// Of different lengths, so that packets end anywhere in a chunk.
fn frame_packet(frame: u64, named: bool, pkid: u16) -> Packet {
    let blanks = " ".repeat((frame * 37 % 401) as usize);
    let (topic, payload) = if named {
        ("s/named", format!(r#"{{"id":"{frame}","a":{frame},"b":0,"c":0{blanks}}}"#))
    } else {
        ("s/plain", format!(r#"{{"a":{frame},"b":0,"c":0{blanks}}}"#))
    };
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
    publish.pkid = pkid;
    Packet::Publish(publish)
}
