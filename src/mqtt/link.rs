//! One broker connection over its whole life, as a function of packets and time.
//!
//! Promise: no packet that the other side may miss is kept here. A connection that ends, ends whole:
//! the next one starts from what the stages own (outbox, ledger). Silence is noticed within one and
//! a half keep-alives, in both directions. Waits between attempts double and are slow to forgive.
//! Not here: sockets and threads ([`super::driver`]), what is taken or sent ([`Role`]).

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{ConnAck, Connect, ConnectReturnCode, LastWill, Login, Packet};

use super::tls::TlsError;
use super::wire::{Incoming, WireError};
use crate::base::Micros;
use crate::flow::Backoff;

/// What a connection says of itself in CONNECT.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Unique at the broker.
    pub client_id: String,
    /// `false`: the broker keeps subscriptions and unacknowledged frames while we are away.
    pub clean_session: bool,
    /// Last will.
    pub will: Option<LastWill>,
}

/// What a stage does with a connection. Everything it wants to say is encoded into `out`.
pub trait Role: Send {
    /// Read before each attempt.
    fn greeting(&self) -> Greeting;
    /// The broker accepted us.
    fn connected(&mut self, now: Micros, session_present: bool, out: &mut BytesMut);
    /// A packet other than CONNACK and PINGRESP.
    fn received(&mut self, now: Micros, incoming: Incoming, out: &mut BytesMut) -> Result<(), LinkError>;
    /// Called whenever there is room: encode what waits, a bounded portion of it.
    fn pump(&mut self, now: Micros, out: &mut BytesMut);
    /// `false` stops reading: the broker then waits.
    fn takes_more(&mut self) -> bool {
        true
    }
    /// Asked once the link is told to finish: nothing is left to say.
    fn is_done(&mut self) -> bool;
    /// The connection is gone.
    fn disconnected(&mut self);
}

/// Why a connection failed or ended. The link tries again after each of them.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No TCP connection.
    #[error("cannot connect to {host}:{port}; is the broker running and [broker] url right?")]
    Connect {
        /// From the config.
        host: String,
        /// From the config.
        port: u16,
        /// The system's reason.
        source: io::Error,
    },
    /// Neither yes nor no within the time.
    #[error("no answer from {host}:{port} within {secs} s")]
    ConnectTimeout {
        /// From the config.
        host: String,
        /// From the config.
        port: u16,
        /// `connect_timeout_secs`.
        secs: u64,
    },
    /// TLS could not be agreed on.
    #[error("no TLS with the broker")]
    Tls(#[from] TlsError),
    /// CONNACK with a refusal.
    #[error("the broker refused the connection: {}", refusal(*.0))]
    Refused(ConnectReturnCode),
    /// CONNACK did not come.
    #[error("the broker took the connection but sent no CONNACK within {secs} s: is this port MQTT?")]
    NoConnAck {
        /// `connect_timeout_secs`.
        secs: u64,
    },
    /// The broker closed the connection.
    #[error("the broker closed the connection (another client with the same id, or a restart)")]
    Closed,
    /// The socket failed.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// Bytes that are no MQTT.
    #[error("the broker's bytes cannot be read")]
    Wire(#[from] WireError),
    /// Keep-alive ran out.
    #[error("the broker has been silent for {secs} s in spite of a ping")]
    Silent {
        /// Seconds since its last byte.
        secs: u64,
    },
    /// The broker does not read what we write.
    #[error("the broker has not taken a byte for {secs} s")]
    Stuck {
        /// Seconds since it took the last byte.
        secs: u64,
    },
    /// The broker broke the protocol.
    #[error("the broker broke the protocol: {0}")]
    Protocol(&'static str),
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "no reason",
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "it does not accept the client id; set [broker] client_id",
        ConnectReturnCode::ServiceUnavailable => "it is not available",
        ConnectReturnCode::BadUserNamePassword => {
            "wrong user name or password; set [broker] username and password"
        }
        ConnectReturnCode::NotAuthorized => {
            "not authorised; check [broker] username, password and client_id, and the broker's access list"
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the next attempt.
    Down {
        retry_at: Micros,
    },
    /// A socket is being opened.
    Opening,
    /// CONNECT is out.
    Greeting {
        since: Micros,
    },
    Up(Up),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Up {
    last_sent: Micros,
    last_received: Micros,
    ping_since: Option<Micros>,
}

/// The machine around a [`Role`].
pub struct Link<R> {
    /// The stage's side.
    pub role: R,
    phase: Phase,
    backoff: Backoff,
    keep_alive: Duration,
    connect_timeout: Duration,
    login: Option<Login>,
}

impl<R: Role> Link<R> {
    /// Down, and ready for its first attempt. `seed` feeds the jitter.
    pub fn new(
        role: R,
        keep_alive: Duration,
        connect_timeout: Duration,
        login: Option<(String, String)>,
        seed: u64,
    ) -> Self {
        Self {
            role,
            phase: Phase::Down { retry_at: Micros(0) },
            backoff: Backoff::new(seed),
            keep_alive,
            connect_timeout,
            login: login.map(|(user, password)| Login::new(user, password)),
        }
    }

    /// How long until the next attempt.
    pub fn wait(&self, now: Micros) -> Duration {
        match self.phase {
            Phase::Down { retry_at } => retry_at.since(now),
            _ => Duration::ZERO,
        }
    }

    /// A socket is being opened.
    pub fn opening(&mut self) {
        self.phase = Phase::Opening;
    }

    /// The socket stands: say hello.
    pub fn opened(&mut self, now: Micros, out: &mut BytesMut) {
        let greeting = self.role.greeting();
        let mut connect = Connect::new(greeting.client_id);
        connect.keep_alive = self.keep_alive.as_secs() as u16;
        connect.clean_session = greeting.clean_session;
        connect.last_will = greeting.will;
        connect.login = self.login.clone();
        encode(&Packet::Connect(connect), out);
        self.phase = Phase::Greeting { since: now };
    }

    /// A packet came.
    pub fn received(&mut self, now: Micros, incoming: Incoming, out: &mut BytesMut) -> Result<(), LinkError> {
        match (&mut self.phase, incoming) {
            (Phase::Greeting { .. }, Incoming::Packet(Packet::ConnAck(ack))) => self.greeted(now, &ack, out),
            (Phase::Greeting { .. }, _) => Err(LinkError::Protocol("a packet before CONNACK")),
            (Phase::Up(up), incoming) => {
                up.last_received = now;
                up.ping_since = None;
                match incoming {
                    Incoming::Packet(Packet::PingResp) => Ok(()),
                    Incoming::Packet(Packet::ConnAck(_)) => Err(LinkError::Protocol("a second CONNACK")),
                    other => self.role.received(now, other, out),
                }
            }
            (Phase::Down { .. } | Phase::Opening, _) => Ok(()),
        }
    }

    fn greeted(&mut self, now: Micros, ack: &ConnAck, out: &mut BytesMut) -> Result<(), LinkError> {
        if ack.code != ConnectReturnCode::Success {
            return Err(LinkError::Refused(ack.code));
        }
        self.phase = Phase::Up(Up { last_sent: now, last_received: now, ping_since: None });
        self.backoff.connected(now);
        self.role.connected(now, ack.session_present, out);
        Ok(())
    }

    /// Whether the broker has accepted us.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// Lets the role encode what waits.
    pub fn pump(&mut self, now: Micros, out: &mut BytesMut) {
        if self.is_up() {
            self.role.pump(now, out);
        }
    }

    /// Bytes went out.
    pub fn sent(&mut self, now: Micros) {
        if let Phase::Up(up) = &mut self.phase {
            up.last_sent = now;
        }
    }

    /// We are not reading by our own choice: the broker's silence means nothing.
    pub fn not_reading(&mut self, now: Micros) {
        if let Phase::Up(up) = &mut self.phase {
            up.last_received = now;
            up.ping_since = None;
        }
    }

    /// Looks at the clock: pings, and gives up on the silent.
    pub fn tick(&mut self, now: Micros, out: &mut BytesMut) -> Result<(), LinkError> {
        let ping_after = self.ping_after();
        let answer_within = self.answer_within();
        match &mut self.phase {
            Phase::Greeting { since } if now.since(*since) >= self.connect_timeout => {
                Err(LinkError::NoConnAck { secs: self.connect_timeout.as_secs() })
            }
            Phase::Up(up) => {
                match up.ping_since {
                    Some(since) if now.since(since) >= answer_within => {
                        return Err(LinkError::Silent { secs: now.since(up.last_received).as_secs() });
                    }
                    Some(_) => {}
                    None => {
                        if now.since(up.last_sent.min(up.last_received)) >= ping_after {
                            up.ping_since = Some(now);
                            encode(&Packet::PingReq, out);
                        }
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When [`Link::tick`] has something to look at.
    pub fn deadline(&self, now: Micros) -> Duration {
        let at = match self.phase {
            Phase::Down { retry_at } => retry_at,
            Phase::Opening => now + self.connect_timeout,
            Phase::Greeting { since } => since + self.connect_timeout,
            Phase::Up(Up { ping_since: Some(since), .. }) => since + self.answer_within(),
            Phase::Up(up) => up.last_sent.min(up.last_received) + self.ping_after(),
        };
        at.since(now)
    }

    /// The attempt failed or the connection is gone; how long until the next attempt.
    pub fn ended(&mut self, now: Micros) -> Duration {
        if self.is_up() {
            self.role.disconnected();
        }
        let wait = self.backoff.failed(now);
        self.phase = Phase::Down { retry_at: now + wait };
        wait
    }

    /// Says goodbye: the broker will not send the last will.
    pub fn goodbye(&self, out: &mut BytesMut) {
        encode(&Packet::Disconnect, out);
    }

    /// Three quarters: the packet must arrive within the keep-alive (MQTT 3.1.1 §3.1.2.10).
    fn ping_after(&self) -> Duration {
        self.keep_alive.mul_f32(0.75)
    }

    /// A broker that took longer than half a keep-alive over a PINGRESP is of no use to us.
    fn answer_within(&self) -> Duration {
        self.keep_alive.mul_f32(0.5)
    }
}

/// Appends a packet of ours.
pub fn encode(packet: &Packet, out: &mut BytesMut) {
    let written = packet.write(out, usize::MAX);
    debug_assert!(written.is_ok(), "packets of ours have packet ids and stay below 256 MiB: {written:?}");
}

#[cfg(test)]
mod tests;
