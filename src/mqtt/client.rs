//! One connection that sends messages and ends: for tools such as `lineside replay`.
//!
//! The same machine as the daemon's ([`Link`], TLS included), driven on the caller's thread. Messages
//! are pulled one at a time when there is room, so nothing piles up, whatever the broker's pace.
//!
//! Promise: when [`send`] returns `Ok`, every message at QoS 1 has been acknowledged. A connection
//! that breaks is an error and not tried again: a tool's user decides whether to send twice.
//! Not here: what is sent and how fast ([`Messages`]).

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::driver::{Stream, open};
use super::link::{Greeting, Link, LinkError, Role};
use super::packet::{Out, Packet, PacketTooLarge, Publish, Welcome};
use super::wire::{Incoming, Reader};
use crate::base::{Clock, Micros};
use crate::config::{Broker, Qos};

/// Encoded bytes that may wait for the socket before the next message is pulled.
const OUT_BYTES: usize = 64 * 1024;

/// What goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// A concrete topic.
    pub topic: String,
    /// Anything, also nothing.
    pub payload: Bytes,
}

/// What a source of messages has for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this now.
    Message(Message),
    /// Ask again after this long.
    Wait(Duration),
    /// That was all.
    End,
}

/// Where messages come from, and who hears how they fare.
pub trait Messages: Send {
    /// Asked whenever there is room.
    fn next(&mut self, now: Micros) -> Next;
    /// A message is settled: acknowledged, or at QoS 0 handed to the network. `payload_bytes` is its
    /// payload's length.
    fn settled(&mut self, payload_bytes: usize);
}

/// Why not every message arrived.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The system grants no event loop.
    #[error("cannot set up an event loop")]
    Runtime(#[source] io::Error),
    /// The connection failed or ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A message is larger than the broker takes (MQTT 5).
    #[error(transparent)]
    TooLarge(#[from] PacketTooLarge),
    /// The broker answers pings but acknowledges nothing.
    #[error("the broker has acknowledged none of {waiting} messages for {secs} s")]
    Unacknowledged {
        /// Messages without an acknowledgement.
        waiting: usize,
        /// Since the last one was acknowledged.
        secs: u64,
    },
}

/// Connects to `broker`, sends what `messages` gives with `qos`, at most `broker.max_inflight`
/// unacknowledged, waits for the last acknowledgement and says goodbye. Blocks.
pub fn send<M: Messages>(
    broker: &Broker,
    qos: Qos,
    messages: &mut M,
    clock: &impl Clock,
) -> Result<(), SendError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(SendError::Runtime)?;
    runtime.block_on(async {
        let opened = open(&broker.host, broker.port, broker.tls.as_ref(), 0);
        let late = |_| LinkError::ConnectTimeout {
            host: broker.host.clone(),
            port: broker.port,
            secs: broker.connect_timeout.as_secs(),
        };
        let role = Sender {
            client_id: &broker.client_id,
            window: usize::from(broker.max_inflight.max(1)),
            qos,
            messages,
            unacknowledged: HashMap::new(),
            last_pkid: 0,
            last_settled: clock.now(),
            too_large: None,
            pause: Pause::None,
        };
        // One attempt: the seed of the wait between attempts does not matter.
        let link = Link::new(role, broker, 1);
        match timeout(broker.connect_timeout, opened).await.map_err(late)?? {
            Stream::Plain(stream) => converse(link, stream, clock, broker).await,
            Stream::Tls(stream) => converse(link, *stream, clock, broker).await,
        }
    })
}

async fn converse<M: Messages>(
    mut link: Link<Sender<'_, M>>,
    stream: impl AsyncRead + AsyncWrite,
    clock: &impl Clock,
    broker: &Broker,
) -> Result<(), SendError> {
    let keep_alive = broker.keep_alive;
    let (mut from, mut to) = tokio::io::split(stream);
    // Nobody sends us payloads: we subscribe to nothing.
    let mut reader = Reader::new(broker.protocol, 0);
    let mut out = Out::new(broker.protocol);
    let mut last_progress = clock.now();
    link.opened(last_progress, &mut out);
    loop {
        let now = clock.now();
        while let Some(incoming) = reader.next_packet().map_err(LinkError::Wire)? {
            link.received(now, incoming, &mut out)?;
        }
        if out.len() < OUT_BYTES {
            link.pump(now, &mut out);
        }
        if link.role.is_done() && out.is_empty() {
            break;
        }
        link.tick(now, &mut out)?;
        link.role.check(now, keep_alive * 2)?;
        if out.is_empty() {
            last_progress = now;
        }
        if now.since(last_progress) >= keep_alive {
            return Err(LinkError::Stuck { secs: keep_alive.as_secs() }.into());
        }
        let deadline = link.deadline(now).min(keep_alive).min(link.role.wait(now));
        tokio::select! {
            written = to.write(&out), if !out.is_empty() => {
                let written = written.map_err(LinkError::of_socket)?;
                if written == 0 {
                    return Err(link.closed().into());
                }
                out.advance(written);
                last_progress = clock.now();
                link.sent(last_progress);
                // TLS keeps records back until it is told to let them go.
                if out.is_empty() {
                    timeout(keep_alive, to.flush())
                        .await
                        .map_err(|_| LinkError::Stuck { secs: keep_alive.as_secs() })?
                        .map_err(LinkError::of_socket)?;
                }
            }
            read = from.read_buf(reader.buffer()) => {
                if read.map_err(LinkError::of_socket)? == 0 {
                    return Err(link.closed().into());
                }
                link.heard(clock.now());
            }
            () = sleep(deadline) => {}
        }
    }
    link.goodbye(&mut out);
    // Everything is settled: a broker that is gone by now needs no goodbye.
    let _ = timeout(Duration::from_secs(1), async {
        to.write_all(&out).await?;
        to.shutdown().await
    })
    .await;
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    None,
    Until(Micros),
    Ended,
}

/// The sending side as a [`Role`].
struct Sender<'m, M> {
    client_id: &'m str,
    window: usize,
    qos: Qos,
    messages: &'m mut M,
    /// Packet id → payload length.
    unacknowledged: HashMap<u16, usize>,
    last_pkid: u16,
    last_settled: Micros,
    /// A message that the broker would not take.
    too_large: Option<PacketTooLarge>,
    pause: Pause,
}

impl<M: Messages> Sender<'_, M> {
    fn check(&self, now: Micros, patience: Duration) -> Result<(), SendError> {
        if let Some(too_large) = self.too_large {
            return Err(too_large.into());
        }
        let silent = now.since(self.last_settled);
        if self.unacknowledged.is_empty() || silent < patience {
            return Ok(());
        }
        Err(SendError::Unacknowledged { waiting: self.unacknowledged.len(), secs: silent.as_secs() })
    }

    /// How long until [`Role::pump`] has something to do on its own.
    fn wait(&self, now: Micros) -> Duration {
        match self.pause {
            Pause::Until(at) => at.since(now),
            Pause::None | Pause::Ended => Duration::MAX,
        }
    }

    fn free_pkid(&mut self) -> u16 {
        loop {
            // §2.3.1: never zero, never one that is in use.
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self.unacknowledged.contains_key(&self.last_pkid) {
                return self.last_pkid;
            }
        }
    }

    fn put(&mut self, now: Micros, message: Message, out: &mut Out) {
        let bytes = message.payload.len();
        let mut publish = Publish::new(message.topic, message.payload);
        publish.qos = self.qos;
        if self.qos == Qos::AtLeastOnce {
            publish.pkid = self.free_pkid();
        }
        match (out.publish(&publish), self.qos) {
            (Err(too_large), _) => self.too_large = Some(too_large),
            (Ok(()), Qos::AtMostOnce) => self.messages.settled(bytes),
            (Ok(()), Qos::AtLeastOnce) => {
                if self.unacknowledged.is_empty() {
                    self.last_settled = now;
                }
                self.unacknowledged.insert(publish.pkid, bytes);
            }
        }
    }
}

impl<M: Messages> Role for Sender<'_, M> {
    fn greeting(&self) -> Greeting {
        Greeting { client_id: self.client_id.into(), clean_session: true, will: None }
    }

    fn connected(&mut self, now: Micros, welcome: &Welcome, _out: &mut Out) {
        self.window = self.window.min(welcome.receive_maximum.into());
        self.last_settled = now;
    }

    fn received(&mut self, now: Micros, incoming: Incoming, _out: &mut Out) -> Result<(), LinkError> {
        match incoming {
            Incoming::Packet(Packet::PubAck(ack)) if ack.reason.is_failure() => {
                Err(LinkError::NotTaken(ack.reason))
            }
            Incoming::Packet(Packet::PubAck(ack)) => {
                // An acknowledgement of nothing that we know harms nobody.
                if let Some(bytes) = self.unacknowledged.remove(&ack.pkid) {
                    self.last_settled = now;
                    self.messages.settled(bytes);
                }
                Ok(())
            }
            Incoming::Packet(Packet::Publish(_)) | Incoming::Oversize(_) => Ok(()),
            Incoming::Packet(_) => {
                Err(LinkError::Protocol("a packet other than PUBACK to a client that only sends"))
            }
        }
    }

    fn pump(&mut self, now: Micros, out: &mut Out) {
        while out.len() < OUT_BYTES && self.unacknowledged.len() < self.window {
            match self.pause {
                Pause::Ended => return,
                Pause::Until(at) if at > now => return,
                _ => {}
            }
            self.pause = match self.messages.next(now) {
                Next::Message(message) => {
                    self.put(now, message, out);
                    Pause::None
                }
                Next::Wait(wait) => Pause::Until(now + wait.max(Duration::from_micros(1))),
                Next::End => Pause::Ended,
            };
        }
    }

    fn is_done(&mut self) -> bool {
        self.pause == Pause::Ended && self.unacknowledged.is_empty()
    }

    fn disconnected(&mut self, _: Micros, _: &LinkError) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::config::Protocol;
    use bytes::BytesMut;
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::{Packet, Publish};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as StdStream};

    /// `count` messages, then the end; a wait before each second one.
    struct Numbers {
        count: u32,
        given: u32,
        waited: bool,
        settled: Vec<usize>,
    }

    impl Numbers {
        fn new(count: u32) -> Self {
            Self { count, given: 0, waited: false, settled: Vec::new() }
        }
    }

    impl Messages for Numbers {
        fn next(&mut self, _now: Micros) -> Next {
            if self.given == self.count {
                return Next::End;
            }
            if self.given % 2 == 1 && !std::mem::replace(&mut self.waited, true) {
                return Next::Wait(Duration::from_millis(1));
            }
            self.waited = false;
            self.given += 1;
            let payload = Bytes::from(vec![7; self.given as usize]);
            Next::Message(Message { topic: format!("line/{}", self.given), payload })
        }

        fn settled(&mut self, payload_bytes: usize) {
            self.settled.push(payload_bytes);
        }
    }

    fn broker(port: u16) -> Broker {
        Broker {
            host: "127.0.0.1".into(),
            port,
            protocol: Protocol::V3_1_1,
            tls: None,
            login: None,
            client_id: "tool".into(),
            keep_alive: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(2),
            max_inflight: 3,
        }
    }

    /// A broker of a few lines: takes one connection, acknowledges through `answer`, returns what was
    /// published.
    fn serve(
        answer: impl Fn(&Publish, &mut Vec<u16>) + Send + 'static,
    ) -> (u16, std::thread::JoinHandle<Vec<Publish>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut buffer, mut published) = (BytesMut::new(), Vec::new());
            let mut owed = Vec::new();
            loop {
                // An error says that the packet is not whole yet.
                while let Ok(packet) = Packet::read(&mut buffer, 1 << 20) {
                    match packet {
                        Packet::Connect(_) => stream.write_all(&[0x20, 2, 0, 0]).unwrap(),
                        Packet::PingReq => stream.write_all(&[0xd0, 0]).unwrap(),
                        Packet::Publish(publish) => {
                            answer(&publish, &mut owed);
                            for pkid in owed.drain(..) {
                                let [high, low] = pkid.to_be_bytes();
                                stream.write_all(&[0x40, 2, high, low]).unwrap();
                            }
                            published.push(publish);
                        }
                        Packet::Disconnect => return published,
                        other => panic!("{other:?}"),
                    }
                }
                if read(&mut stream, &mut buffer) == 0 {
                    return published;
                }
            }
        });
        (port, thread)
    }

    fn read(stream: &mut StdStream, buffer: &mut BytesMut) -> usize {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).unwrap_or(0);
        buffer.extend_from_slice(&bytes[..length]);
        length
    }

    #[test]
    fn every_message_is_acknowledged_before_the_goodbye() {
        let (port, served) = serve(|publish, owed| owed.push(publish.pkid));
        let mut numbers = Numbers::new(20);
        send(&broker(port), Qos::AtLeastOnce, &mut numbers, &SystemClock).unwrap();
        assert_eq!(numbers.settled, (1..=20).collect::<Vec<_>>());
        let published = served.join().unwrap();
        assert_eq!(published.len(), 20);
        assert_eq!(published[4].topic, "line/5");
        assert_eq!(published[4].payload, vec![7; 5]);
        assert!(published.iter().all(|publish| publish.qos == QoS::AtLeastOnce && publish.pkid > 0));
    }

    #[test]
    fn at_qos_0_nobody_waits_for_acknowledgements() {
        let (port, served) = serve(|_, _| {});
        let mut numbers = Numbers::new(9);
        send(&broker(port), Qos::AtMostOnce, &mut numbers, &SystemClock).unwrap();
        assert_eq!(numbers.settled.len(), 9);
        assert_eq!(served.join().unwrap().len(), 9);
    }

    #[test]
    fn a_broker_that_acknowledges_nothing_gets_a_window_of_messages_and_then_an_error() {
        let (port, served) = serve(|_, _| {});
        let mut numbers = Numbers::new(50);
        let error = send(&broker(port), Qos::AtLeastOnce, &mut numbers, &SystemClock).unwrap_err();
        assert!(matches!(error, SendError::Unacknowledged { waiting: 3, .. }), "{error}");
        assert_eq!(served.join().unwrap().len(), 3);
        assert!(numbers.settled.is_empty());
    }

    #[test]
    fn packet_ids_wrap_past_zero_and_past_those_in_use() {
        let mut numbers = Numbers::new(0);
        let mut sender = Sender {
            client_id: "tool",
            window: 3,
            qos: Qos::AtLeastOnce,
            messages: &mut numbers,
            unacknowledged: HashMap::from([(1, 0), (2, 0)]),
            last_pkid: u16::MAX,
            last_settled: Micros(0),
            too_large: None,
            pause: Pause::None,
        };
        assert_eq!(sender.free_pkid(), 3);
    }

    #[test]
    fn nobody_there_is_said_with_host_and_port() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = send(&broker(port), Qos::AtLeastOnce, &mut Numbers::new(1), &SystemClock).unwrap_err();
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    }
}
