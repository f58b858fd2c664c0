//! The tests' own MQTT client: another program on the same broker.
//!
//! It rests on rumqttc's ordinary blocking client and its ordinary acknowledgements, not on the
//! daemon's protocol code. It keeps everything that it hears, in order.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{Event, MqttOptions, NetworkOptions, Outgoing, Packet, QoS};
use serde_json::Value;

use super::SOON;

/// One message as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Concrete topic.
    pub(crate) topic: String,
    /// Bytes as they came.
    pub(crate) payload: Vec<u8>,
    /// The broker had kept it.
    pub(crate) retain: bool,
    /// At which quality of service it reached us.
    pub(crate) qos: QoS,
}

impl Message {
    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The payload as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{}: not JSON ({error}): {}", self.topic, self.text()))
    }
}

/// What the client's thread has seen so far.
#[derive(Default)]
struct Seen {
    messages: Vec<Message>,
    filters: Vec<(String, QoS)>,
    connects: usize,
    subacks: Vec<bool>,
    pubacks: usize,
    refused: Option<String>,
    closing: bool,
}

/// A connected client.
pub(crate) struct Client {
    client: rumqttc::Client,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    published_qos1: usize,
    thread: Option<JoinHandle<()>>,
}

fn hold(seen: &(Mutex<Seen>, Condvar)) -> MutexGuard<'_, Seen> {
    // A test that gives up prints what was heard while it holds the lock; the rest may still read it.
    seen.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Connects without a login and waits for the broker's answer.
    pub(crate) fn connect(port: u16, id: &str) -> Self {
        Self::connect_as(port, id, None)
    }

    /// Connects with a login and waits for the broker's answer.
    pub(crate) fn connect_as(port: u16, id: &str, login: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_max_packet_size(64 << 20, 64 << 20).set_keep_alive(Duration::from_secs(30));
        // A session, so that nothing published while a broker restarts passes us by.
        options.set_inflight(100).set_clean_session(false);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = rumqttc::Client::new(options, 100);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        connection.eventloop.set_network_options(network);

        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let (theirs, again) = (Arc::clone(&seen), client.clone());
        let thread = std::thread::Builder::new()
            .name(format!("client {id}"))
            .spawn(move || {
                for event in connection.iter() {
                    let mut seen = hold(&theirs);
                    match event {
                        Ok(Event::Incoming(Packet::Publish(publish))) => seen.messages.push(Message {
                            topic: publish.topic,
                            payload: publish.payload.to_vec(),
                            retain: publish.retain,
                            qos: publish.qos,
                        }),
                        Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                            seen.connects += 1;
                            if seen.connects > 1 && !ack.session_present {
                                for (filter, qos) in seen.filters.clone() {
                                    let _ = again.try_subscribe(filter, qos);
                                }
                            }
                        }
                        Ok(Event::Incoming(Packet::SubAck(ack))) => seen.subacks.push(
                            ack.return_codes
                                .iter()
                                .all(|code| matches!(code, rumqttc::SubscribeReasonCode::Success(_))),
                        ),
                        Ok(Event::Incoming(Packet::PubAck(_))) => seen.pubacks += 1,
                        Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                        Ok(_) => {}
                        Err(error) => {
                            seen.refused = Some(error.to_string());
                            if seen.closing {
                                return;
                            }
                            drop(seen);
                            std::thread::sleep(Duration::from_millis(50));
                        }
                    }
                    theirs.1.notify_all();
                }
            })
            .expect("a thread can be started");
        let this = Self { client, seen, published_qos1: 0, thread: Some(thread) };
        this.until("a CONNACK", SOON, |seen| (seen.connects > 0).then_some(()));
        this
    }

    fn until<T>(&self, what: &str, timeout: Duration, probe: impl Fn(&Seen) -> Option<T>) -> T {
        self.try_until(timeout, probe).unwrap_or_else(|| {
            let seen = hold(&self.seen);
            let last: Vec<String> = seen
                .messages
                .iter()
                .rev()
                .take(12)
                .map(|message| {
                    let text: String = message.text().chars().take(300).collect();
                    format!("    {}: {text}", message.topic)
                })
                .collect();
            panic!(
                "{what} did not come within {timeout:?}; {} messages came, newest first:\n{}\n    last error: {:?}",
                seen.messages.len(),
                last.join("\n"),
                seen.refused
            )
        })
    }

    fn try_until<T>(&self, timeout: Duration, probe: impl Fn(&Seen) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut seen = hold(&self.seen);
        loop {
            if let Some(answer) = probe(&seen) {
                return Some(answer);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Subscribes and waits for the broker's consent; false: it refused.
    pub(crate) fn subscribe(&self, filter: &str, qos: QoS) -> bool {
        let before = {
            let mut seen = hold(&self.seen);
            seen.filters.push((filter.into(), qos));
            seen.subacks.len()
        };
        self.client.subscribe(filter, qos).expect("the client's thread is alive");
        self.until("a SUBACK", SOON, |seen| seen.subacks.get(before).copied())
    }

    /// Hands one message to the client's thread; waits only when 100 wait already.
    pub(crate) fn publish(&mut self, topic: &str, qos: QoS, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, qos, false, payload).expect("the client's thread is alive");
        if qos == QoS::AtLeastOnce {
            self.published_qos1 += 1;
        }
    }

    /// Waits until the broker has acknowledged every QoS 1 message so far.
    pub(crate) fn flush(&self) {
        let published = self.published_qos1;
        self.until("the last PUBACK", SOON * 3, |seen| (seen.pubacks >= published).then_some(()));
    }

    /// Everything heard on a topic so far.
    pub(crate) fn heard(&self, topic: &str) -> Vec<Message> {
        hold(&self.seen).messages.iter().filter(|message| message.topic == topic).cloned().collect()
    }

    /// Forgets what was heard.
    pub(crate) fn forget(&self) {
        hold(&self.seen).messages.clear();
    }

    /// The first message on `topic` that `accept` takes, heard already or to come; panics with what
    /// came instead.
    pub(crate) fn wait_for(
        &self,
        topic: &str,
        timeout: Duration,
        accept: impl Fn(&Message) -> bool,
    ) -> Message {
        self.until(&format!("the awaited message on {topic}"), timeout, |seen| {
            seen.messages.iter().find(|message| message.topic == topic && accept(message)).cloned()
        })
    }

    /// The first `count` messages on a topic.
    pub(crate) fn wait_count(&self, topic: &str, count: usize, timeout: Duration) -> Vec<Message> {
        self.until(&format!("message {count} on {topic}"), timeout, |seen| {
            let found: Vec<&Message> =
                seen.messages.iter().filter(|message| message.topic == topic).collect();
            (found.len() >= count).then(|| found.into_iter().cloned().collect())
        })
    }

    /// Waits until `enough` says that what was heard on `topic` suffices; false: time was up.
    pub(crate) fn wait_until(
        &self,
        topic: &str,
        timeout: Duration,
        enough: impl Fn(&[&Message]) -> bool,
    ) -> bool {
        self.try_until(timeout, |seen| {
            let found: Vec<&Message> =
                seen.messages.iter().filter(|message| message.topic == topic).collect();
            enough(&found).then_some(())
        })
        .is_some()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        hold(&self.seen).closing = true;
        let _ = self.client.try_disconnect();
        if let Some(thread) = self.thread.take() {
            // A client whose broker is gone ends by its next error; a panicking test does not wait.
            if !std::thread::panicking() {
                let _ = thread.join();
            }
        }
    }
}
