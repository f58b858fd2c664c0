//! Frames from MQTT topics: one connection for all pipelines, acknowledged by hand.
//!
//! Promise: a QoS 1 frame is acknowledged when every pipeline that took it has settled it, in receive
//! order; a frame that nobody asked for, or whose payload is too large, is acknowledged too: it would
//! come again for ever. The session is kept by the broker while we are away. When a lane is full and
//! set to `block`, the connection is not read. What MQTT 5 carries beside a payload (expiry, where the
//! answer is wanted, user properties) travels along.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::identity::{Identities, Seen};
use super::subscriptions::Subscriptions;
use super::{Arrival, Intake, TooLarge};
use crate::base::counters::LinkCounters;
use crate::base::{Back, Carried, Clock, Frame, Identity, Micros, Origin, SystemClock};
use crate::config::Qos;
use crate::flow::Ticket;
use crate::flow::fail::{self, Point};
use crate::mqtt::packet::{Out, Packet, Publish, Reason, Welcome};
use crate::mqtt::{Filter, Greeting, Incoming, Ledger, LinkError, Oversize, Role};

/// A refused subscription is asked for again: an access list may have been mended meanwhile.
const SUBSCRIBE_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A broker that answers pings but not SUBSCRIBE is of no use to us.
const SUBACK_WITHIN: Duration = Duration::from_secs(30);
/// A broker that keeps sessions for less than this loses frames over an ordinary outage.
const SHORT_SESSION: Duration = Duration::from_secs(3_600);
/// The packet ids that this connection chooses; one of each is under way at a time.
const SUBSCRIBE_PKID: u16 = 1;
const UNSUBSCRIBE_PKID: u16 = 2;
/// Frames taken and not yet acknowledged; beyond it the connection is not read. A broker may send its
/// whole queue at once, and sends all of it again after a break: it must find its identities still
/// remembered then, and half of them are room for what other pipelines' frames push out.
const MAX_UNACKNOWLEDGED: usize = super::identity::REMEMBERED / 2;

/// Told whether frames are taken.
pub type OnTaking = Box<dyn Fn(bool) + Send>;

/// What one pipeline asks for.
#[derive(Clone, Debug)]
pub struct Route {
    /// Index of the pipeline and its lane.
    pub pipeline: usize,
    /// Its name, for messages.
    pub name: String,
    /// Its topics.
    pub filter: Filter,
    /// Quality asked for.
    pub qos: Qos,
    /// User property with the frame's own id.
    pub id_property: Option<String>,
    /// Larger payloads are refused.
    pub max_payload_bytes: usize,
    /// Its answers depend on the frames before.
    pub is_stateful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    None,
    /// SUBSCRIBE is out.
    Asked {
        since: Micros,
    },
    Granted,
    /// At least one filter was refused.
    Refused {
        again_at: Micros,
    },
}

/// The intake connection's side of a [`Link`](crate::mqtt::link::Link).
pub struct MqttSource {
    client_id: String,
    routes: Vec<Route>,
    subscriptions: Subscriptions,
    intake: Arc<Intake>,
    ledger: Arc<Ledger>,
    link: Arc<LinkCounters>,
    on_taking: OnTaking,
    identities: Identities,
    phase: Phase,
    /// Arrivals for lanes without room.
    held: VecDeque<(usize, Arrival)>,
    /// Packet ids of frames that came at QoS 2 and are not acknowledged.
    exactly_once: HashSet<u16>,
    said_exactly_once: bool,
    /// A response topic that cannot be published on has been told of.
    said_bad_reply: bool,
}

/// An incoming PUBLISH without its payload.
struct Delivery<'d> {
    topic: &'d str,
    pkid: Option<u16>,
    named: (Identity, Seen),
    payload_bytes: usize,
    /// Where they are too long.
    properties_bytes: usize,
    carried: Carried,
    user: &'d [(String, String)],
}

impl MqttSource {
    /// `on_taking` hears `true` each time the broker has granted every subscription, and `false`
    /// when the connection is gone.
    pub fn new(
        client_id: String,
        routes: Vec<Route>,
        intake: Arc<Intake>,
        ledger: Arc<Ledger>,
        link: Arc<LinkCounters>,
        on_taking: OnTaking,
        identities: Identities,
    ) -> Self {
        Self {
            client_id,
            subscriptions: Subscriptions::fewest(&routes),
            routes,
            intake,
            ledger,
            link,
            on_taking,
            identities,
            phase: Phase::None,
            held: VecDeque::new(),
            exactly_once: HashSet::new(),
            said_exactly_once: false,
            said_bad_reply: false,
        }
    }

    fn subscribe(&mut self, now: Micros, out: &mut Out) {
        let filters = self.subscriptions.asked.iter().map(|asked| (asked.filter.as_str(), asked.qos));
        out.subscribe(SUBSCRIBE_PKID, filters);
        self.phase = Phase::Asked { since: now };
    }

    fn granted(
        &mut self,
        now: Micros,
        grants: &[Result<Qos, Reason>],
        out: &mut Out,
    ) -> Result<(), LinkError> {
        if grants.len() != self.subscriptions.asked.len() {
            return Err(LinkError::Protocol(
                "SUBACK with another number of codes than SUBSCRIBE had filters",
            ));
        }
        if grants.iter().any(Result::is_err) && !self.subscriptions.covered.is_empty() {
            // The access list may allow the narrow filter where it refuses the wide one.
            self.subscriptions = Subscriptions::each(&self.routes);
            self.subscribe(now, out);
            return Ok(());
        }
        let mut refused = false;
        for (asked, grant) in self.subscriptions.asked.iter().zip(grants) {
            let (filter, pipelines) = (&asked.filter, asked.pipelines.join(", "));
            match grant {
                Err(reason) => {
                    refused = true;
                    log::error!(
                        "pipeline {pipelines}: the broker refused the subscription to {filter}: {reason}; check its access \
                         list. Asking again in {} s",
                        SUBSCRIBE_AGAIN_AFTER.as_secs()
                    );
                }
                Ok(Qos::AtMostOnce) if asked.qos == Qos::AtLeastOnce => {
                    log::warn!(
                        "pipeline {pipelines}: the broker grants {filter} at QoS 0 only: frames may be lost before they reach us"
                    );
                }
                Ok(_) => {}
            }
        }
        if refused {
            self.phase = Phase::Refused { again_at: now + SUBSCRIBE_AGAIN_AFTER };
        } else {
            self.phase = Phase::Granted;
            log::info!("intake connection: taking frames from {} topic(s)", self.routes.len());
            self.link.up.store(1, Ordering::Relaxed);
            (self.on_taking)(true);
        }
        Ok(())
    }

    fn publish(&mut self, now: Micros, publish: &Publish) {
        let Publish { topic, payload, dup, retain, properties, .. } = publish;
        let pkid = (publish.qos == Qos::AtLeastOnce).then_some(publish.pkid);
        if publish.exactly_once {
            self.came_exactly_once(publish.pkid);
        }
        let named = self.identify(topic, payload, pkid, *dup, *retain);
        let mut carried = Carried { retained: *retain, ..Carried::default() };
        let mut user: &[(String, String)] = &[];
        if let Some(properties) = properties.get() {
            user = &properties.user;
            carried.expires_at = properties.expiry_secs.map(|secs| now + Duration::from_secs(secs.into()));
            carried.reply_topic =
                properties.response_topic.as_deref().and_then(|topic| self.reply_topic(topic));
            let back = Back { correlation: properties.correlation.clone(), user: properties.user.clone() };
            carried.back = (back != Back::default()).then(|| Arc::new(back));
        }
        let payload_bytes = payload.len();
        let delivery = Delivery { topic, pkid, named, payload_bytes, properties_bytes: 0, carried, user };
        self.deliver(now, payload, &delivery);
    }

    fn oversize(&mut self, now: Micros, oversize: &Oversize) {
        let &Oversize { ref topic, pkid, exactly_once, dup, retain, payload_bytes, properties_bytes } =
            oversize;
        if let (true, Some(pkid)) = (exactly_once, pkid) {
            self.came_exactly_once(pkid);
        }
        let bytes = payload_bytes + properties_bytes;
        let named = self.identify(topic, &bytes.to_le_bytes(), pkid, dup, retain);
        let carried = Carried { retained: retain, ..Carried::default() };
        let delivery = Delivery { topic, pkid, named, payload_bytes, properties_bytes, carried, user: &[] };
        self.deliver(now, &Bytes::new(), &delivery);
    }

    fn identify(
        &mut self,
        topic: &str,
        payload: &[u8],
        pkid: Option<u16>,
        dup: bool,
        retain: bool,
    ) -> (Identity, Seen) {
        if retain {
            self.identities.identify_retained(topic, payload, pkid, dup)
        } else {
            self.identities.identify(topic, payload, pkid, dup)
        }
    }

    /// We subscribe at QoS 0 and 1, and another program may have subscribed with our client id before: what the
    /// broker kept for it would come again for ever. It is answered and settled like any frame.
    fn came_exactly_once(&mut self, pkid: u16) {
        self.exactly_once.insert(pkid);
        if !std::mem::replace(&mut self.said_exactly_once, true) {
            log::warn!(
                "intake connection: the broker sends frames at QoS 2, of a subscription that another program made with our \
                 client id; they are taken as at QoS 1 (said once)"
            );
        }
    }

    /// A topic that the broker would end our connection over goes no further.
    fn reply_topic(&mut self, topic: &str) -> Option<Arc<str>> {
        if topic.is_empty() || topic.starts_with('$') || topic.contains(['+', '#']) {
            if !std::mem::replace(&mut self.said_bad_reply, true) {
                log::warn!(
                    "intake connection: a frame asks for its answer on {topic:?}, which is no topic to publish on; it is \
                     answered on the pipeline's own topic only (said once)"
                );
            }
            return None;
        }
        Some(topic.into())
    }

    fn deliver(&mut self, now: Micros, payload: &Bytes, delivery: &Delivery<'_>) {
        let &Delivery { topic, pkid, payload_bytes, properties_bytes: bytes, ref carried, user, .. } =
            delivery;
        let (identity, seen) = delivery.named;
        fail::pass(Point::FrameTaken);
        let mut wanted: Vec<(&Route, Origin)> =
            self.routes.iter().filter_map(|route| Some((route, route.filter.matches(topic)?))).collect();
        if wanted.is_empty() {
            self.link.unmatched.bump();
        }
        // Answered already, or about to be: neither a second inference nor a second place in a window.
        if seen == Seen::Here && pkid.is_none_or(|pkid| self.ledger.taken_again(pkid, identity.delivery)) {
            wanted.iter().for_each(|(route, _)| self.intake.count_again(route.pipeline));
            return;
        }
        // A second answer harms nobody; a window would count the frame twice, and most likely it is the same.
        if seen == Seen::Acknowledged {
            wanted.retain(|(route, _)| {
                if route.is_stateful {
                    self.intake.count_again(route.pipeline);
                }
                !route.is_stateful
            });
        }
        let receipt = pkid.map(|pkid| self.ledger.taken(pkid, identity.delivery, wanted.len()));
        let acquired_at = SystemClock.wall();
        for (route, origin) in wanted {
            let limit = route.max_payload_bytes;
            let too_large = match payload_bytes > limit {
                true => Some(TooLarge::Payload { bytes: payload_bytes, limit }),
                false => (bytes > 0).then_some(TooLarge::Properties { bytes, payload_bytes }),
            };
            let payload = if too_large.is_some() { Bytes::new() } else { payload.clone() };
            let ticket = match receipt {
                Some(receipt) => Ticket::new(self.ledger.clone(), receipt),
                None => Ticket::none(),
            };
            let mut carried = carried.clone();
            if let Some(name) = &route.id_property {
                let own = user.iter().find(|(key, value)| key == name && !value.is_empty());
                carried.frame_id = own.map(|(_, value)| value.clone());
            }
            let frame = Frame { payload, origin, identity, acquired_at, taken_at: now, carried };
            self.intake.count(route.pipeline, payload_bytes, identity.redelivered);
            if let Some(waits) = self.intake.push(route.pipeline, Arrival { frame, too_large, ticket }) {
                self.held.push_back((route.pipeline, waits));
            }
        }
        self.intake.wake();
    }

    /// What waits for room goes first.
    fn push_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        while let Some((pipeline, arrival)) = self.held.pop_front() {
            if let Some(waits) = self.intake.push(pipeline, arrival) {
                self.held.push_front((pipeline, waits));
                break;
            }
        }
        self.intake.wake();
    }
}

impl Role for MqttSource {
    fn greeting(&self) -> Greeting {
        Greeting { client_id: self.client_id.clone(), clean_session: false, will: None }
    }

    fn connected(&mut self, now: Micros, welcome: &Welcome, out: &mut Out) {
        if !welcome.session_present && self.link.connects.get() > 0 {
            log::warn!(
                "intake connection: the broker has forgotten our session; frames published meanwhile did not reach us"
            );
        }
        if !welcome.session_present {
            self.identities.new_session();
        }
        if let Some(secs) = welcome.session_expiry_secs
            && Duration::from_secs(secs.into()) < SHORT_SESSION
        {
            log::warn!(
                "intake connection: the broker keeps our session for {secs} s only; frames of a longer outage are lost"
            );
        }
        // Also with a session: a broker may have kept the session and lost a subscription.
        self.subscribe(now, out);
        let covered = &self.subscriptions.covered;
        if welcome.session_present && !covered.is_empty() {
            // Of an earlier configuration: it would send their frames twice.
            out.unsubscribe(UNSUBSCRIBE_PKID, covered.iter().map(String::as_str));
        }
    }

    fn received(&mut self, now: Micros, incoming: Incoming, out: &mut Out) -> Result<(), LinkError> {
        match incoming {
            Incoming::Packet(Packet::Publish(publish)) => self.publish(now, &publish),
            Incoming::Oversize(oversize) => self.oversize(now, &oversize),
            Incoming::Packet(Packet::SubAck(ack)) => return self.granted(now, &ack.grants, out),
            Incoming::Packet(Packet::PubRel(pkid)) => out.pubcomp(pkid),
            Incoming::Packet(Packet::UnsubAck) => {}
            Incoming::Packet(_) => {
                return Err(LinkError::Protocol("a packet that does not belong on this connection"));
            }
        }
        Ok(())
    }

    /// A frame that is long on the wire goes before the grant that we wait for.
    fn heard(&mut self, now: Micros) {
        if let Phase::Asked { since } = &mut self.phase {
            *since = now;
        }
    }

    fn check(&mut self, now: Micros) -> Result<(), LinkError> {
        match self.phase {
            Phase::Asked { since } if now.since(since) >= SUBACK_WITHIN => {
                Err(LinkError::Unanswered { what: "a subscription", secs: now.since(since).as_secs() })
            }
            _ => Ok(()),
        }
    }

    fn awaits_answer(&self) -> bool {
        matches!(self.phase, Phase::Asked { .. })
    }

    fn pump(&mut self, now: Micros, out: &mut Out) {
        self.push_held();
        while let Some(pkid) = self.ledger.next_ack() {
            if self.exactly_once.remove(&pkid) {
                out.pubrec(pkid);
            } else {
                out.puback(pkid);
            }
            self.identities.acknowledged(pkid);
            fail::pass(Point::FrameAcknowledged);
        }
        if matches!(self.phase, Phase::Refused { again_at } if now >= again_at) {
            self.subscribe(now, out);
        }
    }

    fn takes_more(&mut self) -> bool {
        self.push_held();
        self.held.is_empty()
            && self.ledger.unacknowledged() < MAX_UNACKNOWLEDGED
            && !self.intake.is_stopping()
    }

    fn is_done(&mut self) -> bool {
        // Asked when workers and outbox have ended: what is not settled by now stays with the broker,
        // and what is settled goes out with the pump that follows.
        true
    }

    fn disconnected(&mut self, _: Micros, _: &LinkError) {
        self.phase = Phase::None;
        self.link.up.store(0, Ordering::Relaxed);
        (self.on_taking)(false);
        self.exactly_once.clear();
        self.ledger.connection_lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Reason;
    use crate::base::counters::PipelineCounters;
    use crate::config::Protocol;
    use crate::config::WhenFull;
    use crate::flow::{LaneLimits, Lanes};
    use crate::mqtt::packet::{Properties, PublishProperties, Reason as Why, SubAck};

    struct Bench {
        source: MqttSource,
        lanes: Arc<Lanes<Arrival>>,
        counters: Vec<Arc<PipelineCounters>>,
        out: Out,
    }

    /// Pipelines with one filter each and room for two frames.
    fn bench(filters: &[&str], when_full: WhenFull) -> Bench {
        let limits = LaneLimits { items: 2, bytes: 1 << 20, when_full, ordered: false };
        let lanes = Arc::new(Lanes::new(filters.iter().map(|_| limits), || {}));
        let counters: Vec<Arc<PipelineCounters>> = filters.iter().map(|_| Arc::default()).collect();
        let route = |(pipeline, filter): (usize, &&str)| Route {
            pipeline,
            name: format!("p{pipeline}"),
            filter: Filter::parse(filter),
            qos: Qos::AtLeastOnce,
            id_property: Some("part".into()),
            max_payload_bytes: 100,
            is_stateful: false,
        };
        let routes = filters.iter().enumerate().map(route).collect();
        let intake = Arc::new(Intake::new(lanes.clone(), counters.clone()));
        let ledger = Arc::new(Ledger::new(|| {}));
        let identities = Identities::new(None, []);
        let source =
            MqttSource::new("c".into(), routes, intake, ledger, Arc::default(), Box::new(|_| {}), identities);
        Bench { source, lanes, counters, out: Out::new(Protocol::V3_1_1) }
    }

    fn publish(topic: &str, pkid: u16, payload: &str) -> Publish {
        Publish { qos: Qos::AtLeastOnce, pkid, ..Publish::new(topic, payload.to_owned()) }
    }

    impl Bench {
        fn receive(&mut self, topic: &str, pkid: u16, payload: &str) {
            self.receive_packet(Packet::Publish(publish(topic, pkid, payload)));
        }

        fn receive_packet(&mut self, packet: Packet) {
            self.source.received(Micros(1), Incoming::Packet(packet), &mut self.out).unwrap();
        }

        /// Packet ids acknowledged since the last call.
        fn acks(&mut self) -> Vec<u16> {
            self.source.pump(Micros(2), &mut self.out);
            let mut acks = Vec::new();
            while !self.out.is_empty() {
                let packet = self.out.split_to(4);
                assert_eq!(packet[..2], [0x40, 2], "{packet:?}");
                acks.push(u16::from_be_bytes([packet[2], packet[3]]));
            }
            acks
        }

        fn take(&self) -> Arrival {
            let (lane, arrival) = self.lanes.take().unwrap();
            self.lanes.done(lane);
            arrival
        }
    }

    #[test]
    fn a_frame_is_acknowledged_when_both_pipelines_that_took_it_have_settled_it() {
        let mut bench = bench(&["camera/{camera}", "camera/#"], WhenFull::DropOldest);
        bench.receive("camera/left", 7, "x");
        let (first, second) = (bench.take(), bench.take());
        assert_eq!(first.frame.origin.level("camera"), Some("left"));
        first.ticket.settle();
        assert!(bench.acks().is_empty());
        second.ticket.settle();
        assert_eq!(bench.acks(), [7]);
    }

    #[test]
    fn a_frame_that_nobody_asked_for_is_acknowledged_and_counted() {
        let mut bench = bench(&["camera/left"], WhenFull::DropOldest);
        bench.receive("other", 3, "x");
        assert_eq!(bench.acks(), [3]);
        assert_eq!(bench.source.link.unmatched.get(), 1);
    }

    #[test]
    fn frames_dropped_by_choice_are_acknowledged_in_order_and_counted() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        for pkid in 1..=3 {
            bench.receive("t", pkid, "x");
        }
        assert_eq!(bench.acks(), [1]);
        assert_eq!(bench.counters[0].lost(Reason::QueueDropOldest).get(), 1);
        assert_eq!(bench.counters[0].frames.get(), 3);
    }

    #[test]
    fn a_full_lane_that_blocks_stops_the_reading_and_nothing_is_lost() {
        let mut bench = bench(&["t"], WhenFull::Block);
        for pkid in 1..=3 {
            assert!(bench.source.takes_more());
            bench.receive("t", pkid, &pkid.to_string());
        }
        assert!(!bench.source.takes_more());
        let order: Vec<_> = (0..3)
            .map(|_| {
                let arrival = bench.take();
                bench.source.pump(Micros(2), &mut bench.out);
                let payload = arrival.frame.payload.clone();
                arrival.ticket.settle();
                payload
            })
            .collect();
        assert_eq!(order, ["1", "2", "3"]);
        assert!(bench.source.takes_more());
        assert_eq!(bench.acks(), [1, 2, 3]);
    }

    #[test]
    fn what_waits_for_room_outlives_its_connection() {
        let mut bench = bench(&["t"], WhenFull::Block);
        for pkid in 1..=3 {
            bench.receive("t", pkid, &pkid.to_string());
        }
        // The broker may forget us: nobody sends the third one again.
        bench.source.disconnected(Micros(3), &LinkError::Silent { secs: 3 });
        let payloads: Vec<_> = (0..3)
            .map(|_| {
                let arrival = bench.take();
                bench.source.takes_more();
                arrival.frame.payload
            })
            .collect();
        assert_eq!(payloads, ["1", "2", "3"]);
    }

    #[test]
    fn a_broker_that_sends_its_whole_queue_at_once_is_read_no_further_than_identities_are_remembered() {
        let mut bench = bench(&["t"], WhenFull::DropNewest);
        bench.receive("t", 1, "x");
        let first = bench.take();
        for pkid in 2..=MAX_UNACKNOWLEDGED as u16 {
            assert!(bench.source.takes_more());
            bench.receive("t", pkid, "x");
        }
        assert!(!bench.source.takes_more());
        first.ticket.settle();
        (0..2).for_each(|_| bench.take().ticket.settle());
        // Those behind them that were dropped by choice go with them.
        assert!(bench.acks().len() > MAX_UNACKNOWLEDGED / 2);
        assert!(bench.source.takes_more());
    }

    #[test]
    fn a_payload_over_the_limit_arrives_without_its_bytes() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive("t", 1, &"x".repeat(101));
        let arrival = bench.take();
        assert_eq!(arrival.too_large, Some(TooLarge::Payload { bytes: 101, limit: 100 }));
        assert!(arrival.frame.payload.is_empty());
        let over = Oversize {
            topic: "t".into(),
            pkid: Some(2),
            exactly_once: false,
            dup: false,
            retain: false,
            payload_bytes: 5_000_000,
            properties_bytes: 0,
        };
        bench.source.received(Micros(1), Incoming::Oversize(over.clone()), &mut bench.out).unwrap();
        assert_eq!(bench.take().too_large, Some(TooLarge::Payload { bytes: 5_000_000, limit: 100 }));
        let heavy = Oversize { pkid: Some(3), payload_bytes: 9, properties_bytes: 70_000, ..over };
        bench.source.received(Micros(1), Incoming::Oversize(heavy), &mut bench.out).unwrap();
        let heavy = TooLarge::Properties { bytes: 70_000, payload_bytes: 9 };
        assert_eq!(bench.take().too_large, Some(heavy), "a payload within the limit is none that is empty");
    }

    #[test]
    fn what_another_program_has_left_at_qos_2_is_settled_by_its_own_handshake() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive_packet(Packet::Publish(Publish { exactly_once: true, ..publish("t", 7, "x") }));
        bench.receive("t", 8, "y");
        bench.source.pump(Micros(2), &mut bench.out);
        assert!(bench.out.is_empty(), "not settled");
        (0..2).for_each(|_| bench.take().ticket.settle());
        bench.source.pump(Micros(2), &mut bench.out);
        assert_eq!(bench.out.split()[..], [0x50, 2, 0, 7, 0x40, 2, 0, 8], "PUBREC, PUBACK");
        bench.receive_packet(Packet::PubRel(7));
        assert_eq!(bench.out.split()[..], [0x70, 2, 0, 7], "PUBCOMP");
    }

    fn retained(pkid: u16, payload: &str) -> Packet {
        Packet::Publish(Publish { retain: true, ..publish("t", pkid, payload) })
    }

    #[test]
    fn a_retained_frame_is_taken_once_however_often_we_subscribe() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive_packet(retained(1, "x"));
        let arrival = bench.take();
        assert!(arrival.frame.carried.retained);
        arrival.ticket.settle();
        bench.receive_packet(retained(2, "x"));
        assert_eq!(bench.acks(), [1, 2]);
        bench.receive_packet(retained(3, "y"));
        assert_eq!(bench.take().frame.payload, "y");
        let at_most_once = Publish { qos: Qos::AtMostOnce, pkid: 0, retain: true, ..publish("t", 0, "y") };
        bench.receive_packet(Packet::Publish(at_most_once));
        assert_eq!(bench.lanes.depth(0).0, 0);
    }

    #[test]
    fn a_retained_frame_that_comes_again_is_acknowledged_when_its_answer_is_settled() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive_packet(retained(1, "x"));
        let first = bench.take();
        bench.source.disconnected(Micros(3), &LinkError::Silent { secs: 3 });
        bench.source.connected(
            Micros(3),
            &Welcome { session_present: false, ..Welcome::default() },
            &mut bench.out,
        );
        bench.out.clear();
        bench.receive_packet(retained(1, "x"));
        assert!(bench.acks().is_empty(), "its answer is not safe yet");
        assert_eq!(bench.lanes.depth(0).0, 0, "it waits once");
        first.ticket.settle();
        assert_eq!(bench.acks(), [1]);
    }

    #[test]
    fn a_retained_frame_that_changes_and_changes_back_waits_for_both_its_answers() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive_packet(retained(1, "x"));
        let first = bench.take();
        bench.receive_packet(retained(2, "y"));
        bench.take().ticket.settle();
        bench.receive_packet(retained(3, "x"));
        let last = bench.take();
        assert_eq!(last.frame.identity.delivery, first.frame.identity.delivery);
        first.ticket.settle();
        assert!(bench.acks().is_empty(), "one of two answers under its id");
        last.ticket.settle();
        assert_eq!(bench.acks(), [1, 2, 3]);
    }

    #[test]
    fn a_retained_payload_over_the_limit_is_refused_once() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        for pkid in 1..=2 {
            let over = Oversize {
                topic: "t".into(),
                pkid: Some(pkid),
                exactly_once: false,
                dup: false,
                retain: true,
                payload_bytes: 5_000_000,
                properties_bytes: 0,
            };
            bench.source.received(Micros(1), Incoming::Oversize(over), &mut bench.out).unwrap();
        }
        let arrival = bench.take();
        assert!(arrival.frame.carried.retained);
        arrival.ticket.settle();
        assert_eq!(bench.lanes.depth(0).0, 0);
        assert_eq!(bench.acks(), [1, 2]);
    }

    #[test]
    fn a_refused_subscription_is_asked_for_again_after_a_minute() {
        let mut bench = bench(&["t", "u"], WhenFull::DropOldest);
        bench.source.connected(Micros(0), &Welcome::default(), &mut bench.out);
        bench.out.clear();
        let grants = vec![Ok(Qos::AtLeastOnce), Err(Why::new(Why::NOT_AUTHORISED))];
        bench.receive_packet(Packet::SubAck(SubAck { pkid: SUBSCRIBE_PKID, grants }));
        assert_eq!(bench.source.link.up.load(Ordering::Relaxed), 0);
        assert!(bench.acks().is_empty());
        bench.source.pump(Micros(1) + SUBSCRIBE_AGAIN_AFTER, &mut bench.out);
        assert_eq!(bench.out[0], 0x82, "SUBSCRIBE");
    }

    #[test]
    fn a_subscription_that_is_not_answered_ends_the_connection() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.source.connected(Micros(0), &Welcome::default(), &mut bench.out);
        assert!(bench.source.awaits_answer());
        assert!(bench.source.check(Micros(0) + SUBACK_WITHIN / 2).is_ok());
        let error = bench.source.check(Micros(0) + SUBACK_WITHIN).unwrap_err();
        assert!(error.to_string().contains("subscription"), "{error}");
    }

    #[test]
    fn what_mqtt_5_carries_travels_along_and_a_bad_response_topic_goes_no_further() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        let with = |response_topic: &str| {
            let properties = Properties::of(PublishProperties {
                expiry_secs: Some(3),
                response_topic: Some(response_topic.into()),
                correlation: Some(Bytes::from_static(b"7")),
                user: vec![("part".into(), "A17".into()), ("shift".into(), "2".into())],
            });
            Packet::Publish(Publish { properties, ..publish("t", 1, "x") })
        };
        bench.receive_packet(with("answers/me"));
        let carried = bench.take().frame.carried;
        assert_eq!(carried.expires_at, Some(Micros(1) + Duration::from_secs(3)));
        assert_eq!(carried.reply_topic.as_deref(), Some("answers/me"));
        assert_eq!(carried.frame_id.as_deref(), Some("A17"));
        let back = carried.back.unwrap();
        assert_eq!((back.correlation.as_deref(), back.user.len()), (Some(&b"7"[..]), 2));
        for bad in ["", "a/#", "a/+/b", "$SYS/x"] {
            bench.receive_packet(with(bad));
            assert_eq!(bench.take().frame.carried.reply_topic, None, "{bad}");
        }
    }

    #[test]
    fn what_mqtt_5_carries_beside_a_payload_fills_a_lane_too() {
        let mut bench = bench(&["t"], WhenFull::Block);
        // 60,000 bytes on the wire, and more than half of the lane's in memory.
        let user = vec![(String::new(), "x".into()); 10_000];
        let properties = Properties::of(PublishProperties { user, ..PublishProperties::default() });
        for pkid in 1..=2 {
            assert!(bench.source.takes_more());
            let publish = Publish { properties: properties.clone(), ..publish("t", pkid, "x") };
            bench.receive_packet(Packet::Publish(publish));
        }
        assert!(!bench.source.takes_more());
        assert_eq!(bench.lanes.depth(0).0, 1);
    }

    #[test]
    fn what_is_no_topic_belongs_to_nobody_and_is_acknowledged() {
        let mut bench = bench(&["#", "+/{x}"], WhenFull::DropOldest);
        for (pkid, topic) in [(1, ""), (2, "a/+"), (3, "a/#")] {
            bench.receive(topic, pkid, "x");
        }
        assert_eq!(bench.acks(), [1, 2, 3]);
        assert_eq!(bench.source.link.unmatched.get(), 3);
    }

    #[test]
    fn after_a_lost_connection_old_tickets_settle_their_frame_and_no_other() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive("t", 1, "x");
        let old = bench.take();
        bench.source.disconnected(Micros(3), &LinkError::Silent { secs: 3 });
        bench.receive("t", 1, "another frame, in a new session");
        old.ticket.settle();
        assert!(bench.acks().is_empty());
        bench.take().ticket.settle();
        assert_eq!(bench.acks(), [1]);
    }

    impl Bench {
        /// The broker sends the frame with packet id 1 again, on a new connection.
        fn again(&mut self) {
            self.source.disconnected(Micros(3), &LinkError::Silent { secs: 3 });
            self.receive_packet(Packet::Publish(Publish { dup: true, ..publish("t", 1, "x") }));
        }
    }

    #[test]
    fn a_frame_that_comes_again_while_it_is_answered_is_answered_once() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive("t", 1, "x");
        bench.again();
        assert!(bench.acks().is_empty(), "its answer is not safe yet");
        let first = bench.take();
        assert_eq!(bench.lanes.depth(0).0, 0, "it waits once");
        first.ticket.settle();
        bench.again();
        assert_eq!(bench.acks(), [1], "settled meanwhile, and never acknowledged: it is no other");
        assert_eq!(bench.lanes.depth(0).0, 0);
        assert_eq!((bench.counters[0].frames.get(), bench.counters[0].redelivered.get()), (1, 2));
    }

    #[test]
    fn a_duplicate_of_an_acknowledged_frame_is_answered_before_it_is_acknowledged() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive("t", 1, "x");
        let first = bench.take();
        let identity = first.frame.identity;
        first.ticket.settle();
        assert_eq!(bench.acks(), [1]);
        bench.again();
        assert!(bench.acks().is_empty(), "it may be another frame, whose first copy never came");
        let again = bench.take();
        assert_eq!(again.frame.identity, Identity { redelivered: true, ..identity });
        bench.again();
        assert_eq!(bench.lanes.depth(0).0, 0, "one more answer, however often it comes meanwhile");
        again.ticket.settle();
        assert_eq!(bench.acks(), [1]);
    }

    #[test]
    fn a_duplicate_of_an_acknowledged_frame_fills_no_window_twice_unless_the_broker_reuses_packet_ids() {
        let mut bench = bench(&["t", "t"], WhenFull::DropOldest);
        bench.source.routes[1].is_stateful = true;
        let settle = |bench: &mut Bench, answers: usize| {
            (0..answers).for_each(|_| bench.take().ticket.settle());
            assert_eq!(bench.acks(), [1]);
            assert_eq!((bench.lanes.depth(0).0, bench.lanes.depth(1).0), (0, 0));
        };
        bench.receive("t", 1, "x");
        settle(&mut bench, 2);
        bench.again();
        settle(&mut bench, 1);
        assert_eq!([0, 1].map(|pipeline| bench.counters[pipeline].frames.get()), [2, 1]);
        bench.receive("t", 1, "x");
        settle(&mut bench, 2);
        bench.again();
        settle(&mut bench, 2);
    }

    #[test]
    fn a_frame_that_was_left_unanswered_is_answered_when_it_comes_again() {
        let mut bench = bench(&["t"], WhenFull::DropOldest);
        bench.receive("t", 1, "x");
        let first = bench.take();
        let delivery = first.frame.identity.delivery;
        first.ticket.leave();
        bench.source.disconnected(Micros(3), &LinkError::Silent { secs: 3 });
        bench.receive_packet(Packet::Publish(Publish { dup: true, ..publish("t", 1, "x") }));
        let again = bench.take();
        assert_eq!(again.frame.identity.delivery, delivery);
        assert!(again.frame.identity.redelivered);
        again.ticket.settle();
        assert_eq!(bench.acks(), [1]);
    }
}
