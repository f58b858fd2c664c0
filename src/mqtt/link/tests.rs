//! A year of link weather in a few milliseconds: packets and time come in as arguments.

use super::*;
use crate::mqtt::packet::{PubAck, Publish, QoS};

/// A role that records what it is told.
#[derive(Default)]
struct Recorder {
    connected: Vec<bool>,
    received: usize,
    disconnected: usize,
}

impl Role for Recorder {
    fn greeting(&self) -> Greeting {
        Greeting { client_id: "c".into(), clean_session: true, will: None }
    }
    fn connected(&mut self, _: Micros, session_present: bool, _: &mut BytesMut) {
        self.connected.push(session_present);
    }
    fn received(&mut self, _: Micros, _: Incoming, _: &mut BytesMut) -> Result<(), LinkError> {
        self.received += 1;
        Ok(())
    }
    fn pump(&mut self, _: Micros, _: &mut BytesMut) {}
    fn is_done(&mut self) -> bool {
        true
    }
    fn disconnected(&mut self) {
        self.disconnected += 1;
    }
}

const KEEP_ALIVE: Duration = Duration::from_secs(16);

fn link() -> Link<Recorder> {
    Link::new(Recorder::default(), KEEP_ALIVE, Duration::from_secs(10), None, 1)
}

fn connack(code: ConnectReturnCode) -> Incoming {
    Incoming::Packet(Packet::ConnAck(ConnAck { session_present: true, code }))
}

fn secs(secs: u64) -> Micros {
    Micros(secs * 1_000_000)
}

fn up() -> (Link<Recorder>, BytesMut) {
    let (mut link, mut out) = (link(), BytesMut::new());
    link.opening();
    link.opened(secs(0), &mut out);
    link.received(secs(0), connack(ConnectReturnCode::Success), &mut out).unwrap();
    out.clear();
    (link, out)
}

#[test]
fn connect_goes_out_first_and_the_role_hears_of_the_session() {
    let (mut link, mut out) = (link(), BytesMut::new());
    link.opening();
    link.opened(secs(0), &mut out);
    assert!(matches!(Packet::read(&mut out, 1000), Ok(Packet::Connect(_))));
    assert!(!link.is_up());
    link.received(secs(1), connack(ConnectReturnCode::Success), &mut out).unwrap();
    assert!(link.is_up());
    assert_eq!(link.role.connected, [true]);
}

#[test]
fn a_refusal_is_an_error_in_words_and_the_role_was_never_connected() {
    let (mut link, mut out) = (link(), BytesMut::new());
    link.opened(secs(0), &mut out);
    let error = link.received(secs(1), connack(ConnectReturnCode::BadClientId), &mut out).unwrap_err();
    assert!(error.to_string().contains("client_id"), "{error}");
    link.ended(secs(1));
    assert_eq!((link.role.connected.len(), link.role.disconnected), (0, 0));
}

#[test]
fn a_broker_without_connack_is_given_up() {
    let (mut link, mut out) = (link(), BytesMut::new());
    link.opened(secs(0), &mut out);
    link.tick(secs(9), &mut out).unwrap();
    assert!(matches!(link.tick(secs(10), &mut out), Err(LinkError::NoConnAck { .. })));
}

#[test]
fn an_idle_link_pings_and_a_silent_broker_is_noticed_within_one_and_a_half_keep_alives() {
    let (mut link, mut out) = up();
    assert_eq!(link.deadline(secs(0)), KEEP_ALIVE * 3 / 4);
    link.tick(secs(12), &mut out).unwrap();
    assert!(matches!(Packet::read(&mut out, 1000), Ok(Packet::PingReq)));
    link.sent(secs(12));
    link.received(secs(13), Incoming::Packet(Packet::PingResp), &mut out).unwrap();
    assert_eq!(link.role.received, 0, "PINGRESP is no business of the role");
    link.tick(secs(25), &mut out).unwrap();
    link.sent(secs(25));
    link.tick(secs(32), &mut out).unwrap();
    assert!(matches!(link.tick(secs(33), &mut out), Err(LinkError::Silent { secs: 20 })));
}

#[test]
fn a_link_that_only_sends_still_wants_to_hear_from_its_broker() {
    let (mut link, mut out) = up();
    for second in 1..12 {
        link.sent(secs(second));
        link.tick(secs(second), &mut out).unwrap();
    }
    link.tick(secs(12), &mut out).unwrap();
    assert!(matches!(Packet::read(&mut out, 1000), Ok(Packet::PingReq)));
}

#[test]
fn a_pause_of_our_own_is_not_the_brokers_silence() {
    let (mut link, mut out) = up();
    for second in 0..600 {
        link.not_reading(secs(second));
        if link.tick(secs(second), &mut out).is_ok() && !out.is_empty() {
            link.sent(secs(second));
            out.clear();
        }
    }
    assert!(link.is_up());
    assert!(link.tick(secs(600), &mut out).is_ok());
}

#[test]
fn every_end_of_a_connection_is_told_to_the_role_and_waits_grow() {
    let (mut link, mut out) = up();
    let mut now = secs(1);
    let mut longest = Duration::ZERO;
    for round in 1..30 {
        let wait = link.ended(now);
        assert_eq!(link.role.disconnected, round);
        assert_eq!(link.wait(now), wait);
        longest = longest.max(wait);
        now = now + wait;
        link.opening();
        link.opened(now, &mut out);
        link.received(now, connack(ConnectReturnCode::Success), &mut out).unwrap();
    }
    assert!(longest > Duration::from_secs(15), "a broker that drops us at once is not hammered: {longest:?}");
}

#[test]
fn packets_before_connack_and_a_second_connack_are_protocol_errors() {
    let (mut link, mut out) = (link(), BytesMut::new());
    link.opened(secs(0), &mut out);
    let early = Incoming::Packet(Packet::PubAck(PubAck::new(1)));
    assert!(matches!(link.received(secs(0), early, &mut out), Err(LinkError::Protocol(_))));
    let (mut link, mut out) = up();
    let again = link.received(secs(1), connack(ConnectReturnCode::Success), &mut out);
    assert!(matches!(again, Err(LinkError::Protocol(_))));
    let publish = Incoming::Packet(Packet::Publish(Publish::new("t", QoS::AtMostOnce, "x")));
    link.received(secs(1), publish, &mut out).unwrap();
    assert_eq!(link.role.received, 1);
}
