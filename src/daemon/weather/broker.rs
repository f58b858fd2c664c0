//! A broker as a machine: bytes and time in, bytes out. What it accepted, and what it knows of answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::base::Micros;
use crate::config::{Protocol, Qos};
use crate::mqtt::packet::{Out, Packet, Publish, read};

/// Frames that it sends without an acknowledgement.
const WINDOW: usize = 20;
/// What it takes over an acknowledgement: several of our publications are under way at once.
const ACKNOWLEDGES_AFTER: Duration = Duration::from_millis(15);

/// One frame on its way to us.
struct Sent {
    pkid: u16,
    frame: u64,
    /// On an earlier connection.
    before: bool,
    /// On this one.
    now: bool,
}

/// What it keeps for the intake connection.
#[derive(Default)]
struct Session {
    subscribed: bool,
    sent: VecDeque<Sent>,
    queue: VecDeque<u64>,
}

/// Its end of a connection.
#[derive(Default)]
pub(super) struct Conn {
    bytes: BytesMut,
    is_intake: bool,
    /// Packet ids in the order in which their frames went out.
    awaited: VecDeque<u16>,
    /// Publications to be answered: when, which, and the code.
    owed: VecDeque<(Micros, u16, u8)>,
}

pub(super) struct Broker {
    protocol: Protocol,
    session: Option<Session>,
    next_pkid: u16,
    /// Publications that it takes at once, from the next connection on.
    pub(super) receive_maximum: u16,
    /// The code with which it refuses connections for now.
    pub(super) refuses: Option<u8>,
    /// The code with which it refuses publications for now.
    pub(super) takes_nothing: Option<u8>,
    /// Frame → the deliveries under which it was answered.
    pub(super) answers: BTreeMap<u64, BTreeSet<String>>,
    /// Frames whose acknowledgement has come.
    pub(super) acknowledged: u64,
    /// Promises that were broken.
    pub(super) complaints: Vec<String>,
}

/// A packet to the daemon, and the frame in it.
pub(super) type Packets = Vec<(Bytes, Option<u64>)>;

impl Broker {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            session: None,
            next_pkid: 0,
            receive_maximum: u16::MAX,
            refuses: None,
            takes_nothing: None,
            answers: BTreeMap::new(),
            acknowledged: 0,
            complaints: Vec::new(),
        }
    }

    fn is_v5(&self) -> bool {
        self.protocol == Protocol::V5
    }

    /// A sender's frame. Whether it is kept for us: a broker drops what nobody has subscribed to.
    pub(super) fn publish(&mut self, frame: u64) -> bool {
        let Some(session) = self.session.as_mut().filter(|session| session.subscribed) else { return false };
        session.queue.push_back(frame);
        true
    }

    /// It forgets its sessions; the frames that are gone with them.
    pub(super) fn forget(&mut self) -> Vec<u64> {
        let session = self.session.take().unwrap_or_default();
        session.sent.iter().map(|sent| sent.frame).chain(session.queue).collect()
    }

    /// Bytes from the daemon; what is said to that. `None`: it ends the connection.
    pub(super) fn received(&mut self, now: Micros, conn: &mut Conn, bytes: &[u8]) -> Option<Packets> {
        conn.bytes.extend_from_slice(bytes);
        let mut packets = Vec::new();
        while let Some((first, body)) = whole_packet(&mut conn.bytes) {
            packets.extend(self.packet(now, conn, first, body)?);
        }
        Some(packets)
    }

    fn packet(&mut self, now: Micros, conn: &mut Conn, first: u8, mut body: Bytes) -> Option<Packets> {
        let said = |bytes: &[u8]| Some(vec![(Bytes::copy_from_slice(bytes), None)]);
        match first >> 4 {
            1 => self.greeted(conn, body),
            8 => {
                let pkid = body.get_u16();
                let session = self.session.get_or_insert_default();
                session.subscribed = true;
                // One filter, at QoS 1.
                let properties: &[u8] = if self.protocol == Protocol::V5 { &[0] } else { &[] };
                let [high, low] = pkid.to_be_bytes();
                said(&[&[0x90, 3 + properties.len() as u8, high, low], properties, &[1]].concat())
            }
            3 => {
                let Ok(Packet::Publish(publish)) = read::packet(self.protocol, first, body) else {
                    return None;
                };
                self.published(now, conn, &publish);
                Some(Vec::new())
            }
            4 => {
                self.taken(conn, body.get_u16());
                Some(Vec::new())
            }
            12 => said(&[0xd0, 0]),
            _ => None,
        }
    }

    fn greeted(&mut self, conn: &mut Conn, mut body: Bytes) -> Option<Packets> {
        // §3.1.2: name, level, flags, keep-alive.
        body.advance(7);
        let clean = body.get_u8() & 0x02 != 0;
        body.advance(2);
        if self.is_v5() {
            let properties = usize::from(body.get_u8());
            body.advance(properties);
        }
        conn.is_intake = !clean;
        let mut present = false;
        if conn.is_intake {
            present = self.session.is_some();
            let session = self.session.get_or_insert_default();
            for sent in &mut session.sent {
                (sent.before, sent.now) = (sent.before || sent.now, false);
            }
        }
        let code = self.refuses.unwrap_or(0);
        let present = u8::from(present && code == 0);
        let [high, low] = self.receive_maximum.to_be_bytes();
        let ack: Vec<u8> = match (self.is_v5(), code) {
            (true, 0) => vec![0x20, 6, present, code, 3, 0x21, high, low],
            (true, _) => vec![0x20, 3, present, code, 0],
            // §3.2.2.3: server unavailable.
            (false, _) => vec![0x20, 2, present, if code == 0 { 0 } else { 3 }],
        };
        Some(vec![(ack.into(), None)])
    }

    fn published(&mut self, now: Micros, conn: &mut Conn, publish: &Publish) {
        let code = self.takes_nothing.filter(|_| self.is_v5()).unwrap_or(0);
        if publish.qos == Qos::AtLeastOnce {
            conn.owed.push_back((now + ACKNOWLEDGES_AFTER, publish.pkid, code));
        }
        // MQTT 3.1.1 knows no such limit.
        if self.is_v5() && conn.owed.len() > usize::from(self.receive_maximum) {
            self.complaints.push(format!(
                "{} publications at once; it takes {}",
                conn.owed.len(),
                self.receive_maximum
            ));
        }
        if publish.topic != "answers" || code != 0 {
            return;
        }
        let text = String::from_utf8_lossy(&publish.payload).into_owned();
        let (frame, delivery) = text.split_once(':').expect("answers name frame and delivery");
        let frame = frame.parse().expect("frames are numbers");
        self.answers.entry(frame).or_default().insert(delivery.to_owned());
    }

    /// PUBACK of a frame: only after its answer, and in the order in which frames went out.
    fn taken(&mut self, conn: &mut Conn, pkid: u16) {
        if conn.awaited.pop_front() != Some(pkid) {
            self.complaints.push(format!("packet {pkid} is acknowledged out of order"));
        }
        let Some(session) = &mut self.session else { return };
        let Some(at) = session.sent.iter().position(|sent| sent.pkid == pkid) else { return };
        let frame = session.sent.remove(at).expect("it was found a moment ago").frame;
        self.acknowledged += 1;
        if !self.answers.contains_key(&frame) {
            self.complaints.push(format!("frame {frame} is acknowledged without an answer"));
        }
    }

    /// What is due on this connection.
    pub(super) fn pump(&mut self, now: Micros, conn: &mut Conn) -> Packets {
        let mut packets = Vec::new();
        while conn.owed.front().is_some_and(|(at, ..)| now >= *at) {
            let (_, pkid, code) = conn.owed.pop_front().expect("it was looked at");
            let [high, low] = pkid.to_be_bytes();
            let ack = if code == 0 { vec![0x40, 2, high, low] } else { vec![0x40, 3, high, low, code] };
            packets.push((ack.into(), None));
        }
        if !conn.is_intake || self.refuses.is_some() {
            return packets;
        }
        let Some(session) = &mut self.session else { return packets };
        while session.sent.len() < WINDOW
            && let Some(frame) = session.queue.pop_front()
        {
            let mut free = || {
                self.next_pkid = self.next_pkid.checked_add(1).unwrap_or(1);
                self.next_pkid
            };
            let pkid = std::iter::repeat_with(&mut free)
                .find(|pkid| session.sent.iter().all(|sent| sent.pkid != *pkid))
                .expect("there are more ids than frames under way");
            session.sent.push_back(Sent { pkid, frame, before: false, now: false });
        }
        for sent in session.sent.iter_mut().filter(|sent| !sent.now) {
            sent.now = true;
            conn.awaited.push_back(sent.pkid);
            let publish = Publish {
                dup: sent.before,
                qos: Qos::AtLeastOnce,
                pkid: sent.pkid,
                ..Publish::new("frames", sent.frame.to_string())
            };
            let mut out = Out::new(self.protocol);
            out.publish(&publish).expect("it is small");
            packets.push((out.split().freeze(), Some(sent.frame)));
        }
        packets
    }

    /// When there is something to do on this connection, if ever.
    pub(super) fn due(conn: &Conn) -> Option<Micros> {
        conn.owed.front().map(|(at, ..)| *at)
    }
}

/// The first byte and the body of a whole packet (§2.2).
fn whole_packet(bytes: &mut BytesMut) -> Option<(u8, Bytes)> {
    let (mut length, mut digits) = (0, 0);
    loop {
        let digit = *bytes.get(1 + digits)?;
        length |= usize::from(digit & 0x7f) << (7 * digits);
        digits += 1;
        if digit & 0x80 == 0 {
            break;
        }
    }
    let header = 1 + digits;
    if bytes.len() < header + length {
        return None;
    }
    let first = bytes[0];
    bytes.advance(header);
    Some((first, bytes.split_to(length).freeze()))
}
