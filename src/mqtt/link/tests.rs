//! A year of link weather in a few milliseconds: packets and time come in as arguments.

use super::*;
use crate::config::Protocol;
use crate::mqtt::packet::{PubAck, Publish};

/// A role that records what it is told.
#[derive(Default)]
struct Recorder {
    connected: Vec<bool>,
    received: usize,
    disconnected: usize,
    awaits: bool,
}

impl Role for Recorder {
    fn greeting(&self) -> Greeting {
        Greeting { client_id: "c".into(), clean_session: true, will: None }
    }
    fn connected(&mut self, _: Micros, welcome: &Welcome, _: &mut Out) {
        self.connected.push(welcome.session_present);
    }
    fn received(&mut self, _: Micros, _: Incoming, _: &mut Out) -> Result<(), LinkError> {
        self.received += 1;
        Ok(())
    }
    fn pump(&mut self, _: Micros, _: &mut Out) {}
    fn is_done(&mut self) -> bool {
        true
    }
    fn awaits_answer(&self) -> bool {
        self.awaits
    }
    fn disconnected(&mut self, _: Micros, _: &LinkError) {
        self.disconnected += 1;
    }
}

const KEEP_ALIVE: Duration = Duration::from_secs(16);

fn broker() -> Broker {
    Broker {
        host: "b".into(),
        port: 1,
        protocol: Protocol::V5,
        tls: None,
        login: None,
        client_id: "c".into(),
        keep_alive: KEEP_ALIVE,
        connect_timeout: Duration::from_secs(10),
        max_inflight: 1,
    }
}

fn fresh() -> Link<Recorder> {
    Link::new(Recorder::default(), &broker(), 1)
}

fn out() -> Out {
    Out::new(Protocol::V5)
}

fn connack(code: u8) -> Incoming {
    let welcome = Welcome { session_present: true, ..Welcome::default() };
    Incoming::Packet(Packet::ConnAck(ConnAck { reason: Reason::new(code), welcome }))
}

fn secs(secs: u64) -> Micros {
    Micros(secs * 1_000_000)
}

fn up() -> (Link<Recorder>, Out) {
    let (mut link, mut out) = (fresh(), out());
    link.opening();
    link.opened(secs(0), &mut out);
    link.received(secs(0), connack(0), &mut out).unwrap();
    out.clear();
    (link, out)
}

#[test]
fn connect_goes_out_first_and_the_role_hears_of_the_session() {
    let (mut link, mut out) = (fresh(), out());
    link.opening();
    link.opened(secs(0), &mut out);
    assert_eq!(out[0], 0x10, "CONNECT");
    assert!(!link.is_up());
    link.received(secs(1), connack(0), &mut out).unwrap();
    assert!(link.is_up());
    assert_eq!(link.role.connected, [true]);
}

#[test]
fn a_refusal_is_an_error_in_words_and_the_role_was_never_connected() {
    let (mut link, mut out) = (fresh(), out());
    link.opened(secs(0), &mut out);
    let error = link.received(secs(1), connack(Reason::CLIENT_ID), &mut out).unwrap_err();
    assert!(error.to_string().contains("client_id"), "{error}");
    {
        let why = link.closed();
        link.ended(secs(1), &why)
    };
    assert_eq!((link.role.connected.len(), link.role.disconnected), (0, 0));
}

#[test]
fn a_broker_without_connack_is_given_up() {
    let (mut link, mut out) = (fresh(), out());
    link.opened(secs(0), &mut out);
    link.tick(secs(9), &mut out).unwrap();
    assert!(matches!(link.tick(secs(10), &mut out), Err(LinkError::NoConnAck { .. })));
}

#[test]
fn an_idle_link_pings_and_a_silent_broker_is_noticed_within_one_and_a_half_keep_alives() {
    let (mut link, mut out) = up();
    assert_eq!(link.deadline(secs(0)), KEEP_ALIVE * 3 / 4);
    link.tick(secs(12), &mut out).unwrap();
    assert_eq!(out.split()[..], [0xc0, 0], "PINGREQ");
    link.sent(secs(12));
    link.received(secs(13), Incoming::Packet(Packet::PingResp), &mut out).unwrap();
    assert_eq!(link.role.received, 0, "PINGRESP is no business of the role");
    link.tick(secs(25), &mut out).unwrap();
    link.sent(secs(25));
    link.tick(secs(32), &mut out).unwrap();
    assert!(matches!(link.tick(secs(33), &mut out), Err(LinkError::Silent { secs: 20 })));
}

#[test]
fn an_answer_to_a_ping_that_was_never_sent_ends_the_connection_and_a_late_one_does_not() {
    let (mut link, mut out) = up();
    let answer = |link: &mut Link<Recorder>, at, out: &mut Out| {
        link.received(secs(at), Incoming::Packet(Packet::PingResp), out)
    };
    link.tick(secs(12), &mut out).unwrap();
    let publish = Incoming::Packet(Packet::Publish(Publish::new("t", "x")));
    link.received(secs(13), publish, &mut out).unwrap();
    answer(&mut link, 14, &mut out).unwrap();
    assert!(matches!(answer(&mut link, 15, &mut out), Err(LinkError::Protocol(_))));
}

#[test]
fn a_link_that_only_sends_still_wants_to_hear_from_its_broker() {
    let (mut link, mut out) = up();
    for second in 1..12 {
        link.sent(secs(second));
        link.tick(secs(second), &mut out).unwrap();
    }
    link.tick(secs(12), &mut out).unwrap();
    assert_eq!(out.split()[..], [0xc0, 0], "PINGREQ");
}

#[test]
fn a_pause_of_our_own_is_not_the_brokers_silence() {
    let (mut link, mut out) = up();
    for second in 0..600 {
        link.heard(secs(second));
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
        let wait = {
            let why = link.closed();
            link.ended(now, &why)
        };
        assert_eq!(link.role.disconnected, round);
        assert_eq!(link.wait(now), wait);
        longest = longest.max(wait);
        now = now + wait;
        link.opening();
        link.opened(now, &mut out);
        link.received(now, connack(0), &mut out).unwrap();
    }
    assert!(longest > Duration::from_secs(15), "a broker that drops us at once is not hammered: {longest:?}");
}

#[test]
fn packets_before_connack_and_a_second_connack_are_protocol_errors() {
    let (mut link, mut out) = (fresh(), out());
    link.opened(secs(0), &mut out);
    let early = Incoming::Packet(Packet::PubAck(PubAck { pkid: 1, reason: Reason::new(0) }));
    assert!(matches!(link.received(secs(0), early, &mut out), Err(LinkError::Protocol(_))));
    let (mut link, mut out) = up();
    let again = link.received(secs(1), connack(0), &mut out);
    assert!(matches!(again, Err(LinkError::Protocol(_))));
    let publish = Incoming::Packet(Packet::Publish(Publish::new("t", "x")));
    link.received(secs(1), publish, &mut out).unwrap();
    assert_eq!(link.role.received, 1);
}

#[test]
fn a_broker_that_owes_an_answer_is_noticed_within_three_quarters_of_a_keep_alive() {
    let (mut link, mut out) = up();
    link.role.awaits = true;
    assert_eq!(link.deadline(secs(0)), CHECK_EVERY);
    link.sent(secs(3));
    link.tick(secs(4), &mut out).unwrap();
    assert_eq!(out.split()[..], [0xc0, 0], "PINGREQ");
    link.tick(secs(11), &mut out).unwrap();
    assert!(matches!(link.tick(secs(12), &mut out), Err(LinkError::Silent { secs: 12 })));
}

#[test]
fn the_servers_keep_alive_and_packet_size_hold_where_it_says_so() {
    let (mut link, mut out) = (fresh(), out());
    link.opened(secs(0), &mut out);
    let welcome = Welcome { keep_alive_secs: Some(8), max_packet_bytes: 10, ..Welcome::default() };
    let ack = ConnAck { reason: Reason::new(0), welcome };
    link.received(secs(0), Incoming::Packet(Packet::ConnAck(ack)), &mut out).unwrap();
    assert_eq!(link.deadline(secs(0)), Duration::from_secs(6));
    assert!(out.publish(&Publish::new("topic", "payload")).is_err());
}

#[test]
fn a_server_that_would_wait_longer_than_we_do_is_watched_as_closely() {
    let (mut link, mut out) = (fresh(), out());
    link.opened(secs(0), &mut out);
    let welcome = Welcome { keep_alive_secs: Some(3600), ..Welcome::default() };
    let ack = ConnAck { reason: Reason::new(0), welcome };
    link.received(secs(0), Incoming::Packet(Packet::ConnAck(ack)), &mut out).unwrap();
    assert_eq!(link.deadline(secs(0)), KEEP_ALIVE.mul_f32(0.75));
}

#[test]
fn bytes_of_a_packet_that_takes_minutes_are_a_sign_of_life() {
    let (mut link, mut out) = up();
    link.role.awaits = true;
    for second in 0..600 {
        link.heard(secs(second));
        link.tick(secs(second), &mut out).unwrap();
        if !out.is_empty() {
            link.sent(secs(second));
            out.clear();
        }
    }
    // And their end is noticed as always.
    link.tick(secs(603), &mut out).unwrap();
    assert_eq!(out.split()[..], [0xc0, 0], "PINGREQ");
    assert!(matches!(link.tick(secs(611), &mut out), Err(LinkError::Silent { secs: 12 })));
}

#[test]
fn a_maximum_packet_size_of_zero_is_the_servers_mistake() {
    let (mut link, mut out) = (fresh(), out());
    link.opened(secs(0), &mut out);
    let welcome = Welcome { max_packet_bytes: 0, ..Welcome::default() };
    let ack = ConnAck { reason: Reason::new(0), welcome };
    let refused = link.received(secs(0), Incoming::Packet(Packet::ConnAck(ack)), &mut out);
    assert!(matches!(refused, Err(LinkError::Protocol(_))));
}

#[test]
fn a_server_that_ends_the_connection_says_why_and_one_that_takes_no_qos_1_is_refused() {
    let (mut link, mut out) = up();
    let taken = Reason { code: Reason::SESSION_TAKEN_OVER, text: Some("bye".into()) };
    let error = link.received(secs(1), Incoming::Packet(Packet::Disconnect(taken)), &mut out).unwrap_err();
    let words = error.to_string();
    assert!(words.contains("another client") && words.contains("bye"), "{words}");
    assert!(link.closed().to_string().contains("our client id \"c\""));

    let mut link = fresh();
    link.opened(secs(0), &mut out);
    let welcome = Welcome { at_least_once: false, ..Welcome::default() };
    let ack = ConnAck { reason: Reason::new(0), welcome };
    let refused = link.received(secs(0), Incoming::Packet(Packet::ConnAck(ack)), &mut out);
    assert!(matches!(refused, Err(LinkError::NoAtLeastOnce)));
}

/// A recorder with a will.
struct Willing(Recorder);

impl Role for Willing {
    fn greeting(&self) -> Greeting {
        let will = Will { topic: "w".into(), payload: "gone".into(), retain: true };
        Greeting { will: Some(will), ..self.0.greeting() }
    }
    fn connected(&mut self, now: Micros, welcome: &Welcome, out: &mut Out) {
        self.0.connected(now, welcome, out);
    }
    fn received(&mut self, now: Micros, incoming: Incoming, out: &mut Out) -> Result<(), LinkError> {
        self.0.received(now, incoming, out)
    }
    fn pump(&mut self, _: Micros, out: &mut Out) {
        out.publish(&Publish { retain: true, ..Publish::new("t", "x") }).unwrap();
    }
    fn is_done(&mut self) -> bool {
        true
    }
    fn disconnected(&mut self, now: Micros, why: &LinkError) {
        self.0.disconnected(now, why);
    }
}

#[test]
fn a_broker_without_retained_messages_gets_neither_a_retained_will_nor_a_retained_message() {
    const WILL_RETAIN: u8 = 0x20;
    let mut link = Link::new(Willing(Recorder::default()), &broker(), 1);
    let connect_flags = |out: &mut Out| out.split()[9];
    let mut first = out();
    link.opened(secs(0), &mut first);
    assert_eq!(connect_flags(&mut first) & WILL_RETAIN, WILL_RETAIN);
    assert!(link.received(secs(0), connack(Reason::NO_RETAINED), &mut first).is_err());
    {
        let why = link.closed();
        link.ended(secs(0), &why)
    };
    let mut second = out();
    link.opened(secs(1), &mut second);
    assert_eq!(connect_flags(&mut second) & WILL_RETAIN, 0);
    let welcome = Welcome { retains: false, ..Welcome::default() };
    let ack = ConnAck { reason: Reason::new(0), welcome };
    link.received(secs(1), Incoming::Packet(Packet::ConnAck(ack)), &mut second).unwrap();
    link.pump(secs(1), &mut second);
    assert_eq!(second[0], 0x30, "PUBLISH, not retained");
}
