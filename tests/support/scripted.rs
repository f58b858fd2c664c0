//! A broker that does as it is told: sends frames as fast as they are read, acknowledges answers at a
//! pace or never. For what a real one does on a bad day only.
//!
//! MQTT 3.1.1 by rumqttc's codec, one thread a connection.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use serde_json::Value;

/// What it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Where frames go.
    pub(crate) topic: &'static str,
    /// The frame of this number.
    pub(crate) frame: fn(u64) -> Vec<u8>,
    /// Frames that it sends without an acknowledgement.
    pub(crate) window: usize,
    /// Answers that it acknowledges in a second.
    pub(crate) acknowledges_per_s: u64,
}

struct Shared {
    script: Script,
    stopping: AtomicBool,
    sent: AtomicU64,
    heard: AtomicU64,
    stats: Mutex<Option<Value>>,
}

/// A running one.
pub(crate) struct Scripted {
    /// Plain MQTT on 127.0.0.1.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Scripted {
    /// Takes connections from now on.
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared {
            script,
            stopping: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            stats: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = accepting.clone();
                // A connection ends with whoever breaks it.
                std::thread::spawn(move || Connection::new(stream, &shared).and_then(Connection::serve));
            }
        });
        Self { port, shared }
    }

    /// Frames sent.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Answers that came.
    pub(crate) fn heard(&self) -> u64 {
        self.shared.heard.load(Ordering::Relaxed)
    }

    /// The newest `stats`.
    pub(crate) fn stats(&self) -> Option<Value> {
        self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

struct Connection<'s> {
    stream: TcpStream,
    buffer: BytesMut,
    shared: &'s Shared,
    subscribed: bool,
    unacknowledged: usize,
    /// Answers to be acknowledged.
    owed: VecDeque<u16>,
    begun: Instant,
    acknowledged: u64,
}

impl<'s> Connection<'s> {
    fn new(stream: TcpStream, shared: &'s Shared) -> Option<Self> {
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(1))).ok()?;
        Some(Self {
            stream,
            buffer: BytesMut::new(),
            shared,
            subscribed: false,
            unacknowledged: 0,
            owed: VecDeque::new(),
            begun: Instant::now(),
            acknowledged: 0,
        })
    }

    fn serve(mut self) -> Option<()> {
        while !self.shared.stopping.load(Ordering::Relaxed) {
            self.read()?;
            while let Ok(packet) = Packet::read(&mut self.buffer, usize::MAX) {
                self.received(packet)?;
            }
            let script = self.shared.script;
            let due = (self.begun.elapsed().as_secs_f64() * script.acknowledges_per_s as f64) as u64;
            while self.acknowledged < due {
                // What was not asked for in time is no credit for later.
                self.acknowledged += 1;
                let Some(pkid) = self.owed.pop_front() else { continue };
                self.write(&Packet::PubAck(PubAck::new(pkid)))?;
            }
            if self.subscribed && self.unacknowledged < script.window {
                let n = self.shared.sent.load(Ordering::Relaxed);
                let mut publish = Publish::new(script.topic, QoS::AtLeastOnce, (script.frame)(n));
                publish.pkid = (n % 65_535) as u16 + 1;
                self.write(&Packet::Publish(publish))?;
                self.shared.sent.fetch_add(1, Ordering::Relaxed);
                self.unacknowledged += 1;
            }
        }
        None
    }

    fn read(&mut self) -> Option<()> {
        let mut bytes = [0; 16 * 1024];
        let busy = self.subscribed && self.unacknowledged < self.shared.script.window;
        self.stream.set_nonblocking(busy).ok()?;
        let read = self.stream.read(&mut bytes);
        self.stream.set_nonblocking(false).ok()?;
        match read {
            Ok(0) => None,
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                Some(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(()),
            Err(_) => None,
        }
    }

    fn received(&mut self, packet: Packet) -> Option<()> {
        match packet {
            Packet::Connect(_) => {
                self.write(&Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)))
            }
            Packet::Subscribe(subscribe) => {
                self.subscribed = true;
                let granted = subscribe.filters.iter().map(|filter| SubscribeReasonCode::Success(filter.qos));
                self.write(&Packet::SubAck(SubAck::new(subscribe.pkid, granted.collect())))
            }
            Packet::Publish(publish) => {
                if publish.qos == QoS::AtLeastOnce {
                    self.owed.push_back(publish.pkid);
                }
                if publish.topic.ends_with("/stats") {
                    let stats = serde_json::from_slice(&publish.payload).ok();
                    *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
                } else if publish.topic.ends_with("/result") {
                    self.shared.heard.fetch_add(1, Ordering::Relaxed);
                }
                Some(())
            }
            Packet::PubAck(_) => {
                self.unacknowledged -= 1;
                Some(())
            }
            Packet::PingReq => self.write(&Packet::PingResp),
            _ => None,
        }
    }

    fn write(&mut self, packet: &Packet) -> Option<()> {
        let mut out = BytesMut::new();
        packet.write(&mut out, usize::MAX).expect("packets of ours can be encoded");
        self.stream.write_all(&out).ok()
    }
}
