//! An MQTT broker inside this process, on a free port of the loopback interface.
//!
//! rumqttd cannot be told to stop: its threads end with the process, and so does its port. Nothing is
//! reachable from another machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rumqttd::{ConnectionSettings, RouterConfig, ServerSettings};

/// Largest packet: a demo frame has some 30 kB, and `mosquitto_pub` may send a photo.
pub const MAX_PACKET_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that the broker keeps for each subscription: `SEGMENTS` of these. A subscriber further behind
/// than that loses messages without a word, so the line must never be that far ahead
/// (`super::judge` bounds it).
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
const SEGMENTS: usize = 8;
/// Ports to try. Another process can take a port between our looking and the broker's binding.
const ATTEMPTS: usize = 5;
/// From its start to its first accepted connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No port on loopback, or no thread.
    #[error("cannot prepare the embedded broker")]
    Io(#[from] io::Error),
    /// Each attempt ended early.
    #[error("the embedded broker could not listen on 127.0.0.1 in {ATTEMPTS} attempts")]
    NotListening,
}

/// Starts a broker; the port on which it answers.
pub fn start() -> Result<u16, BrokerError> {
    for _ in 0..ATTEMPTS {
        let port = free_port()?;
        let mut broker = rumqttd::Broker::new(config(port));
        // `Broker::start` returns only when the server could not bind or broke.
        let serve = move || {
            if let Err(error) = broker.start() {
                log::error!("the embedded broker ended: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("broker".into()).spawn(serve)?;
        let started = Instant::now();
        while !thread.is_finished() && started.elapsed() < PATIENCE {
            let answers = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            std::thread::sleep(Duration::from_millis(10));
            // Still running after the connection: it was not somebody else's server that answered.
            if answers && !thread.is_finished() {
                return Ok(port);
            }
        }
    }
    Err(BrokerError::NotListening)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn config(port: u16) -> rumqttd::Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: MAX_PACKET_BYTES,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server = ServerSettings {
        name: "demo".into(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: None,
        next_connection_delay_ms: 0,
        connections,
    };
    rumqttd::Config {
        router: RouterConfig {
            max_connections: 64,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v4: Some([("demo".to_owned(), server)].into()),
        ..rumqttd::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_brokers_do_not_meet() {
        let ports = [start().unwrap(), start().unwrap()];
        assert_ne!(ports[0], ports[1]);
    }
}
