//! An MQTT 3.1.1 client by hand, for load: a packet is bytes written once, an answer is bytes looked
//! at once. Its cost hardly shows beside the programs that it loads.

use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A connection that only publishes.
pub(crate) struct Sender {
    stream: BufWriter<TcpStream>,
    qos: u8,
    packet_id: u16,
    /// PUBACKs so far.
    pub(crate) acknowledged: Arc<AtomicU64>,
}

/// A connection that only listens, at QoS 0.
pub(crate) struct Listener {
    /// Messages so far.
    pub(crate) heard: Arc<AtomicU64>,
    messages: Receiver<(Instant, Vec<u8>)>,
}

fn connect(port: u16, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    stream.set_nodelay(true).expect("TCP knows nodelay");
    // §3.1: protocol "MQTT" level 4, clean session, keep-alive 0 (off).
    let mut body = b"\x00\x04MQTT\x04\x02\x00\x00".to_vec();
    text(&mut body, id);
    stream.write_all(&packet(0x10, &body)).expect("the broker reads");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!(answer[3], 0, "CONNACK refuses with {}", answer[3]);
    stream
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut length = body.len();
    loop {
        let more = if length >= 128 { 0x80 } else { 0 };
        bytes.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// Calls `each` with kind and body of every packet until the connection ends.
fn read_packets(mut stream: TcpStream, mut each: impl FnMut(u8, &[u8])) {
    let mut held = Vec::new();
    while read_some(&mut stream, &mut held) {
        whole_packets(&mut held, &mut each);
    }
}

/// Appends what has come, at least a byte of it; `false`: the connection ended.
pub(super) fn read_some(stream: &mut TcpStream, held: &mut Vec<u8>) -> bool {
    let before = held.len();
    held.resize(before + (1 << 16), 0);
    let count = stream.read(&mut held[before..]).unwrap_or(0);
    held.truncate(before + count);
    count > 0
}

/// Calls `each` with kind and body of every whole packet, and takes them out.
pub(super) fn whole_packets(held: &mut Vec<u8>, mut each: impl FnMut(u8, &[u8])) {
    let mut at = 0;
    'packets: while held.len() > at + 1 {
        let (mut length, mut digits) = (0, 0);
        loop {
            let Some(digit) = held.get(at + 1 + digits) else { break 'packets };
            length |= usize::from(digit & 0x7f) << (7 * digits);
            digits += 1;
            if digit & 0x80 == 0 {
                break;
            }
        }
        let begin = at + 1 + digits;
        let Some(body) = held.get(begin..begin + length) else { break };
        each(held[at], body);
        at = begin + length;
    }
    held.drain(..at);
}

/// A PUBLISH as it goes over the wire; `packet_id` at QoS 1.
pub(super) fn publish_packet(topic: &str, packet_id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    text(&mut body, topic);
    body.extend(packet_id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend_from_slice(payload);
    packet(0x30 | u8::from(packet_id.is_some()) << 1, &body)
}

impl Sender {
    /// Connects, to publish at `qos` 0 or 1.
    pub(crate) fn connect(port: u16, id: &str, qos: u8) -> Self {
        let stream = connect(port, id);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (reader, count) =
            (stream.try_clone().expect("a socket can be shared"), Arc::clone(&acknowledged));
        std::thread::spawn(move || {
            read_packets(reader, |kind, _| {
                if kind == 0x40 {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        Self { stream: BufWriter::with_capacity(1 << 16, stream), qos, packet_id: 0, acknowledged }
    }

    /// Queues one message; `flush` sends it.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let bytes = publish_packet(topic, (self.qos > 0).then_some(self.packet_id), payload);
        self.stream.write_all(&bytes).expect("the broker reads");
    }

    /// Sends what was queued.
    pub(crate) fn flush(&mut self) {
        self.stream.flush().expect("the broker reads");
    }
}

impl Listener {
    /// Connects and subscribes.
    pub(crate) fn connect(port: u16, id: &str, filter: &str) -> Self {
        Self::listen(port, id, filter, None)
    }

    /// Only counts messages that hold `word`; keeping them would cost more than many a daemon.
    pub(crate) fn counting(port: u16, id: &str, filter: &str, word: &str) -> Self {
        Self::listen(port, id, filter, Some(word.as_bytes().to_vec()))
    }

    fn listen(port: u16, id: &str, filter: &str, word: Option<Vec<u8>>) -> Self {
        let mut stream = connect(port, id);
        let mut body = vec![0, 1];
        text(&mut body, filter);
        body.push(0);
        stream.write_all(&packet(0x82, &body)).expect("the broker reads");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("the broker answers");
        assert!(answer[0] == 0x90 && answer[4] < 0x80, "SUBACK refuses {filter}: {answer:?}");
        let heard = Arc::new(AtomicU64::new(0));
        let (count, (sender, messages)) = (Arc::clone(&heard), channel());
        std::thread::spawn(move || {
            read_packets(stream, |kind, body| {
                if kind & 0xf0 != 0x30 {
                    return;
                }
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                match &word {
                    Some(word) => {
                        let held = body.windows(word.len()).any(|part| part == word);
                        count.fetch_add(u64::from(held), Ordering::Relaxed);
                    }
                    None => {
                        count.fetch_add(1, Ordering::Relaxed);
                        let _ = sender.send((Instant::now(), body[2 + topic..].to_vec()));
                    }
                }
            });
        });
        Self { heard, messages }
    }

    /// The next message with the moment at which it was read.
    pub(crate) fn next(&self, timeout: Duration) -> Option<(Instant, Vec<u8>)> {
        self.messages.recv_timeout(timeout).ok()
    }
}

/// Calls `send` with the numbers of the frames that are due, `rate` a second for `duration`, every 2 ms.
/// Returns how many there were.
pub(crate) fn pace(
    rate: f64,
    duration: Duration,
    mut send: impl FnMut(std::ops::Range<usize>, Instant),
) -> usize {
    let begun = Instant::now();
    let total = (rate * duration.as_secs_f64()) as usize;
    let mut sent = 0;
    while sent < total {
        let ripe = ((begun.elapsed().as_secs_f64() * rate) as usize + 1).min(total);
        send(sent..ripe, begun);
        sent = ripe;
        let next = begun + Duration::from_secs_f64(sent as f64 / rate);
        std::thread::sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(2)));
    }
    total
}

/// Sends `rate` frames a second for `duration`; `frame` writes topic and payload of the frame with
/// this number. Notes when each was due, so that a late sender does not flatter.
pub(crate) fn offer(
    sender: &mut Sender,
    rate: f64,
    duration: Duration,
    due: &Mutex<Vec<Instant>>,
    mut frame: impl FnMut(usize) -> (String, Vec<u8>),
) -> usize {
    pace(rate, duration, |ripe, begun| {
        {
            let mut due = due.lock().expect("no reader panics while it holds the lock");
            due.extend(ripe.clone().map(|n| begun + Duration::from_secs_f64(n as f64 / rate)));
        }
        for n in ripe {
            let (topic, payload) = frame(n);
            sender.publish(&topic, &payload);
        }
        sender.flush();
    })
}
