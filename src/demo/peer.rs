//! The other side of the line: ordinary rumqttc clients, as anybody would write them.
//!
//! They share no code with the daemon, so that the demo shows two parties that only MQTT joins.
//! Sending and receiving are separate connections: on one, Nagle's algorithm and delayed
//! acknowledgements add 40 ms to each answer (`docs/reliability.md`).

use std::io;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::{Client, Connection, Event, MqttOptions, NetworkOptions, Packet, QoS, SubscribeReasonCode};

use super::broker::MAX_PACKET_BYTES;

/// For CONNACK, SUBACK and the last PUBACK on loopback.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that wait for the event loop; few, so that a publish blocks instead of queueing up.
const REQUESTS: usize = 8;

/// Why a client of ours cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No thread for its event loop.
    #[error("cannot start the thread of client {name}")]
    Thread {
        /// Its client id.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The event loop ended with an error.
    #[error("client {name} lost the demo's broker: {why}")]
    Lost {
        /// Its client id.
        name: &'static str,
        /// In the words of rumqttc.
        why: String,
    },
    /// Nothing came in time.
    #[error("client {name} waited {} s for {what}", PATIENCE.as_secs())]
    Late {
        /// Its client id.
        name: &'static str,
        /// What it waited for.
        what: &'static str,
    },
}

enum News {
    Ready,
    Acknowledged,
    Ended(String),
}

fn connect(name: &'static str, port: u16) -> (Client, Connection) {
    let mut options = MqttOptions::new(name, Ipv4Addr::LOCALHOST.to_string(), port);
    options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES).set_clean_session(true);
    let (client, mut connection) = Client::new(options, REQUESTS);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    connection.eventloop.set_network_options(network);
    (client, connection)
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, PeerError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|source| PeerError::Thread { name, source })
}

/// Publishes at QoS 1.
pub struct Speaker {
    name: &'static str,
    client: Client,
    news: Receiver<News>,
    thread: JoinHandle<()>,
    unacknowledged: u64,
}

impl Speaker {
    /// Connects to the broker on `port`.
    pub fn start(name: &'static str, port: u16) -> Result<Self, PeerError> {
        let (client, mut connection) = connect(name, port);
        let (tell, news) = channel();
        let thread = spawn(name, move || {
            for event in connection.iter() {
                let piece = match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => News::Ready,
                    Ok(Event::Incoming(Packet::PubAck(_))) => News::Acknowledged,
                    Ok(_) => continue,
                    Err(error) => News::Ended(error.to_string()),
                };
                let ended = matches!(piece, News::Ended(_));
                // Nobody listens any more, or nothing will come any more.
                if tell.send(piece).is_err() || ended {
                    return;
                }
            }
        })?;
        wait_ready(name, &news, "CONNACK")?;
        Ok(Self { name, client, news, thread, unacknowledged: 0 })
    }

    /// Hands a message to the event loop; waits while it is busy.
    pub fn publish(&mut self, topic: String, payload: Vec<u8>) -> Result<(), PeerError> {
        if let Err(error) = self.client.publish(topic, QoS::AtLeastOnce, false, payload) {
            return Err(PeerError::Lost { name: self.name, why: error.to_string() });
        }
        self.unacknowledged += 1;
        while let Ok(news) = self.news.try_recv() {
            self.hear(news)?;
        }
        Ok(())
    }

    fn hear(&mut self, news: News) -> Result<(), PeerError> {
        match news {
            News::Acknowledged => self.unacknowledged = self.unacknowledged.saturating_sub(1),
            News::Ready => {}
            News::Ended(why) => return Err(PeerError::Lost { name: self.name, why }),
        }
        Ok(())
    }

    /// Waits for the last acknowledgement and says goodbye.
    pub fn finish(mut self) -> Result<(), PeerError> {
        let deadline = Instant::now() + PATIENCE;
        while self.unacknowledged > 0 {
            match self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(news) => self.hear(news)?,
                Err(_) => return Err(PeerError::Late { name: self.name, what: "PUBACK" }),
            }
        }
        leave(&self.client, self.thread);
        Ok(())
    }
}

/// Subscribes and hands on whatever comes.
pub struct Listener {
    client: Client,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Subscribes to `filters` at QoS 1; returns when the broker has granted them. `hear` gets topic and
    /// payload on the client's own thread; `lost` is told when the connection ends by itself.
    pub fn start(
        name: &'static str,
        port: u16,
        filters: &[&str],
        mut hear: impl FnMut(&str, &Bytes) + Send + 'static,
        lost: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, PeerError> {
        let (client, mut connection) = connect(name, port);
        for filter in filters {
            // Fewer filters than `REQUESTS`: none of these waits for the event loop.
            client
                .try_subscribe(*filter, QoS::AtLeastOnce)
                .map_err(|error| PeerError::Lost { name, why: error.to_string() })?;
        }
        let (tell, news): (Sender<News>, _) = channel();
        let mut missing = filters.len();
        let thread = spawn(name, move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::Publish(publish))) => hear(&publish.topic, &publish.payload),
                    Ok(Event::Incoming(Packet::SubAck(ack))) => {
                        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                            let _ = tell.send(News::Ended("it refused a subscription".into()));
                            return;
                        }
                        missing = missing.saturating_sub(1);
                        if missing == 0 {
                            let _ = tell.send(News::Ready);
                        }
                    }
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    Err(error) => {
                        let _ = tell.send(News::Ended(error.to_string()));
                        return lost(error.to_string());
                    }
                }
            }
        })?;
        wait_ready(name, &news, "SUBACK")?;
        Ok(Self { client, thread })
    }

    /// Says goodbye.
    pub fn finish(self) {
        leave(&self.client, self.thread);
    }
}

fn wait_ready(name: &'static str, news: &Receiver<News>, what: &'static str) -> Result<(), PeerError> {
    match news.recv_timeout(PATIENCE) {
        Ok(News::Ended(why)) => Err(PeerError::Lost { name, why }),
        Ok(_) => Ok(()),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(PeerError::Late { name, what })
        }
    }
}

/// Says goodbye; an event loop that has ended already, or does not end, is left behind: everything
/// that counts has been acknowledged.
fn leave(client: &Client, thread: JoinHandle<()>) {
    if client.try_disconnect().is_ok() {
        let deadline = Instant::now() + Duration::from_secs(1);
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::broker;

    #[test]
    fn what_is_said_at_qos_1_is_heard_once_and_whole() {
        let port = broker::start().unwrap();
        let (tell, heard) = channel();
        let listener = Listener::start(
            "ear",
            port,
            &["a/+/b", "c"],
            move |topic, payload| tell.send((topic.to_owned(), payload.len())).unwrap(),
            |why| panic!("{why}"),
        )
        .unwrap();
        let mut speaker = Speaker::start("mouth", port).unwrap();
        let sizes: Vec<usize> = (0..300).map(|i| i * 137).chain([2_000_000]).collect();
        for size in &sizes {
            speaker.publish(format!("a/{size}/b"), vec![7; *size]).unwrap();
        }
        speaker.publish("elsewhere".into(), vec![]).unwrap();
        speaker.finish().unwrap();
        for size in sizes {
            assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), (format!("a/{size}/b"), size));
        }
        listener.finish();
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn a_broker_that_is_not_there_is_an_error_at_once() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Speaker::start("mouth", port).err().unwrap();
        assert!(error.to_string().contains("mouth"), "{error}");
    }
}
