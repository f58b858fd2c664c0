//! The network as a device sees it, in one process with the load: takes its connections, feeds its
//! subscription, counts its answers.
//!
//! For the question what a device can do when broker, camera and listener have machines of their own,
//! as they have in a factory. It speaks as much of MQTT 3.1.1 as a device's connections need, and a
//! frame costs it a microsecond, so that the two cores are the device's.

use std::collections::HashMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::load::{pace, publish_packet, read_some, whole_packets};

/// Listens on loopback until the process ends.
pub(crate) struct Hub {
    /// For the device's `url`.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// By topic: the connection that asked for it.
    subscribers: Mutex<HashMap<String, Arc<Mutex<TcpStream>>>>,
    /// By topic: the newest message that is no answer.
    newest: Mutex<HashMap<String, Vec<u8>>>,
    /// Answers are the messages that hold this word.
    word: Mutex<Vec<u8>>,
    answered: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

impl Hub {
    /// Takes connections from now on.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared::default());
        let hub = Self { port, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        hub
    }

    /// Waits until somebody has subscribed to `topic`.
    pub(crate) fn wait_for_subscriber(&self, topic: &str) {
        let patience = Instant::now() + Duration::from_secs(20);
        while !lock(&self.shared.subscribers).contains_key(topic) {
            assert!(Instant::now() < patience, "nobody subscribed to {topic}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The newest message on `topic`.
    pub(crate) fn newest(&self, topic: &str) -> Option<Vec<u8>> {
        lock(&self.shared.newest).get(topic).cloned()
    }

    /// From now on messages with `word` are counted, from zero.
    pub(crate) fn count(&self, word: &str) {
        *lock(&self.shared.word) = word.into();
        self.shared.answered.store(0, Ordering::Relaxed);
    }

    /// Answers since [`Hub::count`].
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Sends `rate` frames a second for `duration` to the subscriber of `topic`.
    pub(crate) fn offer(
        &self,
        topic: &str,
        qos: u8,
        rate: f64,
        duration: Duration,
        frame: impl Fn(usize) -> Vec<u8>,
    ) -> usize {
        let to = lock(&self.shared.subscribers)[topic].clone();
        let mut out = Vec::new();
        pace(rate, duration, |ripe, _| {
            out.clear();
            for n in ripe {
                // Ids come round; a device holds fewer than 65,535 frames at once.
                let packet_id = (qos > 0).then_some((n % 65_535) as u16 + 1);
                out.extend(publish_packet(topic, packet_id, &frame(n)));
            }
            lock(&to).write_all(&out).expect("the device reads");
        })
    }
}

impl Shared {
    /// One connection until it ends, and its subscriptions with it.
    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).expect("TCP knows nodelay");
        let writer = Arc::new(Mutex::new(stream.try_clone().expect("a socket can be shared")));
        self.converse(stream, &writer);
        lock(&self.subscribers).retain(|_, subscriber| !Arc::ptr_eq(subscriber, &writer));
    }

    fn converse(&self, mut stream: TcpStream, writer: &Arc<Mutex<TcpStream>>) {
        let (mut held, mut answers) = (Vec::new(), Vec::new());
        while read_some(&mut stream, &mut held) {
            whole_packets(&mut held, |kind, body| self.received(kind, body, writer, &mut answers));
            if !answers.is_empty() && lock(writer).write_all(&answers).is_err() {
                return;
            }
            answers.clear();
        }
    }

    fn received(&self, kind: u8, body: &[u8], writer: &Arc<Mutex<TcpStream>>, answers: &mut Vec<u8>) {
        match kind >> 4 {
            1 => answers.extend([0x20, 2, 0, 0]), // CONNECT: CONNACK
            3 => self.published(kind, body, answers),
            8 => {
                // SUBSCRIBE to one or several topics: SUBACK grants what is asked for.
                let (mut at, mut codes) = (2, Vec::new());
                while at < body.len() {
                    let length = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
                    let topic = String::from_utf8_lossy(&body[at + 2..at + 2 + length]).into_owned();
                    codes.push(body[at + 2 + length]);
                    lock(&self.subscribers).insert(topic, writer.clone());
                    at += 3 + length;
                }
                answers.extend([0x90, 2 + codes.len() as u8, body[0], body[1]]);
                answers.extend(codes);
            }
            12 => answers.extend([0xD0, 0]), // PINGREQ: PINGRESP
            _ => {}
        }
    }

    fn published(&self, kind: u8, body: &[u8], answers: &mut Vec<u8>) {
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let mut payload = &body[2 + topic..];
        if kind & 0b110 != 0 {
            answers.extend([0x40, 2, payload[0], payload[1]]);
            payload = &payload[2..];
        }
        let word = lock(&self.word);
        if !word.is_empty() && payload.windows(word.len()).any(|part| part == &word[..]) {
            self.answered.fetch_add(1, Ordering::Relaxed);
        } else {
            let topic = String::from_utf8_lossy(&body[2..2 + topic]).into_owned();
            lock(&self.newest).insert(topic, payload.to_vec());
        }
    }
}
