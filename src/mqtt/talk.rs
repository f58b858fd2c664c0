//! What is said on one connection: bytes that came go to the [`Link`], what it wants to say waits for the
//! socket. A function of bytes and time.
//!
//! Promise: what is read while the role has no room waits here, bounded by what one read brings; at most
//! [`OUT_BYTES`] and one packet wait to be written. A broker that does not take them is given up within a
//! keep-alive.
//! Not here: the socket ([`super::driver`]).

use std::time::Duration;

use bytes::{Buf, BytesMut};

use super::link::{Link, LinkError, Role};
use super::packet::Out;
use super::wire::Reader;
use crate::base::Micros;
use crate::config::{Broker, Protocol};

/// Encoded bytes that may wait for the socket before the role is asked for more.
pub const OUT_BYTES: usize = 64 * 1024;

/// One connection's buffers.
pub struct Talk {
    /// What came and was not looked at yet.
    reader: Reader,
    out: Out,
    protocol: Protocol,
    /// When the broker last took a byte, or none waited.
    last_progress: Micros,
    patience: Duration,
}

/// What is to be done with the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All is said: say goodbye.
    Over,
    /// Write what waits, read where the role has room, and look again.
    Socket {
        /// Whether to read.
        reads: bool,
        /// After so long, if nothing else happens.
        within: Duration,
    },
}

impl Talk {
    /// The socket stands: the link says hello.
    pub fn new<R: Role>(broker: &Broker, max_payload: usize, now: Micros, link: &mut Link<R>) -> Self {
        let mut out = Out::new(broker.protocol);
        link.opened(now, &mut out);
        Self {
            reader: Reader::new(broker.protocol, max_payload),
            out,
            protocol: broker.protocol,
            last_progress: now,
            patience: broker.keep_alive,
        }
    }

    /// Takes what came, lets the role speak, looks at the clock. `over`: whether the connection is to
    /// end when all is said.
    pub fn turn<R: Role>(
        &mut self,
        now: Micros,
        link: &mut Link<R>,
        over: impl Fn(&mut R) -> bool,
    ) -> Result<Turn, LinkError> {
        loop {
            // What is left from the last read comes first: it may have waited for room downstream.
            let mut is_drained = false;
            while !is_drained && takes_more(link) {
                match self.reader.next_packet()? {
                    Some(incoming) => link.received(now, incoming, &mut self.out)?,
                    None => is_drained = true,
                }
            }
            // Asked before the role gets its turn: being told to finish may give it a last word.
            let over = over(&mut link.role);
            if self.out.len() < OUT_BYTES {
                link.pump(now, &mut self.out);
            }
            if over && self.out.is_empty() {
                return Ok(Turn::Over);
            }
            let reads = takes_more(link);
            if reads && !is_drained && self.out.len() < OUT_BYTES {
                // The role has found room meanwhile, and no byte need come for what is in our buffer.
                continue;
            }
            if !reads {
                link.heard(now);
                link.role.heard(now);
            }
            link.tick(now, &mut self.out)?;
            if self.out.is_empty() {
                self.last_progress = now;
            }
            if now.since(self.last_progress) >= self.patience {
                return Err(LinkError::Stuck { secs: self.patience.as_secs() });
            }
            return Ok(Turn::Socket { reads, within: link.deadline(now).min(self.patience) });
        }
    }

    /// Where the socket's bytes go, and what waits to be written.
    pub fn buffers(&mut self) -> (&mut BytesMut, &[u8]) {
        (self.reader.buffer(), &self.out)
    }

    /// The socket has given bytes.
    pub fn came<R: Role>(&self, now: Micros, link: &mut Link<R>) {
        link.heard(now);
        if !self.reader.has_ping_answer_only() {
            link.role.heard(now);
        }
    }

    /// Whether something waits to be written.
    pub fn has_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// The socket has taken so many bytes.
    pub fn wrote<R: Role>(&mut self, bytes: usize, now: Micros, link: &mut Link<R>) {
        self.out.advance(bytes);
        self.last_progress = now;
        link.sent(now);
    }

    /// We can say nothing more: takes what has come whole, as far as the role has room, or `all` of it.
    /// Whether nothing whole is left. A broker that forgets us will not say it again.
    pub fn hear_out<R: Role>(
        &mut self,
        now: Micros,
        link: &mut Link<R>,
        all: bool,
    ) -> Result<bool, LinkError> {
        // Answers have nowhere to go.
        let mut unsaid = Out::new(self.protocol);
        while all || link.role.takes_more() {
            let Some(incoming) = self.reader.next_packet()? else { return Ok(true) };
            link.received(now, incoming, &mut unsaid)?;
        }
        Ok(false)
    }
}

/// Without room too the greeting is heard: a broker that has forgotten us keeps frames from SUBSCRIBE on.
fn takes_more<R: Role>(link: &mut Link<R>) -> bool {
    link.role.takes_more() || !link.is_up()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Qos;
    use crate::mqtt::link::Greeting;
    use crate::mqtt::packet::Welcome;
    use crate::mqtt::wire::Incoming;

    fn broker() -> Broker {
        Broker {
            host: "b".into(),
            port: 1,
            protocol: Protocol::V3_1_1,
            tls: None,
            login: None,
            client_id: "c".into(),
            keep_alive: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            max_inflight: 1,
        }
    }

    /// Subscribes, and has no room.
    struct Full;

    impl Role for Full {
        fn greeting(&self) -> Greeting {
            Greeting { client_id: "c".into(), clean_session: false, will: None }
        }
        fn connected(&mut self, _: Micros, _: &Welcome, out: &mut Out) {
            out.subscribe(1, [("t", Qos::AtLeastOnce)].into_iter());
        }
        fn received(&mut self, _: Micros, _: Incoming, _: &mut Out) -> Result<(), LinkError> {
            panic!("it has no room");
        }
        fn pump(&mut self, _: Micros, _: &mut Out) {}
        fn takes_more(&mut self) -> bool {
            false
        }
        fn is_done(&mut self) -> bool {
            true
        }
        fn disconnected(&mut self, _: Micros, _: &LinkError) {}
    }

    #[test]
    fn who_has_no_room_is_greeted_and_subscribes_all_the_same() {
        let broker = broker();
        let mut link = Link::new(Full, &broker, 1);
        link.opening();
        let mut talk = Talk::new(&broker, 100, Micros(0), &mut link);
        let hello = talk.buffers().1.len();
        talk.wrote(hello, Micros(1), &mut link);
        let turn = talk.turn(Micros(2), &mut link, |_| false).unwrap();
        assert!(matches!(turn, Turn::Socket { reads: true, .. }), "CONNACK is read");
        // CONNACK, and a frame behind it.
        talk.buffers().0.extend_from_slice(&[0x20, 2, 0, 0, 0x30, 4, 0, 1, b't', b'x']);
        let turn = talk.turn(Micros(3), &mut link, |_| false).unwrap();
        assert!(link.is_up());
        assert!(matches!(turn, Turn::Socket { reads: false, .. }), "the frame waits");
        assert_eq!(talk.buffers().1[0], 0x82, "SUBSCRIBE");
    }

    /// When it last heard what may have an answer behind it.
    #[derive(Default)]
    struct Hears(Option<Micros>);

    impl Role for Hears {
        fn greeting(&self) -> Greeting {
            Greeting { client_id: "c".into(), clean_session: false, will: None }
        }
        fn connected(&mut self, _: Micros, _: &Welcome, _: &mut Out) {}
        fn received(&mut self, _: Micros, _: Incoming, _: &mut Out) -> Result<(), LinkError> {
            Ok(())
        }
        fn pump(&mut self, _: Micros, _: &mut Out) {}
        fn heard(&mut self, now: Micros) {
            self.0 = Some(now);
        }
        fn is_done(&mut self) -> bool {
            true
        }
        fn disconnected(&mut self, _: Micros, _: &LinkError) {}
    }

    #[test]
    fn an_answer_to_a_ping_is_no_sign_that_a_subscription_is_about_to_be_answered() {
        let broker = broker();
        let mut link = Link::new(Hears::default(), &broker, 1);
        link.opening();
        let mut talk = Talk::new(&broker, 3, Micros(0), &mut link);
        let mut come = |bytes: &[u8], at: u64| {
            talk.buffers().0.extend_from_slice(bytes);
            talk.came(Micros(at), &mut link);
            while talk.reader.next_packet().unwrap().is_some() {}
            link.role.0.take()
        };
        for answer in [&[0xd0, 0][..], &[0xd0], &[0]] {
            assert_eq!(come(answer, 1), None);
        }
        assert_eq!(come(&[0xd0, 0, 0x30], 2), Some(Micros(2)), "the first byte of a frame");
        // Of a frame that is skipped any byte may look like an answer.
        assert_eq!(come(&[8, 0, 1, b't'], 3), Some(Micros(3)));
        assert_eq!(come(&[0xd0, 0], 4), Some(Micros(4)));
    }
}
