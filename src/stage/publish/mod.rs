//! Prediction to world: the publishing connection, and what it says besides predictions.
//!
//! Promise: what is in the outbox goes out in order, at most `max_inflight` unacknowledged at once,
//! and is settled by its own PUBACK. `availability` is republished at each connect; of `stats` only
//! the newest goes out. A message over which the broker ends connections holds up nobody ([`suspicion`]).
//! Not here: what a message says ([`payload`]), keeping it ([`crate::outbox`]).

mod order;
pub mod payload;
mod suspicion;
pub mod write_back;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::base::counters::{LinkCounters, PipelineCounters};
use crate::base::{Back, Micros, Reason};
use crate::config::Qos;
use crate::flow::fail::{self, Point};
use crate::mqtt::packet::{
    self, Out, Packet, PacketTooLarge, Properties, Publish, PublishProperties, Welcome, Will,
};
use crate::mqtt::{Greeting, Incoming, LinkError, Role};
use crate::outbox::{Entry, Kind, Outbox, Token};
use order::Order;
use suspicion::{Suspicion, Verdict};

/// Encoded bytes after which the socket gets its turn.
const PORTION_BYTES: usize = 64 * 1024;
/// A text has 16 bits for its length (§1.5.4), on disk as well.
const LONGEST_TOPIC: usize = u16::MAX as usize;
/// A broker that answers pings but has not acknowledged a message for this long has lost it.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// A message that the broker refused without saying whether the message is at fault goes out again after
/// this long, and others meanwhile.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Refused so often while others were taken, it is the message that is not wanted.
const REFUSALS_AT_MOST: u32 = 10;
/// `availability` waits at most so many times longer each time that connections end over it.
const HOLDS_AT_MOST: u32 = 9;
/// What the broker does not take is logged this often.
const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(60);

/// What the device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Frames are taken.
    Online,
    /// The daemon ended on purpose.
    Stopped,
    /// No frames are taken: said by the broker when we vanish (last will), and by ourselves while
    /// only the intake connection is gone.
    Offline,
}

impl Availability {
    /// The retained payload.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Stopped => "stopped",
            Self::Offline => "offline",
        }
    }
}

/// Messages of the device itself; each replaces the one before.
#[derive(Default)]
pub struct Notices(Mutex<NoticesInner>);

#[derive(Default)]
struct NoticesInner {
    availability: Option<Availability>,
    /// Whether `availability` waits to be sent.
    is_news: bool,
    stats: Option<Vec<u8>>,
}

impl Notices {
    /// From now on, and at each connect, this is what `availability` says.
    pub fn set_availability(&self, availability: Availability) {
        let mut inner = self.lock();
        inner.is_news |= inner.availability != Some(availability);
        inner.availability = Some(availability);
    }

    /// The newest `stats` message; one that has not gone out yet is replaced.
    pub fn set_stats(&self, payload: Vec<u8>) {
        self.lock().stats = Some(payload);
    }

    fn lock(&self) -> MutexGuard<'_, NoticesInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where workers put what is to be published.
#[derive(Clone)]
pub struct Publisher {
    /// The durable queue.
    pub outbox: Arc<Outbox>,
    /// In the order of the pipelines.
    pub counters: Vec<Arc<PipelineCounters>>,
    /// Wakes the publishing connection.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl Publisher {
    /// Queues a message; waits for room where [`Outbox::append`] does. One whose topic is longer than can be sent
    /// is lost here: a level that its frame's sender has filled may stand in it.
    pub fn publish(&self, entry: Entry) {
        if entry.topic.len() > LONGEST_TOPIC {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                log::error!(
                    "an answer is lost: its topic would have {} bytes, and MQTT's have {LONGEST_TOPIC} at most; others like it \
                     are counted as prediction_too_large (said once)",
                    entry.topic.len()
                );
            });
            self.counters[entry.pipeline].lost(Reason::PredictionTooLarge).bump();
            entry.ticket.settle();
            return;
        }
        self.outbox.append(entry);
        (self.wake)();
    }
}

/// Told how long the broker took to acknowledge: pipeline, from queueing to PUBACK.
pub type OnSettled = Box<dyn FnMut(usize, Duration) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Entry(Token),
    Availability(Availability),
}

/// A message that waits for its acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Sent {
    what: UnderWay,
    at: Micros,
    /// In the order of sending, over all connections.
    nth: u64,
}

/// `availability` after connections have ended over it.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    times: u32,
    until: Micros,
}

/// The publishing connection's side of a [`Link`](crate::mqtt::link::Link).
pub struct Outlet {
    /// The intake's client id with `-out`.
    client_id: String,
    availability_topic: String,
    stats_topic: String,
    max_inflight: usize,
    /// What the broker takes at once, where that is less.
    receive_maximum: usize,
    publisher: Publisher,
    notices: Arc<Notices>,
    link: Arc<LinkCounters>,
    on_settled: OnSettled,
    /// By packet id.
    under_way: HashMap<u16, Sent>,
    last_pkid: u16,
    /// Messages sent so far.
    sent: u64,
    order: Order,
    suspicion: Suspicion<UnderWay>,
    /// What is under way is a suspect: nothing else goes out until it is acknowledged.
    alone: bool,
    held: Option<Held>,
    /// `stopped` has been acknowledged.
    said_stopped: bool,
    /// Why the broker did not take the last message that it answered; nothing new goes out meanwhile.
    refuses: Option<packet::Reason>,
    refusals_said_at: Option<Micros>,
    blames_said_at: Option<Micros>,
}

impl Outlet {
    /// Names and limits of the connection; `device` is the topic level.
    pub fn new(
        device: &str,
        client_id: &str,
        max_inflight: u16,
        publisher: Publisher,
        notices: Arc<Notices>,
        link: Arc<LinkCounters>,
        on_settled: OnSettled,
    ) -> Self {
        Self {
            client_id: format!("{client_id}-out"),
            availability_topic: format!("lineside/{device}/availability"),
            stats_topic: format!("lineside/{device}/stats"),
            max_inflight: usize::from(max_inflight),
            receive_maximum: usize::from(u16::MAX),
            publisher,
            notices,
            link,
            on_settled,
            under_way: HashMap::new(),
            last_pkid: 0,
            sent: 0,
            order: Order::default(),
            suspicion: Suspicion::new(),
            alone: false,
            held: None,
            said_stopped: false,
            refuses: None,
            refusals_said_at: None,
            blames_said_at: None,
        }
    }

    /// A packet id that is not under way. There is one: `max_inflight` is below 65,535.
    fn pkid(&mut self) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self.under_way.contains_key(&self.last_pkid) {
                return self.last_pkid;
            }
        }
    }

    fn send(
        &mut self,
        now: Micros,
        mut publish: Publish,
        under_way: Option<UnderWay>,
        out: &mut Out,
    ) -> Result<(), PacketTooLarge> {
        if let Some(under_way) = under_way {
            publish.qos = Qos::AtLeastOnce;
            publish.pkid = self.pkid();
            out.publish(&publish)?;
            self.sent += 1;
            self.under_way.insert(publish.pkid, Sent { what: under_way, at: now, nth: self.sent });
            return Ok(());
        }
        out.publish(&publish)
    }

    /// What has been under way for longest.
    fn oldest(&self) -> Option<Sent> {
        self.under_way.values().min_by_key(|sent| sent.nth).copied()
    }

    /// Whether the broker takes one more at QoS 1 now.
    fn has_room(&self) -> bool {
        !self.alone && self.under_way.len() < self.max_inflight.min(self.receive_maximum)
    }

    fn pump_availability(&mut self, now: Micros, out: &mut Out) {
        let may_go = self.has_room() && self.held.is_none_or(|held| now >= held.until);
        let mut notices = self.notices.lock();
        // Without room it stays news: the next acknowledgement makes some, before the outbox is asked.
        let availability = notices.availability.filter(|_| may_go && std::mem::take(&mut notices.is_news));
        drop(notices);
        let Some(availability) = availability else { return };
        let payload = Bytes::from_static(availability.as_str().as_bytes());
        let publish = Publish { retain: true, ..Publish::new(&*self.availability_topic, payload) };
        let sent = self.send(now, publish, Some(UnderWay::Availability(availability)), out);
        self.told(now, "availability", sent);
    }

    /// After what waits: a broker that ends the connection over them has taken that before. Not beside a suspect,
    /// which would be blamed.
    fn pump_stats(&mut self, now: Micros, out: &mut Out) {
        if self.alone {
            return;
        }
        let Some(stats) = self.notices.lock().stats.take() else { return };
        let publish = Publish { retain: true, ..Publish::new(&*self.stats_topic, Bytes::from(stats)) };
        let sent = self.send(now, publish, None, out);
        self.told(now, "stats", sent);
    }

    fn told(&mut self, now: Micros, what: &str, sent: Result<(), PacketTooLarge>) {
        if let Err(error) = sent {
            self.say_refusal(now, what, &error.to_string());
        }
    }

    fn pump_outbox(&mut self, now: Micros, out: &mut Out) {
        while out.len() < PORTION_BYTES && self.has_room() && self.refuses.is_none() {
            let Some(mut outgoing) = self.publisher.outbox.take(now) else { return };
            if outgoing.again {
                let mut payload = outgoing.payload.to_vec();
                payload::mark_resent(&mut payload);
                outgoing.payload = payload.into();
                if let Some(pipeline) = outgoing.pipeline {
                    self.publisher.counters[pipeline].resent.bump();
                }
            }
            let token = outgoing.token;
            let under_way = (outgoing.qos == Qos::AtLeastOnce).then_some(UnderWay::Entry(token));
            let mut publish = Publish::new(&*outgoing.topic, outgoing.payload);
            publish.retain = outgoing.retain;
            publish.properties = properties(outgoing.back.as_deref());
            let sent = self.send(now, publish, under_way, out);
            fail::pass(Point::AnswerSent);
            match sent {
                // At QoS 0 nobody answers: handed to the network is all that can be known.
                Ok(()) if under_way.is_none() => self.settle(now, token),
                Ok(()) => self.alone = outgoing.alone,
                Err(error) => self.lose(now, token, Reason::PredictionTooLarge, &error.to_string()),
            }
        }
    }

    /// The broker will never take it: counted, said, and its frame settled, which would come again only
    /// to end here again.
    fn lose(&mut self, now: Micros, token: Token, reason: Reason, why: &str) {
        let what = self.what(token);
        let Some(settled) = self.publisher.outbox.give_up(token, now) else { return };
        if let Some(pipeline) = settled.pipeline {
            self.publisher.counters[pipeline].lost(reason).bump();
        }
        self.say_refusal(now, &what, why);
        settled.ticket.settle();
    }

    fn what(&self, token: Token) -> String {
        let (topic, bytes) = self.publisher.outbox.describe(token).unwrap_or_default();
        format!("{topic} ({bytes} bytes)")
    }

    fn say_refusal(&mut self, now: Micros, what: &str, why: &str) {
        if self.refusals_said_at.is_none_or(|at| now.since(at) >= REFUSALS_SAID_EVERY) {
            log::error!("publish connection: a message on {what} is lost: {why}");
            self.refusals_said_at = Some(now);
        }
    }

    fn acknowledged(&mut self, now: Micros, ack: packet::PubAck) -> Result<(), LinkError> {
        fail::pass(Point::AnswerAcknowledged);
        let Some(Sent { what: under_way, nth, .. }) = self.under_way.remove(&ack.pkid) else {
            // Harmless, and no reason to lose the connection.
            log::warn!("the broker acknowledged packet {}, which is not under way", ack.pkid);
            return Ok(());
        };
        self.order.acknowledged(nth);
        self.alone &= !self.under_way.is_empty();
        match under_way {
            // The link waits for another moment: what was not taken goes out on the next connection.
            UnderWay::Entry(_) if ack.reason.may_pass() => return Err(LinkError::NotTaken(ack.reason)),
            UnderWay::Entry(token) if ack.reason.is_unclear() => self.doubted(now, token, ack.reason),
            UnderWay::Entry(token) if ack.reason.is_failure() => {
                self.lose(
                    now,
                    token,
                    Reason::BrokerRefused,
                    &format!("the broker refused it: {}", ack.reason),
                );
            }
            UnderWay::Entry(token) => {
                self.refuses = None;
                self.settle(now, token);
            }
            UnderWay::Availability(availability) => {
                if ack.reason.is_failure() {
                    self.say_refusal(now, "availability", &format!("the broker refused it: {}", ack.reason));
                }
                self.held = None;
                self.said_stopped = availability == Availability::Stopped;
            }
        }
        match &self.refuses {
            // It takes nothing at all: the link waits, longer each time.
            Some(reason) if self.under_way.is_empty() => Err(LinkError::NotTaken(reason.clone())),
            _ => Ok(()),
        }
    }

    /// Refused, and the broker does not say whether over the message or over the moment: others show it.
    fn doubted(&mut self, now: Micros, token: Token, reason: packet::Reason) {
        let times = self.publisher.outbox.refused(token, now + REFUSED_AGAIN_AFTER);
        if times >= REFUSALS_AT_MOST {
            let why = format!("the broker refused it {times} times and took others meanwhile: {reason}");
            self.lose(now, token, Reason::BrokerRefused, &why);
        } else {
            self.refuses = Some(reason);
        }
    }

    /// The broker ended the connection with this one alone under way.
    fn blamed(&mut self, now: Micros, token: Token) {
        let times = self.publisher.outbox.refused(token, now + REFUSED_AGAIN_AFTER);
        if times >= REFUSALS_AT_MOST {
            let why =
                format!("the broker ended the connection over it {times} times and took others meanwhile");
            self.lose(now, token, Reason::BrokerRefused, &why);
        } else if self.blames_said_at.is_none_or(|at| now.since(at) >= REFUSALS_SAID_EVERY) {
            self.blames_said_at = Some(now);
            log::warn!(
                "publish connection: the broker seems to end it over a message on {}; that goes out again later, others \
                 meanwhile",
                self.what(token)
            );
        }
    }

    /// `availability` was the first that was not acknowledged, again: others go without it for a while.
    fn hold_availability(&mut self, now: Micros) {
        let times = self.held.unwrap_or_default().times;
        let wait = REFUSED_AGAIN_AFTER * (1 << times);
        self.held = Some(Held { times: (times + 1).min(HOLDS_AT_MOST), until: now + wait });
        let why = "the broker seems to end connections over it; allow it there, retained";
        self.say_refusal(now, &self.availability_topic.clone(), why);
    }

    fn settle(&mut self, now: Micros, token: Token) {
        let Some(settled) = self.publisher.outbox.settle(token, now) else { return };
        if let (Some(pipeline), Kind::Prediction) = (settled.pipeline, settled.kind) {
            self.publisher.counters[pipeline].settled.bump();
            // How long the backlog waited says nothing of the broker.
            if let Some(queued_at) = settled.queued_at {
                (self.on_settled)(pipeline, now.since(queued_at));
            }
        }
        settled.ticket.settle();
    }
}

impl Role for Outlet {
    fn greeting(&self) -> Greeting {
        let will = Will {
            topic: self.availability_topic.clone(),
            payload: Bytes::from_static(Availability::Offline.as_str().as_bytes()),
            retain: true,
        };
        // The outbox knows what is unsettled; the broker need not remember anything of us.
        Greeting { client_id: self.client_id.clone(), clean_session: true, will: Some(will) }
    }

    fn connected(&mut self, now: Micros, welcome: &Welcome, _: &mut Out) {
        self.receive_maximum = welcome.receive_maximum.into();
        if !welcome.retains {
            log::warn!(
                "publish connection: the broker keeps no retained messages; availability, stats and what is to be retained \
                 reach those only who are subscribed at that moment"
            );
        }
        self.notices.lock().is_news = true;
        self.link.up.store(1, Ordering::Relaxed);
        self.publisher.outbox.connected(now);
    }

    fn received(&mut self, now: Micros, incoming: Incoming, _: &mut Out) -> Result<(), LinkError> {
        match incoming {
            Incoming::Packet(Packet::PubAck(ack)) => self.acknowledged(now, ack),
            _ => Err(LinkError::Protocol("a packet that does not belong on this connection")),
        }
    }

    fn check(&mut self, now: Micros) -> Result<(), LinkError> {
        let Some(oldest) = self.oldest() else { return Ok(()) };
        let waits = now.since(oldest.at);
        if waits >= ACKNOWLEDGED_WITHIN || self.order.is_lost(oldest.nth, waits) {
            return Err(LinkError::Unanswered { what: "a publication", secs: waits.as_secs() });
        }
        Ok(())
    }

    fn awaits_answer(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn pump(&mut self, now: Micros, out: &mut Out) {
        self.pump_availability(now, out);
        self.pump_outbox(now, out);
        self.pump_stats(now, out);
    }

    fn is_done(&mut self) -> bool {
        let quiet = self.publisher.outbox.is_quiet();
        if quiet {
            self.notices.set_availability(Availability::Stopped);
        }
        let connected = self.link.up.load(Ordering::Relaxed) == 1;
        quiet && (self.said_stopped || !connected || self.held.is_some())
    }

    fn disconnected(&mut self, now: Micros, why: &LinkError) {
        self.link.up.store(0, Ordering::Relaxed);
        let first = self.oldest().map(|sent| sent.what);
        let alone = self.alone && self.under_way.len() == 1;
        match self.suspicion.ended(why.may_be_over_a_message(), first, alone) {
            Verdict::Nothing => {}
            Verdict::Suspect(UnderWay::Entry(token)) => self.publisher.outbox.suspect(token),
            Verdict::Refused(UnderWay::Entry(token)) => self.blamed(now, token),
            Verdict::Suspect(UnderWay::Availability(_)) | Verdict::Refused(UnderWay::Availability(_)) => {
                self.hold_availability(now);
            }
        }
        self.under_way.clear();
        self.alone = false;
        self.refuses = None;
        self.publisher.outbox.connection_lost(now);
    }
}

fn properties(back: Option<&Back>) -> Properties {
    let Some(back) = back else { return Properties::default() };
    Properties::of(PublishProperties {
        correlation: back.correlation.clone(),
        user: back.user.clone(),
        ..PublishProperties::default()
    })
}

#[cfg(test)]
mod tests {
    use super::order::{OVERTAKEN_FOR, OVERTAKEN_FOR_WHERE_USUAL};
    use super::*;
    use crate::base::Identity;
    use crate::config::{self, OutboxWhenFull, Protocol};
    use crate::flow::Ticket;
    use crate::mqtt::Ledger;
    use crate::mqtt::packet::{PubAck, Reason as Why, read};
    use std::num::NonZeroU64;

    const MAX_INFLIGHT: u16 = 3;

    struct Bench {
        outlet: Outlet,
        notices: Arc<Notices>,
        out: Out,
        now: Micros,
    }

    fn bench() -> Bench {
        let config = config::Outbox {
            path: "outbox".into(),
            max_bytes: NonZeroU64::new(1 << 20).unwrap(),
            when_full: OutboxWhenFull::Block,
            memory_bytes: NonZeroU64::new(1 << 19).unwrap(),
            spill_after: Duration::from_secs(1),
            backlog_per_sec: NonZeroU64::new(1000).unwrap(),
        };
        let counters: Arc<PipelineCounters> = Arc::default();
        let pipelines = vec![("p".into(), counters.clone())];
        let outbox = Outbox::new(&config, pipelines, MAX_INFLIGHT, Micros(0));
        let publisher =
            Publisher { outbox: Arc::new(outbox), counters: vec![counters], wake: Arc::new(|| {}) };
        let notices = Arc::new(Notices::default());
        let outlet = Outlet::new(
            "press",
            "id",
            MAX_INFLIGHT,
            publisher,
            notices.clone(),
            Arc::default(),
            Box::new(|_, _| {}),
        );
        Bench { outlet, notices, out: Out::new(Protocol::V5), now: Micros(1) }
    }

    impl Bench {
        fn queue(&self, text: &str, qos: Qos) {
            self.queue_on("result", text, qos, Ticket::none());
        }

        fn queue_on(&self, topic: &str, text: &str, qos: Qos, ticket: Ticket) {
            self.outlet.publisher.publish(Entry {
                pipeline: 0,
                topic: topic.into(),
                payload: format!("{{\"text\":\"{text}\",\"resent\":false}}").into_bytes().into(),
                qos,
                retain: false,
                kind: Kind::Prediction,
                identity: Identity { delivery: 0, redelivered: false, key: 0 },
                back: None,
                ticket,
                queued_at: Micros(0),
            });
        }

        fn connect(&mut self) {
            self.outlet.connected(Micros(0), &Welcome::default(), &mut self.out);
        }

        /// What goes out now: packet id and payload.
        fn sent(&mut self) -> Vec<(u16, String)> {
            self.outlet.pump(self.now, &mut self.out);
            let mut sent = Vec::new();
            while !self.out.is_empty() {
                let first = self.out[0];
                let length = usize::from(self.out[1]);
                assert!(length < 0x80, "the tests' messages are short");
                let body = self.out.split_to(2 + length).freeze().slice(2..);
                match read::packet(Protocol::V5, first, body).unwrap() {
                    Packet::Publish(publish) => {
                        sent.push((publish.pkid, String::from_utf8(publish.payload.to_vec()).unwrap()));
                    }
                    other => panic!("{other:?}"),
                }
            }
            sent
        }

        fn answer(&mut self, pkid: u16, code: u8) -> Result<(), LinkError> {
            let ack = Incoming::Packet(Packet::PubAck(PubAck { pkid, reason: Why::new(code) }));
            self.outlet.received(self.now, ack, &mut self.out)
        }

        /// The broker ends the connection.
        fn closed(&mut self, now: Micros) {
            self.outlet.disconnected(now, &LinkError::Closed { client_id: "id-out".into() });
        }

        /// Connections with a broker that takes what comes in order, until it ends the connection over a message
        /// for which `ends` says so; or until nothing comes. What it took.
        fn converse(&mut self, mut ends: impl FnMut(&str) -> bool) -> Vec<String> {
            let mut taken = Vec::new();
            loop {
                let sent = self.sent();
                if sent.is_empty() {
                    return taken;
                }
                for (pkid, text) in sent {
                    if ends(&text) {
                        self.closed(self.now);
                        self.now = self.now + Duration::from_millis(250);
                        self.connect();
                        return taken;
                    }
                    self.acknowledge(pkid);
                    taken.push(text);
                }
            }
        }

        fn acknowledge(&mut self, pkid: u16) {
            self.answer(pkid, 0).unwrap();
        }

        fn lost(&self, reason: Reason) -> u64 {
            self.outlet.publisher.counters[0].lost(reason).get()
        }

        fn settled(&self) -> u64 {
            self.outlet.publisher.counters[0].settled.get()
        }
    }

    #[test]
    fn no_more_than_max_inflight_are_under_way_and_each_puback_settles_its_own() {
        let mut bench = bench();
        bench.connect();
        for i in 0..5 {
            bench.queue(&i.to_string(), Qos::AtLeastOnce);
        }
        let first = bench.sent();
        assert_eq!(first.len(), usize::from(MAX_INFLIGHT));
        bench.acknowledge(first[1].0);
        assert_eq!(bench.settled(), 1);
        let next = bench.sent();
        assert_eq!(next.len(), 1);
        assert!(next[0].1.contains("\"3\""), "{next:?}");
        bench.acknowledge(first[1].0);
        bench.acknowledge(60_000);
        assert_eq!(bench.settled(), 1, "an acknowledgement counts once, and one of nothing does no harm");
    }

    #[test]
    fn a_lost_connection_sends_again_what_was_not_acknowledged_and_says_so() {
        let mut bench = bench();
        bench.connect();
        bench.queue("a", Qos::AtLeastOnce);
        bench.queue("b", Qos::AtLeastOnce);
        let first = bench.sent();
        bench.acknowledge(first[0].0);
        bench.closed(Micros(3));
        bench.connect();
        let again = bench.sent();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].1, "{\"text\":\"b\",\"resent\":true}");
        assert_eq!(bench.outlet.publisher.counters[0].resent.get(), 1);
    }

    #[test]
    fn a_refusal_that_may_pass_ends_the_connection_and_loses_nothing_and_one_that_stays_is_counted() {
        let mut bench = bench();
        bench.connect();
        bench.queue("a", Qos::AtLeastOnce);
        let (first, _) = bench.sent()[0];
        let error = bench.answer(first, 0x97).unwrap_err();
        assert!(error.to_string().contains("quota"), "{error}");
        bench.closed(Micros(3));
        bench.connect();
        let again = bench.sent();
        assert!(again[0].1.contains("\"a\""), "{again:?}");
        bench.answer(again[0].0, Why::NOT_AUTHORISED).unwrap();
        assert_eq!((bench.lost(Reason::BrokerRefused), bench.settled()), (1, 0));
        assert_eq!(bench.outlet.publisher.outbox.depth().live, 0);
        bench.queue("b", Qos::AtLeastOnce);
        let (other, _) = bench.sent()[0];
        bench.answer(other, 0x10).unwrap();
        assert_eq!(bench.settled(), 1, "nobody subscribed, and it has arrived");
    }

    #[test]
    fn a_message_that_is_refused_for_ever_holds_up_nobody_and_is_given_up_counted() {
        for code in [0x80, 0x83] {
            let mut bench = bench();
            bench.connect();
            bench.queue("poison", Qos::AtLeastOnce);
            let mut refused = 0;
            for n in 0..200 {
                bench.now = bench.now + Duration::from_millis(500);
                bench.queue(&n.to_string(), Qos::AtLeastOnce);
                let sent = bench.sent();
                let (poison, good): (Vec<_>, Vec<_>) =
                    sent.into_iter().partition(|(_, text)| text.contains("poison"));
                for (pkid, _) in poison {
                    refused += 1;
                    assert!(bench.answer(pkid, code).is_ok(), "others are under way: the connection stands");
                }
                good.into_iter().for_each(|(pkid, _)| bench.acknowledge(pkid));
            }
            assert_eq!((bench.settled(), bench.lost(Reason::BrokerRefused)), (200, 1));
            assert_eq!(u64::from(REFUSALS_AT_MOST), refused);
        }
    }

    #[test]
    fn a_broker_that_refuses_all_for_a_while_is_asked_anew_and_nothing_is_given_up() {
        let mut bench = bench();
        for n in 0..10 {
            bench.queue(&n.to_string(), Qos::AtLeastOnce);
        }
        for _ in 0..50 {
            bench.connect();
            let sent = bench.sent();
            let (last, others) = sent.split_last().expect("all of it waits");
            others.iter().for_each(|(pkid, _)| bench.answer(*pkid, 0x80).unwrap());
            assert!(bench.sent().is_empty(), "refused, it sends no more of them");
            bench.answer(last.0, 0x80).unwrap_err();
            bench.closed(bench.now);
            bench.now = bench.now + REFUSED_AGAIN_AFTER;
        }
        bench.connect();
        let mut texts = Vec::new();
        loop {
            let sent = bench.sent();
            if sent.is_empty() {
                break;
            }
            sent.iter().for_each(|(pkid, _)| bench.acknowledge(*pkid));
            texts.extend(sent.into_iter().map(|(_, text)| text));
        }
        let in_order = texts.iter().enumerate().all(|(n, text)| text.contains(&format!("\"{n}\"")));
        assert!(in_order && texts.len() == 10, "{texts:?}");
        assert_eq!(bench.lost(Reason::BrokerRefused), 0);
    }

    #[test]
    fn a_message_over_which_the_broker_ends_the_connection_holds_up_nobody_and_is_given_up_counted() {
        let mut bench = bench();
        bench.notices.set_availability(Availability::Online);
        bench.connect();
        bench.queue("poison", Qos::AtLeastOnce);
        let (mut ends, mut latest) = (0, 0);
        for n in 0..400 {
            bench.now = bench.now + Duration::from_millis(250);
            bench.queue(&format!("good {n}"), Qos::AtLeastOnce);
            let is_poison = |text: &str| {
                ends += u32::from(text.contains("poison"));
                text.contains("poison")
            };
            if bench.converse(is_poison).iter().any(|text| text.contains(&format!("good {n}"))) {
                latest = n;
            }
            assert!(n - latest <= 4, "the line stands at {n}");
        }
        assert_eq!((bench.settled(), bench.lost(Reason::BrokerRefused)), (400, 1));
        assert_eq!(ends, 2 + REFUSALS_AT_MOST, "two to be suspected");
    }

    #[test]
    fn a_broker_that_restarts_over_and_over_costs_no_message() {
        // It takes up to so many messages before it ends.
        for most in [1, 3, 10] {
            let mut bench = bench();
            bench.notices.set_availability(Availability::Online);
            bench.connect();
            let (mut chance, mut queued) = (0x9e37_79b9_u64, 0);
            for _ in 0..2000 {
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                // Behind more, a worker would wait.
                if bench.outlet.publisher.outbox.depth().live < 5 {
                    queued += 1;
                    bench.queue(&queued.to_string(), Qos::AtLeastOnce);
                }
                let mut left = chance % (most + 1);
                bench.converse(|_| {
                    let ends = left == 0;
                    left = left.saturating_sub(1);
                    ends
                });
            }
            for _ in 0..20 {
                bench.now = bench.now + REFUSED_AGAIN_AFTER;
                bench.converse(|_| false);
            }
            assert_eq!((bench.settled(), bench.lost(Reason::BrokerRefused)), (queued, 0), "{most}");
        }
    }

    #[test]
    fn a_broker_that_ends_each_connection_at_the_first_message_gets_all_of_them_when_it_is_well() {
        let mut bench = bench();
        (0..20).for_each(|n| bench.queue(&n.to_string(), Qos::AtLeastOnce));
        bench.connect();
        for _ in 0..1000 {
            assert!(bench.converse(|_| true).is_empty());
        }
        for _ in 0..10 {
            bench.now = bench.now + REFUSED_AGAIN_AFTER;
            bench.converse(|_| false);
        }
        assert_eq!((bench.settled(), bench.lost(Reason::BrokerRefused)), (20, 0));
    }

    #[test]
    fn an_availability_over_which_the_broker_ends_the_connection_holds_up_no_answer() {
        let mut bench = bench();
        bench.notices.set_availability(Availability::Online);
        bench.connect();
        let mut ends = 0;
        for n in 0..400 {
            bench.now = bench.now + Duration::from_millis(250);
            bench.queue(&n.to_string(), Qos::AtLeastOnce);
            bench.converse(|text| {
                ends += u32::from(text == "online");
                text == "online"
            });
        }
        assert_eq!(bench.settled(), 400);
        assert!(ends <= 12, "it is said ever more seldom: {ends}");
        assert!(bench.outlet.is_done(), "and a stop does not wait for it");
    }

    #[test]
    fn a_refused_availability_holds_up_nobody() {
        for code in [0x80, 0x87, 0x97] {
            let mut bench = bench();
            bench.notices.set_availability(Availability::Online);
            bench.connect();
            bench.queue("a", Qos::AtLeastOnce);
            let sent = bench.sent();
            bench.answer(sent[0].0, code).unwrap();
            bench.acknowledge(sent[1].0);
            assert_eq!(bench.settled(), 1);
        }
    }

    #[test]
    fn a_prediction_over_the_brokers_limit_is_not_sent_and_the_next_one_is() {
        let mut bench = bench();
        bench.connect();
        bench.out.limit(60);
        bench.queue(&"x".repeat(60), Qos::AtLeastOnce);
        bench.queue("b", Qos::AtLeastOnce);
        let sent = bench.sent();
        assert_eq!(sent.len(), 1);
        assert!(sent[0].1.contains("\"b\""), "{sent:?}");
        assert_eq!(bench.lost(Reason::PredictionTooLarge), 1);
    }

    #[test]
    fn an_answer_whose_topic_cannot_be_written_down_is_lost_by_name_and_the_longest_that_can_is_not() {
        let bench = bench();
        let ledger = Arc::new(Ledger::new(|| {}));
        let queue = |bytes, pkid| {
            let ticket = Ticket::new(ledger.clone(), ledger.taken(pkid, 0, 1));
            bench.queue_on(&"t".repeat(bytes), "x", Qos::AtLeastOnce, ticket);
        };
        queue(65_536, 7);
        assert_eq!(bench.lost(Reason::PredictionTooLarge), 1);
        assert_eq!(ledger.next_ack(), Some(7), "its frame does not come again to end here again");
        queue(65_535, 8);
        assert_eq!((bench.lost(Reason::PredictionTooLarge), ledger.next_ack()), (1, None));
        assert_eq!(bench.outlet.publisher.outbox.depth().live, 1);
    }

    #[test]
    fn no_more_are_under_way_than_the_broker_takes_at_once() {
        let mut bench = bench();
        let welcome = Welcome { receive_maximum: 2, ..Welcome::default() };
        bench.outlet.connected(Micros(0), &welcome, &mut bench.out);
        for i in 0..5 {
            bench.queue(&i.to_string(), Qos::AtLeastOnce);
        }
        assert_eq!(bench.sent().len(), 2);
    }

    #[test]
    fn availability_counts_among_what_the_broker_takes_at_once_and_goes_before_what_waits() {
        let mut bench = bench();
        bench.notices.set_availability(Availability::Online);
        let welcome = Welcome { receive_maximum: 1, ..Welcome::default() };
        bench.outlet.connected(Micros(0), &welcome, &mut bench.out);
        bench.queue("a", Qos::AtLeastOnce);
        bench.queue("b", Qos::AtLeastOnce);
        let only = |bench: &mut Bench| {
            let mut sent = bench.sent();
            assert!(bench.sent().is_empty(), "one at a time");
            assert_eq!(sent.len(), 1, "{sent:?}");
            sent.remove(0)
        };
        let (online, text) = only(&mut bench);
        assert_eq!(text, "online");
        bench.acknowledge(online);
        let (first, text) = only(&mut bench);
        assert!(text.contains("\"a\""), "{text}");
        bench.notices.set_availability(Availability::Offline);
        assert!(bench.sent().is_empty(), "an answer is under way");
        bench.acknowledge(first);
        let (offline, text) = only(&mut bench);
        assert_eq!(text, "offline");
        bench.acknowledge(offline);
        assert!(only(&mut bench).1.contains("\"b\""));
    }

    #[test]
    fn a_message_that_is_never_acknowledged_ends_the_connection() {
        let mut bench = bench();
        bench.connect();
        bench.queue("a", Qos::AtLeastOnce);
        bench.sent();
        assert!(bench.outlet.awaits_answer());
        assert!(bench.outlet.check(Micros(1) + ACKNOWLEDGED_WITHIN / 2).is_ok());
        assert!(bench.outlet.check(Micros(1) + ACKNOWLEDGED_WITHIN).is_err());
    }

    #[test]
    fn a_message_that_others_have_overtaken_ends_the_connection_sooner() {
        let mut bench = bench();
        bench.connect();
        bench.queue("lost on its way", Qos::AtLeastOnce);
        bench.sent();
        bench.now = Micros(2);
        bench.queue("b", Qos::AtLeastOnce);
        let later = bench.sent()[0].0;
        let soon = Micros(1) + OVERTAKEN_FOR;
        assert!(bench.outlet.check(soon).is_ok(), "both wait: the broker is slow");
        bench.acknowledge(later);
        assert!(bench.outlet.check(Micros(0) + OVERTAKEN_FOR).is_ok());
        assert!(bench.outlet.check(soon).is_err());
        bench.closed(soon);
        bench.connect();
        assert!(bench.sent()[0].1.contains("lost on its way"));
        assert!(bench.outlet.check(soon).is_ok());
    }

    #[test]
    fn a_broker_that_acknowledges_in_another_order_is_given_its_time() {
        let mut bench = bench();
        bench.connect();
        let send = |bench: &mut Bench| {
            bench.now = bench.now + Duration::from_millis(1);
            bench.queue("x", Qos::AtLeastOnce);
            bench.sent()[0].0
        };
        let (first, second) = (send(&mut bench), send(&mut bench));
        bench.acknowledge(second);
        bench.acknowledge(first);
        let sent_at = bench.now;
        let (_late, later) = (send(&mut bench), send(&mut bench));
        bench.acknowledge(later);
        assert!(bench.outlet.check(sent_at + OVERTAKEN_FOR * 2).is_ok());
        assert!(bench.outlet.check(bench.now + OVERTAKEN_FOR_WHERE_USUAL).is_err());
    }

    #[test]
    fn at_qos_0_handing_over_settles() {
        let mut bench = bench();
        bench.connect();
        bench.queue("a", Qos::AtMostOnce);
        assert_eq!(bench.sent().len(), 1);
        assert_eq!(bench.settled(), 1);
    }

    #[test]
    fn packet_ids_wrap_and_pass_over_those_under_way() {
        let mut bench = bench();
        bench.connect();
        bench.outlet.last_pkid = u16::MAX - 1;
        for i in 0..3 {
            bench.queue(&i.to_string(), Qos::AtLeastOnce);
        }
        let ids: Vec<_> = bench.sent().into_iter().map(|(pkid, _)| pkid).collect();
        assert_eq!(ids, [u16::MAX, 1, 2]);
        bench.acknowledge(1);
        bench.outlet.last_pkid = u16::MAX - 1;
        bench.queue("x", Qos::AtLeastOnce);
        assert_eq!(bench.sent()[0].0, 1, "65,535 is under way");
    }

    #[test]
    fn availability_is_said_at_each_connect_and_stopped_is_the_last_word() {
        let mut bench = bench();
        bench.notices.set_availability(Availability::Online);
        bench.connect();
        let online = bench.sent();
        assert_eq!(online[0].1, "online");
        bench.acknowledge(online[0].0);
        assert!(bench.sent().is_empty());
        bench.closed(Micros(3));
        bench.connect();
        let online = bench.sent();
        assert_eq!(online[0].1, "online");
        bench.acknowledge(online[0].0);

        bench.queue("last", Qos::AtLeastOnce);
        assert!(!bench.outlet.is_done());
        let last = bench.sent();
        bench.acknowledge(last[0].0);
        assert!(!bench.outlet.is_done(), "`stopped` has not been said");
        let stopped = bench.sent();
        assert_eq!(stopped[0].1, "stopped");
        assert!(!bench.outlet.is_done());
        bench.acknowledge(stopped[0].0);
        assert!(bench.outlet.is_done());
    }

    #[test]
    fn of_stats_only_the_newest_goes_out() {
        let mut bench = bench();
        bench.notices.set_stats(b"1".to_vec());
        bench.notices.set_stats(b"2".to_vec());
        bench.connect();
        assert_eq!(bench.sent(), [(0, "2".into())]);
    }
}
