//! Our packets against rumqttc's codec, another implementation: what it writes we read, what we write
//! it reads; and bytes that are anyone's.

use super::*;
use crate::config::Protocol;
use bytes::BytesMut;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

fn ours(protocol: Protocol, mut bytes: BytesMut) -> Result<Packet, read::Malformed> {
    let first = bytes[0];
    let header = 1 + bytes.iter().skip(1).position(|byte| byte & 0x80 == 0).unwrap() + 1;
    read::packet(protocol, first, bytes.split_off(header).freeze())
}

fn theirs_v4(out: &mut Out) -> v4::Packet {
    v4::Packet::read(out, usize::MAX).unwrap()
}

fn theirs_v5(out: &mut Out) -> v5::Packet {
    v5::Packet::read(out, None).unwrap()
}

fn connect(clean_session: bool) -> Connect {
    Connect {
        client_id: "press".into(),
        clean_session,
        keep_alive_secs: 15,
        will: Some(Will { topic: "w".into(), payload: Bytes::from_static(b"gone"), retain: true }),
        login: Some(("me".into(), "secret".into())),
    }
}

#[test]
fn connect_is_read_by_another_codec_in_both_versions() {
    for clean in [true, false] {
        let mut out = Out::new(Protocol::V3_1_1);
        out.connect(&connect(clean));
        let v4::Packet::Connect(read) = theirs_v4(&mut out) else { panic!("a CONNECT") };
        assert_eq!((read.client_id.as_str(), read.keep_alive, read.clean_session), ("press", 15, clean));
        let will = read.last_will.unwrap();
        assert_eq!((will.topic.as_str(), &will.message[..], will.retain), ("w", &b"gone"[..], true));
        assert_eq!(will.qos, rumqttc::mqttbytes::QoS::AtLeastOnce);
        assert_eq!(read.login.unwrap(), v4::Login::new("me", "secret"));

        let mut out = Out::new(Protocol::V5);
        out.connect(&connect(clean));
        let v5::Packet::Connect(read, will, login) = theirs_v5(&mut out) else { panic!("a CONNECT") };
        assert_eq!((read.client_id.as_str(), read.keep_alive, read.clean_start), ("press", 15, clean));
        let expiry = read.properties.and_then(|properties| properties.session_expiry_interval);
        assert_eq!(expiry, (!clean).then_some(u32::MAX), "a session that is kept never expires");
        assert_eq!(&will.unwrap().message[..], b"gone");
        assert_eq!(login.unwrap().username, "me");
    }
}

#[test]
fn subscribe_unsubscribe_ping_puback_and_disconnect_are_read_by_another_codec() {
    let filters = || [("a/+", Qos::AtLeastOnce), ("b/#", Qos::AtMostOnce)].into_iter();
    let mut out = Out::new(Protocol::V3_1_1);
    out.subscribe(1, filters());
    out.unsubscribe(2, filters().map(|(filter, _)| filter));
    out.puback(513);
    out.ping();
    out.disconnect();
    let v4::Packet::Subscribe(read) = theirs_v4(&mut out) else { panic!("a SUBSCRIBE") };
    assert_eq!((read.pkid, read.filters.len(), read.filters[0].path.as_str()), (1, 2, "a/+"));
    let v4::Packet::Unsubscribe(read) = theirs_v4(&mut out) else { panic!("an UNSUBSCRIBE") };
    assert_eq!((read.pkid, read.topics), (2, vec!["a/+".to_owned(), "b/#".to_owned()]));
    assert_eq!(theirs_v4(&mut out), v4::Packet::PubAck(v4::PubAck::new(513)));
    assert_eq!(theirs_v4(&mut out), v4::Packet::PingReq);
    assert_eq!(theirs_v4(&mut out), v4::Packet::Disconnect);

    let mut out = Out::new(Protocol::V5);
    out.subscribe(1, filters());
    out.unsubscribe(2, filters().map(|(filter, _)| filter));
    out.puback(513);
    out.ping();
    let v5::Packet::Subscribe(read) = theirs_v5(&mut out) else { panic!("a SUBSCRIBE") };
    assert_eq!((read.pkid, read.filters.len(), read.filters[1].path.as_str()), (1, 2, "b/#"));
    let v5::Packet::Unsubscribe(read) = theirs_v5(&mut out) else { panic!("an UNSUBSCRIBE") };
    assert_eq!((read.pkid, read.filters), (2, vec!["a/+".to_owned(), "b/#".to_owned()]));
    assert_eq!(theirs_v5(&mut out), v5::Packet::PubAck(v5::PubAck::new(513, None)));
    assert!(matches!(theirs_v5(&mut out), v5::Packet::PingReq(_)));
}

#[test]
fn what_a_server_answers_is_read_with_its_limits_and_words() {
    let properties = v5::ConnAckProperties {
        session_expiry_interval: Some(60),
        receive_max: Some(20),
        max_qos: Some(1),
        retain_available: Some(1),
        max_packet_size: Some(4096),
        assigned_client_identifier: None,
        topic_alias_max: Some(10),
        reason_string: Some("hello".into()),
        user_properties: vec![("a".into(), "b".into())],
        wildcard_subscription_available: Some(1),
        subscription_identifiers_available: Some(1),
        shared_subscription_available: Some(1),
        server_keep_alive: Some(9),
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    let ack = v5::ConnAck {
        session_present: true,
        code: v5::ConnectReturnCode::Success,
        properties: Some(properties),
    };
    let mut bytes = BytesMut::new();
    v5::Packet::ConnAck(ack).write(&mut bytes, None).unwrap();
    let Ok(Packet::ConnAck(read)) = ours(Protocol::V5, bytes) else { panic!("a CONNACK") };
    let welcome = read.welcome;
    assert!(welcome.session_present && welcome.at_least_once && welcome.retains);
    assert_eq!((welcome.receive_maximum, welcome.max_packet_bytes), (20, 4096));
    assert_eq!((welcome.keep_alive_secs, welcome.session_expiry_secs), (Some(9), Some(60)));
    assert!(read.reason.to_string().ends_with("in its own words: hello"), "{}", read.reason);

    // DISCONNECT with a reason alone, and with nothing at all (§3.14.2.1).
    let taken = ours(Protocol::V5, BytesMut::from(&[0xe0, 1, Reason::SESSION_TAKEN_OVER][..])).unwrap();
    let Packet::Disconnect(reason) = taken else { panic!("a DISCONNECT") };
    assert!(reason.to_string().contains("client id"), "{reason}");
    assert_eq!(ours(Protocol::V5, BytesMut::from(&[0xe0, 0][..])), Ok(Packet::Disconnect(Reason::new(0))));
    assert!(ours(Protocol::V3_1_1, BytesMut::from(&[0xe0, 0][..])).is_err());

    for (protocol, bytes) in
        [(Protocol::V3_1_1, &[0xb0, 2, 0, 2][..]), (Protocol::V5, &[0xb0, 4, 0, 2, 0, 0x11])]
    {
        assert_eq!(ours(protocol, BytesMut::from(bytes)), Ok(Packet::UnsubAck));
    }

    // PUBACK in its three lengths (§3.4.2.1).
    for (bytes, code) in
        [(&[0x40, 2, 0, 7][..], 0), (&[0x40, 3, 0, 7, 0x10], 0x10), (&[0x40, 4, 0, 7, 0x97, 0], 0x97)]
    {
        let Ok(Packet::PubAck(ack)) = ours(Protocol::V5, BytesMut::from(bytes)) else { panic!("{bytes:?}") };
        assert_eq!((ack.pkid, ack.reason.code), (7, code));
    }

    // SUBACK: granted, granted less, refused.
    for (protocol, bytes) in [
        (Protocol::V3_1_1, &[0x90, 5, 0, 1, 1, 0, 0x80][..]),
        (Protocol::V5, &[0x90, 6, 0, 1, 0, 1, 0, 0x87]),
    ] {
        let Ok(Packet::SubAck(ack)) = ours(protocol, BytesMut::from(bytes)) else { panic!("{bytes:?}") };
        assert_eq!(ack.grants[..2], [Ok(Qos::AtLeastOnce), Ok(Qos::AtMostOnce)]);
        assert!(ack.grants[2].is_err());
    }
}

#[test]
fn a_broker_without_version_5_says_so_in_its_own_form() {
    let refusal = ours(Protocol::V5, BytesMut::from(&[0x20, 2, 0, 1][..])).unwrap();
    let Packet::ConnAck(ack) = refusal else { panic!("a CONNACK") };
    assert!(ack.reason.is_failure());
    assert!(ack.reason.to_string().contains("[broker] protocol"), "{}", ack.reason);
    for (code, word) in
        [(2, "client id"), (3, "not available"), (4, "password"), (5, "not authorised"), (99, "why")]
    {
        let refusal = ours(Protocol::V3_1_1, BytesMut::from(&[0x20, 2, 0, code][..])).unwrap();
        let Packet::ConnAck(ack) = refusal else { panic!("a CONNACK") };
        assert!(ack.reason.is_failure() && ack.reason.to_string().contains(word), "{code}: {}", ack.reason);
    }
}

#[test]
fn what_breaks_the_protocol_is_refused_by_name() {
    use read::Malformed;
    for (first, body, why) in [
        (0x36, &b"\x00\x01t\x00\x01\x00"[..], Malformed::Qos),
        (0x32, b"\x00\x01t\x00\x00\x00", Malformed::PacketId),
        (0x30, b"\x00\x02\xff\xfe\x00", Malformed::Text),
        (0x30, b"\x00\x02a\x00\x00", Malformed::Text),
        (0x30, b"\x00\x09t\x00", Malformed::Short),
        // An alias instead of a topic, which was not offered.
        (0x30, b"\x00\x00\x03\x23\x00\x01", Malformed::TopicAlias),
        (0x30, b"\x00\x01t\x02\x7f\x00", Malformed::Property(0x7f)),
        (0x30, b"\x00\x01t\x0a\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01", Malformed::Property(2)),
        (0x30, b"\x00\x01t\x05\x02\x00\x00", Malformed::Short),
        (0xf0, b"", Malformed::Kind(15)),
    ] {
        let found = read::packet(Protocol::V5, first, Bytes::copy_from_slice(body));
        assert_eq!(found, Err(why), "{first:#x} {body:?}");
    }
}

#[test]
fn what_the_server_does_not_take_is_not_sent() {
    let mut out = Out::new(Protocol::V5);
    out.limit(20);
    let small = Publish::new("t", vec![0; 14]);
    assert_eq!(out.publish(&small), Ok(()));
    let sent = out.len();
    assert_eq!(sent, 20);
    let large = Publish::new("t", vec![0; 15]);
    assert_eq!(out.publish(&large), Err(PacketTooLarge { bytes: 21, limit: 20 }));
    assert_eq!(out.len(), sent, "not one byte of it");
}

fn text() -> impl Strategy<Value = String> {
    "[a-zäß/☃]{1,40}"
}

prop_compose! {
    fn publishes()(
        topic in text(), payload in proptest::collection::vec(any::<u8>(), 0..300), pkid in 0u16..9, dup: bool,
        retain: bool, expiry_secs: Option<u32>, response_topic in proptest::option::of(text()),
        correlation in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        user in proptest::collection::vec((text(), text()), 0..5),
    ) -> Publish {
        let correlation = correlation.map(Bytes::from);
        let qos = if pkid == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
        let properties = Properties::of(PublishProperties { expiry_secs, response_topic, correlation, user });
        Publish { dup: dup && pkid > 0, qos, retain, pkid, properties, ..Publish::new(topic, payload) }
    }
}

proptest! {
    #[test]
    fn a_publish_is_what_another_codec_reads_and_comes_back_as_it_was(publish in publishes()) {
        let mut out = Out::new(Protocol::V5);
        out.publish(&publish).unwrap();
        prop_assert_eq!(ours(Protocol::V5, (*out).clone()), Ok(Packet::Publish(publish.clone())));
        let v5::Packet::Publish(read) = theirs_v5(&mut out) else { panic!("a PUBLISH") };
        prop_assert_eq!(&read.topic[..], publish.topic.as_bytes());
        prop_assert_eq!((&read.payload, read.pkid, read.dup, read.retain), (&publish.payload, publish.pkid, publish.dup, publish.retain));
        let expected = publish.properties.get().cloned().unwrap_or_default();
        let read = read.properties.unwrap_or_default();
        prop_assert_eq!(read.message_expiry_interval, expected.expiry_secs);
        prop_assert_eq!(read.response_topic, expected.response_topic);
        prop_assert_eq!(read.correlation_data, expected.correlation);
        prop_assert_eq!(read.user_properties, expected.user);

        let plain = Publish { properties: Properties::default(), ..publish };
        let mut out = Out::new(Protocol::V3_1_1);
        out.publish(&plain).unwrap();
        prop_assert_eq!(ours(Protocol::V3_1_1, (*out).clone()), Ok(Packet::Publish(plain.clone())));
        let v4::Packet::Publish(read) = theirs_v4(&mut out) else { panic!("a PUBLISH") };
        prop_assert_eq!((read.topic, read.payload, read.pkid), (plain.topic, plain.payload, plain.pkid));
    }

    #[test]
    fn any_body_ends_in_a_packet_or_a_reason_and_not_in_a_panic(
        first: u8, body in proptest::collection::vec(any::<u8>(), 0..80), v5: bool,
    ) {
        let protocol = if v5 { Protocol::V5 } else { Protocol::V3_1_1 };
        let _ = read::packet(protocol, first, body.into());
    }

    #[test]
    fn a_packet_cut_anywhere_ends_in_a_reason(publish in publishes(), cut: prop::sample::Index) {
        let mut out = Out::new(Protocol::V5);
        out.publish(&publish).unwrap();
        let head = out.len() - publish.payload.len();
        let header = 1 + out.iter().skip(1).position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let cut = header + cut.index(head - header);
        let body = Bytes::copy_from_slice(&out[header..cut]);
        prop_assert!(read::packet(Protocol::V5, out[0], body).is_err());
    }
}
