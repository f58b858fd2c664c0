//! A broker that ends its connections again and again, each time for the next reason that MQTT 5 knows,
//! and remembers what it owes: what a cluster does while it is updated, in seconds.
//!
//! MQTT 5 by rumqttc's codec, one thread a connection.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Packet, PingResp, PubAck, Publish, SubAck, SubscribeReasonCode,
};

/// Frames that it sends without an acknowledgement.
const WINDOW: usize = 20;

struct Inner {
    topic: &'static str,
    frames: std::vec::IntoIter<Vec<u8>>,
    /// Sent and not acknowledged, by packet id: its memory of the session.
    owed: BTreeMap<u16, Vec<u8>>,
    last_pkid: u16,
    /// Messages at QoS 1 that reached it: topic and payload.
    heard: Vec<(String, Vec<u8>)>,
    /// Codes that it has yet to leave with: the connection that brings frames, the one that takes answers.
    leaves_with: [std::vec::IntoIter<u8>; 2],
}

/// A running one.
pub(crate) struct Leaving {
    /// Plain MQTT on 127.0.0.1.
    pub(crate) port: u16,
    inner: Arc<Mutex<Inner>>,
}

impl Leaving {
    /// Sends `frames` to whoever subscribes to `topic`. Each of its two connections ends with each of
    /// `codes`, after `packets` messages or acknowledgements that it got on it; what it had just got then is lost.
    pub(crate) fn start(topic: &'static str, frames: Vec<Vec<u8>>, codes: &[u8], packets: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let inner = Arc::new(Mutex::new(Inner {
            topic,
            frames: frames.into_iter(),
            owed: BTreeMap::new(),
            last_pkid: 0,
            heard: Vec::new(),
            leaves_with: [Vec::from(codes).into_iter(), Vec::from(codes).into_iter()],
        }));
        let accepting = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let inner = accepting.clone();
                std::thread::spawn(move || serve(stream, &inner, packets));
            }
        });
        Self { port, inner }
    }

    /// Messages that reached it and were acknowledged.
    pub(crate) fn heard(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.inner).heard.clone()
    }

    /// Frames that it still owes or has not sent, and reasons that it has yet to leave with.
    pub(crate) fn left(&self) -> (usize, usize) {
        let inner = lock(&self.inner);
        let frames = inner.owed.len() + inner.frames.len();
        (frames, inner.leaves_with.iter().map(ExactSizeIterator::len).sum())
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection to its end, which may be the broker's.
fn serve(mut stream: TcpStream, inner: &Mutex<Inner>, packets: usize) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(1))).ok()?;
    let (mut buffer, mut brings_frames, mut got) = (BytesMut::new(), false, 0);
    loop {
        let mut bytes = [0; 16 * 1024];
        match stream.read(&mut bytes) {
            Ok(0) => return None,
            Ok(length) => buffer.extend_from_slice(&bytes[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
        while let Ok(packet) = Packet::read(&mut buffer, None) {
            let counts = match &packet {
                Packet::PubAck(_) => true,
                Packet::Publish(publish) => publish.qos == QoS::AtLeastOnce,
                _ => false,
            };
            got += usize::from(counts);
            if counts && got >= packets {
                let code = lock(inner).leaves_with[usize::from(!brings_frames)].next();
                if let Some(code) = code {
                    return stream.write_all(&[0xE0, 2, code, 0]).ok();
                }
            }
            match packet {
                Packet::Connect(..) => {
                    let session_present = !lock(inner).owed.is_empty();
                    let ack = ConnAck { session_present, code: ConnectReturnCode::Success, properties: None };
                    write(&mut stream, &Packet::ConnAck(ack))?;
                }
                Packet::Subscribe(subscribe) => {
                    let granted =
                        subscribe.filters.iter().map(|filter| SubscribeReasonCode::Success(filter.qos));
                    let ack =
                        SubAck { pkid: subscribe.pkid, return_codes: granted.collect(), properties: None };
                    write(&mut stream, &Packet::SubAck(ack))?;
                    let again = lock(inner).owed.clone();
                    for (pkid, frame) in again {
                        send(&mut stream, inner, pkid, frame, true)?;
                    }
                    brings_frames = true;
                }
                Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => {
                    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                    lock(inner).heard.push((topic, publish.payload.to_vec()));
                    write(&mut stream, &Packet::PubAck(PubAck::new(publish.pkid, None)))?;
                }
                Packet::PubAck(ack) => {
                    lock(inner).owed.remove(&ack.pkid);
                }
                Packet::PingReq(_) => write(&mut stream, &Packet::PingResp(PingResp))?,
                Packet::Disconnect(_) => return None,
                _ => {}
            }
        }
        if brings_frames {
            while let Some((pkid, frame)) = next(inner) {
                send(&mut stream, inner, pkid, frame, false)?;
            }
        }
    }
}

/// The next frame, with its packet id, while the window has room.
fn next(inner: &Mutex<Inner>) -> Option<(u16, Vec<u8>)> {
    let mut inner = lock(inner);
    if inner.owed.len() >= WINDOW {
        return None;
    }
    let frame = inner.frames.next()?;
    inner.last_pkid += 1;
    let pkid = inner.last_pkid;
    inner.owed.insert(pkid, frame.clone());
    Some((pkid, frame))
}

fn send(stream: &mut TcpStream, inner: &Mutex<Inner>, pkid: u16, frame: Vec<u8>, dup: bool) -> Option<()> {
    let mut publish = Publish::new(lock(inner).topic, QoS::AtLeastOnce, frame, None);
    (publish.pkid, publish.dup) = (pkid, dup);
    write(stream, &Packet::Publish(publish))
}

fn write(stream: &mut TcpStream, packet: &Packet) -> Option<()> {
    let mut out = BytesMut::new();
    packet.write(&mut out, None).expect("packets of ours can be encoded");
    stream.write_all(&out).ok()
}
