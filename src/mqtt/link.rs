//! One broker connection over its whole life, as a function of packets and time.
//!
//! Promise: no packet that the other side may miss is kept here. A connection that ends, ends whole:
//! the next one starts from what the stages own (outbox, ledger). Silence is noticed within one and
//! a half keep-alives, and within three quarters of one while an answer is owed to us. Waits between
//! attempts double and are slow to forgive.
//! Not here: sockets and threads ([`super::driver`]), what is taken or sent ([`Role`]).

use std::io;
use std::time::Duration;

use super::packet::{ConnAck, Connect, Out, Packet, Reason, Welcome, Will};
use super::tls::{self, TlsError};
use super::wire::{Incoming, WireError};
use crate::base::Micros;
use crate::config::Broker;
use crate::flow::Backoff;

/// What a connection says of itself in CONNECT.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Unique at the broker.
    pub client_id: String,
    /// `false`: the broker keeps subscriptions and unacknowledged frames while we are away.
    pub clean_session: bool,
    /// Last will.
    pub will: Option<Will>,
}

/// What a stage does with a connection. Everything it wants to say is encoded into `out`.
pub trait Role: Send {
    /// Read before each attempt.
    fn greeting(&self) -> Greeting;
    /// The broker accepted us, and this is what it says of itself.
    fn connected(&mut self, now: Micros, welcome: &Welcome, out: &mut Out);
    /// A packet other than CONNACK and PINGRESP.
    fn received(&mut self, now: Micros, incoming: Incoming, out: &mut Out) -> Result<(), LinkError>;
    /// Called whenever there is room: encode what waits, a bounded portion of it.
    fn pump(&mut self, now: Micros, out: &mut Out);
    /// `false` stops reading: the broker then waits. Asked without a connection as well, so that what the role
    /// holds goes on when there is room.
    fn takes_more(&mut self) -> bool {
        true
    }
    /// Bytes came, of a packet that may not be whole yet: answers to us may stand behind it. Behind an answer
    /// to a ping none stands, so those are not told of.
    fn heard(&mut self, now: Micros) {
        let _ = now;
    }
    /// Asked now and then: whether an answer of the broker's is overdue although the line lives.
    fn check(&mut self, now: Micros) -> Result<(), LinkError> {
        let _ = now;
        Ok(())
    }
    /// The broker owes us an answer: its silence is then looked into sooner.
    fn awaits_answer(&self) -> bool {
        false
    }
    /// Asked once the link is told to finish: nothing is left to say.
    fn is_done(&mut self) -> bool;
    /// The connection is gone, for this reason.
    fn disconnected(&mut self, now: Micros, why: &LinkError);
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
    #[error("the broker refused the connection: {0}")]
    Refused(Reason),
    /// It takes nothing at QoS 1, which the promise rests on.
    #[error(
        "the broker takes messages at QoS 0 only; predictions need QoS 1: allow it there, or use another broker"
    )]
    NoAtLeastOnce,
    /// DISCONNECT from the broker.
    #[error("the broker ended the connection: {0}")]
    Ended(Reason),
    /// The broker refused a message of ours; after a while it may take it.
    #[error("the broker did not take a message: {0}")]
    NotTaken(Reason),
    /// It ended before CONNACK.
    #[error("the connection ended before CONNACK: does this port speak MQTT, {}?", if *.tls { "and let this client in" } else { "and without TLS (else mqtts://)" })]
    Ungreeted {
        /// Whether it had TLS.
        tls: bool,
        /// How it ended.
        source: Box<LinkError>,
    },
    /// CONNACK did not come.
    #[error("the broker took the connection but sent no CONNACK within {secs} s: is this port MQTT?")]
    NoConnAck {
        /// `connect_timeout_secs`.
        secs: u64,
    },
    /// The broker closed the connection.
    #[error(
        "the broker closed the connection: a restart, or another client with our client id {client_id:?} (two devices \
         with one id throw each other out: set [device] id or [broker] client_id)"
    )]
    Closed {
        /// Ours.
        client_id: String,
    },
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
    /// The broker answers pings and not what was asked.
    #[error("the broker answers pings, but not {what}, for {secs} s")]
    Unanswered {
        /// What was asked of it.
        what: &'static str,
        /// Since then.
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

/// The role is asked that often whether an answer is overdue.
const CHECK_EVERY: Duration = Duration::from_millis(250);

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
    /// Pings whose PINGRESP has not come.
    pings: u32,
    /// When the role last looked for answers that are overdue.
    checked: Micros,
}

impl LinkError {
    /// A socket's error, told as TLS's where it is one.
    pub fn of_socket(error: io::Error) -> Self {
        tls::of_socket(error).map_or_else(Self::Io, Self::Tls)
    }

    /// The other side ended a connection that stood, and nothing says that it was not over a message of ours.
    pub fn may_be_over_a_message(&self) -> bool {
        match self {
            Self::Closed { .. } | Self::Io(_) => true,
            Self::Ended(reason) => reason.may_be_over_a_message(),
            _ => false,
        }
    }
}

/// The machine around a [`Role`].
pub struct Link<R> {
    /// The stage's side.
    pub role: R,
    phase: Phase,
    backoff: Backoff,
    /// As configured.
    asked_keep_alive: Duration,
    /// As it holds: a broker may overrule ours.
    keep_alive: Duration,
    connect_timeout: Duration,
    login: Option<(String, String)>,
    /// The broker has refused us over the will's retain flag.
    drops_retain: bool,
}

impl<R: Role> Link<R> {
    /// Down, and ready for its first attempt. `seed` feeds the jitter.
    pub fn new(role: R, broker: &Broker, seed: u64) -> Self {
        Self {
            role,
            phase: Phase::Down { retry_at: Micros(0) },
            backoff: Backoff::new(seed),
            asked_keep_alive: broker.keep_alive,
            keep_alive: broker.keep_alive,
            connect_timeout: broker.connect_timeout,
            login: broker.login.clone(),
            drops_retain: false,
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
    pub fn opened(&mut self, now: Micros, out: &mut Out) {
        let Greeting { client_id, clean_session, will } = self.role.greeting();
        let will = will.map(|will| Will { retain: will.retain && !self.drops_retain, ..will });
        out.connect(&Connect {
            client_id,
            clean_session,
            keep_alive_secs: self.asked_keep_alive.as_secs() as u16,
            will,
            login: self.login.clone(),
        });
        self.phase = Phase::Greeting { since: now };
    }

    /// A packet came.
    pub fn received(&mut self, now: Micros, incoming: Incoming, out: &mut Out) -> Result<(), LinkError> {
        match (&mut self.phase, incoming) {
            (Phase::Greeting { .. }, Incoming::Packet(Packet::ConnAck(ack))) => self.greeted(now, &ack, out),
            // A server that will not have us may say so in MQTT 5's way before it has greeted us.
            (Phase::Greeting { .. } | Phase::Up(_), Incoming::Packet(Packet::Disconnect(reason))) => {
                Err(LinkError::Ended(reason))
            }
            (Phase::Greeting { .. }, _) => Err(LinkError::Protocol("a packet before CONNACK")),
            (Phase::Up(up), incoming) => {
                up.last_received = now;
                up.ping_since = None;
                match incoming {
                    Incoming::Packet(Packet::PingResp) => {
                        // What it took for a ping was another packet of ours: an acknowledgement with one wrong
                        // bit, for which it would wait as long as the connection stands.
                        up.pings = up
                            .pings
                            .checked_sub(1)
                            .ok_or(LinkError::Protocol("an answer to a ping that was never sent"))?;
                        Ok(())
                    }
                    Incoming::Packet(Packet::ConnAck(_)) => Err(LinkError::Protocol("a second CONNACK")),
                    other => self.role.received(now, other, out),
                }
            }
            (Phase::Down { .. } | Phase::Opening, _) => Ok(()),
        }
    }

    fn greeted(&mut self, now: Micros, ack: &ConnAck, out: &mut Out) -> Result<(), LinkError> {
        let ConnAck { reason, welcome } = ack;
        if reason.code != 0 {
            // §3.2.2.3.13: the next attempt goes without.
            self.drops_retain |= reason.code == Reason::NO_RETAINED;
            return Err(LinkError::Refused(reason.clone()));
        }
        if !welcome.at_least_once {
            return Err(LinkError::NoAtLeastOnce);
        }
        if welcome.max_packet_bytes == 0 {
            return Err(LinkError::Protocol("a maximum packet size of 0"));
        }
        // §3.2.2.3.14: the server waits no longer than it says. It may wait for longer than we want to, or for
        // ever (0): we would not notice that it is gone.
        self.keep_alive = match welcome.keep_alive_secs {
            Some(secs @ 1..) => self.asked_keep_alive.min(Duration::from_secs(secs.into())),
            _ => self.asked_keep_alive,
        };
        out.limit(welcome.max_packet_bytes);
        if !welcome.retains {
            out.drop_retain();
        }
        self.phase =
            Phase::Up(Up { last_sent: now, last_received: now, ping_since: None, pings: 0, checked: now });
        self.backoff.connected(now);
        self.role.connected(now, welcome, out);
        Ok(())
    }

    /// Whether the broker has accepted us.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// Lets the role encode what waits.
    pub fn pump(&mut self, now: Micros, out: &mut Out) {
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

    /// Bytes came: a sign of life, however long the packet is to which they belong. So is what waits unread by
    /// our own choice.
    pub fn heard(&mut self, now: Micros) {
        if let Phase::Up(up) = &mut self.phase {
            up.last_received = now;
            up.ping_since = None;
        }
    }

    /// Looks at the clock: pings, and gives up on the silent.
    pub fn tick(&mut self, now: Micros, out: &mut Out) -> Result<(), LinkError> {
        let ping_at = self.ping_at();
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
                        if ping_at.is_some_and(|at| now >= at) {
                            up.ping_since = Some(now);
                            up.pings += 1;
                            out.ping();
                        }
                    }
                }
                if now.since(up.checked) >= CHECK_EVERY {
                    up.checked = now;
                    self.role.check(now)?;
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
            Phase::Up(up) => {
                let silent = match up.ping_since {
                    Some(since) => since + self.answer_within(),
                    None => self.ping_at().unwrap_or(now),
                };
                if self.role.awaits_answer() { silent.min(up.checked + CHECK_EVERY) } else { silent }
            }
        };
        at.since(now)
    }

    /// The attempt failed or the connection is gone, for this reason; how long until the next attempt.
    pub fn ended(&mut self, now: Micros, why: &LinkError) -> Duration {
        if self.is_up() {
            self.role.disconnected(now, why);
        }
        let wait = self.backoff.failed(now);
        self.phase = Phase::Down { retry_at: now + wait };
        wait
    }

    /// Says goodbye: the broker will not send the last will.
    pub fn goodbye(&self, out: &mut Out) {
        out.disconnect();
    }

    /// The broker closed the connection without a word.
    pub fn closed(&self) -> LinkError {
        LinkError::Closed { client_id: self.role.greeting().client_id }
    }

    /// When to ask whether the broker is there. After three quarters of a keep-alive without a packet
    /// in either direction: the ping must arrive within the whole (§3.1.2.10). After a quarter without
    /// one from the broker while it owes us an answer.
    fn ping_at(&self) -> Option<Micros> {
        let Phase::Up(up) = self.phase else { return None };
        let idle = up.last_sent.min(up.last_received) + self.keep_alive.mul_f32(0.75);
        let owed = up.last_received + self.keep_alive.mul_f32(0.25);
        Some(if self.role.awaits_answer() { idle.min(owed) } else { idle })
    }

    /// A broker that took longer than half a keep-alive over a PINGRESP is of no use to us.
    fn answer_within(&self) -> Duration {
        self.keep_alive.mul_f32(0.5)
    }
}

#[cfg(test)]
mod tests;
