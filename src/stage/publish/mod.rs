//! Prediction to world: the publishing connection, and what it says besides predictions.
//!
//! Promise: what is in the outbox goes out in order, at most `max_inflight` unacknowledged at once,
//! and is settled by its own PUBACK. `availability` is republished at each connect; of `stats` only
//! the newest goes out. Not here: what a message says ([`payload`]), keeping it ([`crate::outbox`]).

pub mod payload;
pub mod write_back;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::base::counters::{LinkCounters, PipelineCounters};
use crate::base::{Clock, Micros, SystemClock};
use crate::config::Qos;
use crate::flow::fail::{self, Point};
use crate::mqtt::packet::{LastWill, Packet, Publish, QoS};
use crate::mqtt::{Greeting, Incoming, LinkError, Role, link};
use crate::outbox::{Entry, Kind, Outbox, Token};

/// Encoded bytes after which the socket gets its turn.
const PORTION_BYTES: usize = 64 * 1024;

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
    /// Queues a message; waits for room where [`Outbox::append`] does.
    pub fn publish(&self, entry: Entry) {
        self.outbox.append(entry);
        (self.wake)();
    }
}

/// Told how long the broker took to acknowledge: pipeline, from queueing to PUBACK.
pub type OnSettled = Box<dyn FnMut(usize, std::time::Duration) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Entry(Token),
    Availability(Availability),
}

/// The publishing connection's side of a [`link::Link`].
pub struct Outlet {
    /// The intake's client id with `-out`.
    client_id: String,
    availability_topic: String,
    stats_topic: String,
    max_inflight: usize,
    publisher: Publisher,
    notices: Arc<Notices>,
    link: Arc<LinkCounters>,
    on_settled: OnSettled,
    under_way: HashMap<u16, UnderWay>,
    last_pkid: u16,
    /// `stopped` has been acknowledged.
    said_stopped: bool,
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
            publisher,
            notices,
            link,
            on_settled,
            under_way: HashMap::new(),
            last_pkid: 0,
            said_stopped: false,
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
        topic: &str,
        payload: Bytes,
        retain: bool,
        under_way: Option<UnderWay>,
        out: &mut BytesMut,
    ) {
        let qos = if under_way.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let mut publish = Publish::from_bytes(topic, qos, payload);
        publish.retain = retain;
        if let Some(under_way) = under_way {
            publish.pkid = self.pkid();
            self.under_way.insert(publish.pkid, under_way);
        }
        link::encode(&Packet::Publish(publish), out);
    }

    fn pump_notices(&mut self, out: &mut BytesMut) {
        let mut notices = self.notices.lock();
        let availability = notices.availability.filter(|_| std::mem::take(&mut notices.is_news));
        let stats = notices.stats.take();
        drop(notices);
        if let Some(availability) = availability {
            let topic = self.availability_topic.clone();
            let payload = Bytes::from_static(availability.as_str().as_bytes());
            self.send(&topic, payload, true, Some(UnderWay::Availability(availability)), out);
        }
        if let Some(stats) = stats {
            let topic = self.stats_topic.clone();
            self.send(&topic, stats.into(), true, None, out);
        }
    }

    fn pump_outbox(&mut self, now: Micros, out: &mut BytesMut) {
        while out.len() < PORTION_BYTES && self.under_way.len() < self.max_inflight {
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
            self.send(&outgoing.topic, outgoing.payload, outgoing.retain, under_way, out);
            fail::pass(Point::AnswerSent);
            if under_way.is_none() {
                // At QoS 0 nobody answers: handed to the network is all that can be known.
                self.settle(now, token);
            }
        }
    }

    fn settle(&mut self, now: Micros, token: Token) {
        let Some(settled) = self.publisher.outbox.settle(token) else { return };
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
        let will = LastWill::new(
            self.availability_topic.clone(),
            Availability::Offline.as_str(),
            QoS::AtLeastOnce,
            true,
        );
        // The outbox knows what is unsettled; the broker need not remember anything of us.
        Greeting { client_id: self.client_id.clone(), clean_session: true, will: Some(will) }
    }

    fn connected(&mut self, _: Micros, _: bool, _: &mut BytesMut) {
        self.notices.lock().is_news = true;
        self.link.up.store(1, Ordering::Relaxed);
        self.publisher.outbox.connected();
    }

    fn received(&mut self, now: Micros, incoming: Incoming, _: &mut BytesMut) -> Result<(), LinkError> {
        let Incoming::Packet(Packet::PubAck(ack)) = incoming else {
            return Err(LinkError::Protocol("a packet that does not belong on this connection"));
        };
        fail::pass(Point::AnswerAcknowledged);
        match self.under_way.remove(&ack.pkid) {
            Some(UnderWay::Entry(token)) => self.settle(now, token),
            Some(UnderWay::Availability(availability)) => {
                self.said_stopped = availability == Availability::Stopped;
            }
            // Harmless, and no reason to lose the connection.
            None => log::warn!("the broker acknowledged packet {}, which is not under way", ack.pkid),
        }
        Ok(())
    }

    fn pump(&mut self, now: Micros, out: &mut BytesMut) {
        self.pump_notices(out);
        self.pump_outbox(now, out);
    }

    fn is_done(&mut self) -> bool {
        let quiet = self.publisher.outbox.is_quiet();
        if quiet {
            self.notices.set_availability(Availability::Stopped);
        }
        let connected = self.link.up.load(Ordering::Relaxed) == 1;
        quiet && (self.said_stopped || !connected)
    }

    fn disconnected(&mut self) {
        self.link.up.store(0, Ordering::Relaxed);
        self.under_way.clear();
        self.publisher.outbox.connection_lost(SystemClock.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Identity;
    use crate::config::{self, OutboxWhenFull};
    use crate::flow::Ticket;
    use crate::mqtt::packet::PubAck;
    use std::num::NonZeroU64;

    const MAX_INFLIGHT: u16 = 3;

    struct Bench {
        outlet: Outlet,
        notices: Arc<Notices>,
        out: BytesMut,
    }

    fn bench() -> Bench {
        let config = config::Outbox {
            path: "outbox".into(),
            max_bytes: NonZeroU64::new(1 << 20).unwrap(),
            when_full: OutboxWhenFull::Block,
            memory_bytes: NonZeroU64::new(1 << 19).unwrap(),
            spill_after: std::time::Duration::from_secs(1),
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
        Bench { outlet, notices, out: BytesMut::new() }
    }

    impl Bench {
        fn queue(&self, text: &str, qos: Qos) {
            self.outlet.publisher.publish(Entry {
                pipeline: 0,
                topic: "result".into(),
                payload: format!("{{\"text\":\"{text}\",\"resent\":false}}").into_bytes().into(),
                qos,
                retain: false,
                kind: Kind::Prediction,
                identity: Identity { delivery: 0, redelivered: false, key: 0 },
                ticket: Ticket::none(),
                queued_at: Micros(0),
            });
        }

        fn connect(&mut self) {
            self.outlet.connected(Micros(0), false, &mut self.out);
        }

        /// What goes out now: packet id and payload.
        fn sent(&mut self) -> Vec<(u16, String)> {
            self.outlet.pump(Micros(1), &mut self.out);
            let mut sent = Vec::new();
            while !self.out.is_empty() {
                match Packet::read(&mut self.out, 10_000).unwrap() {
                    Packet::Publish(publish) => {
                        sent.push((publish.pkid, String::from_utf8(publish.payload.to_vec()).unwrap()));
                    }
                    other => panic!("{other:?}"),
                }
            }
            sent
        }

        fn acknowledge(&mut self, pkid: u16) {
            let ack = Incoming::Packet(Packet::PubAck(PubAck::new(pkid)));
            self.outlet.received(Micros(2), ack, &mut self.out).unwrap();
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
        assert_eq!(bench.settled(), 1, "an acknowledgement counts once");
    }

    #[test]
    fn a_lost_connection_sends_again_what_was_not_acknowledged_and_says_so() {
        let mut bench = bench();
        bench.connect();
        bench.queue("a", Qos::AtLeastOnce);
        bench.queue("b", Qos::AtLeastOnce);
        let first = bench.sent();
        bench.acknowledge(first[0].0);
        bench.outlet.disconnected();
        bench.connect();
        let again = bench.sent();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].1, "{\"text\":\"b\",\"resent\":true}");
        assert_eq!(bench.outlet.publisher.counters[0].resent.get(), 1);
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
        bench.outlet.disconnected();
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
