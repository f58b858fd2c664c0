//! Years of link weather in seconds: both connections with their real roles, a broker that forgets,
//! refuses and stalls, a net that cuts, and time, all as values. A failure shrinks to the weather that
//! it needs.
//!
//! Real are: packets, [`Talk`], [`Link`], [`MqttSource`], [`Outlet`], ledger, identities, lanes and the
//! outbox in memory. Played are: sockets, clock, broker ([`broker`]), and a worker that takes its time.
//! The disk is not here: it has a simulation of its own (`outbox::crash`).

mod broker;

use std::collections::{BTreeSet, VecDeque};
use std::num::{NonZeroU8, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use self::broker::{Broker, Conn, Packets};
use crate::base::Micros;
use crate::config::{self, OutboxWhenFull, Protocol, Qos, WhenFull};
use crate::flow::{LaneLimits, Lanes};
use crate::mqtt::link::{Link, Role};
use crate::mqtt::talk::{Talk, Turn};
use crate::mqtt::{Filter, Ledger};
use crate::outbox::{Entry, Kind, Outbox};
use crate::stage::acquire::identity::Identities;
use crate::stage::acquire::mqtt::{MqttSource, Route};
use crate::stage::acquire::{Arrival, Intake};
use crate::stage::publish::{Availability, Notices, Outlet, Publisher};

const LATENCY: Duration = Duration::from_millis(5);
const KEEP_ALIVE: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
const MAX_INFLIGHT: u16 = 20;
/// Answers in memory beyond which the played worker waits: the real one waits within the outbox.
const ANSWERS: usize = 30;

/// Which connections it befalls.
#[derive(Clone, Copy, Debug)]
enum Which {
    Intake,
    Publish,
    Both,
}

/// What befalls the line, and for how long where it lasts.
#[derive(Clone, Copy, Debug)]
enum Weather {
    /// An orderly end; what is under way is gone.
    Cut(Which),
    /// The broker's end is gone, and nobody tells us.
    HalfOpen(Which),
    /// Nothing comes through, in no direction, and new connections hang.
    BlackHole(Duration),
    /// New connections are refused, the old ones end.
    Away(Duration),
    /// The broker refuses us with this code.
    Refuses(u8, Duration),
    /// It restarts; or forgets all that it knew as well.
    Restart { forgets: bool },
    /// It takes so many publications at once, from the next connection on.
    ReceiveMaximum(NonZeroU8),
    /// It takes no publication for now, and says so with this code (MQTT 5).
    TakesNothing(u8, Duration),
    /// Many frames at once.
    Burst(u16),
}

/// One connection's way between the two ends.
struct Wire {
    conn: Conn,
    to_daemon: VecDeque<(Micros, Bytes, Option<u64>)>,
    to_broker: VecDeque<(Micros, Bytes)>,
    /// Nothing comes through any more.
    mute: bool,
    /// The broker's end is gone, and says so.
    closed: bool,
}

/// One connection, as its thread holds it.
struct Side<R> {
    link: Link<R>,
    open: Option<(Talk, Wire)>,
    /// A socket that hangs while it is opened, until then.
    opening: Option<Micros>,
    reads: bool,
}

/// All that is not a connection.
struct World {
    now: Micros,
    config: config::Broker,
    broker: Broker,
    away: bool,
    swallows: bool,
    attempts: u64,
    /// Frames that must be answered.
    owed: BTreeSet<u64>,
    /// Frames whose bytes reached us.
    handed: BTreeSet<u64>,
    next_frame: u64,
    /// Counts whatever happened, so that a moment is over when nothing does.
    happened: u64,
}

struct Line {
    world: World,
    intake: Side<MqttSource>,
    publish: Side<Outlet>,
    lanes: Arc<Lanes<Arrival>>,
    publisher: Publisher,
    /// Frames with the worker, and when their answers are ready.
    work: VecDeque<(Micros, Arrival)>,
    chance: u64,
}

impl<R: Role> Side<R> {
    fn new(role: R, config: &config::Broker, seed: u64) -> Self {
        Self { link: Link::new(role, config, seed), open: None, opening: None, reads: true }
    }

    /// Does what there is to do now; when to look again.
    fn step(&mut self, world: &mut World) -> Micros {
        let now = world.now;
        if let Some(until) = self.opening {
            if now < until {
                return until;
            }
            self.opening = None;
            let why = self.link.closed();
            self.link.ended(now, &why);
        }
        if self.open.is_none() {
            let wait = self.link.wait(now);
            if !wait.is_zero() {
                return now + wait;
            }
            world.attempts += 1;
            self.link.opening();
            if world.away {
                let why = self.link.closed();
                return now + self.link.ended(now, &why);
            }
            if world.swallows {
                self.opening = Some(now + CONNECT_TIMEOUT);
                return now + CONNECT_TIMEOUT;
            }
            let talk = Talk::new(&world.config, 1000, now, &mut self.link);
            let wire = Wire {
                conn: Conn::default(),
                to_daemon: VecDeque::new(),
                to_broker: VecDeque::new(),
                mute: false,
                closed: false,
            };
            self.open = Some((talk, wire));
            self.reads = true;
        }
        let Some((talk, wire)) = &mut self.open else { unreachable!("it was opened a moment ago") };
        wire.at_broker(world);
        while self.reads && wire.to_daemon.front().is_some_and(|(at, ..)| now >= *at) {
            let (_, bytes, frame) = wire.to_daemon.pop_front().expect("it was looked at");
            talk.buffers().0.extend_from_slice(&bytes);
            talk.came(now, &mut self.link);
            world.handed.extend(frame);
            world.happened += 1;
        }
        let turn = if wire.closed {
            // What has come whole is taken, as after a write that failed.
            talk.hear_out(now, &mut self.link, true).and(Err(self.link.closed()))
        } else {
            talk.turn(now, &mut self.link, |_| false)
        };
        let (reads, within) = match turn {
            Ok(Turn::Socket { reads, within }) => (reads, within),
            Ok(Turn::Over) => unreachable!("nobody tells it to end"),
            Err(why) => {
                self.open = None;
                world.happened += 1;
                return now + self.link.ended(now, &why);
            }
        };
        self.reads = reads;
        if talk.has_out() {
            let bytes = Bytes::copy_from_slice(talk.buffers().1);
            talk.wrote(bytes.len(), now, &mut self.link);
            wire.to_broker.push_back((now + LATENCY, bytes));
            world.happened += 1;
        }
        let next = [
            wire.to_daemon.front().filter(|_| reads).map(|(at, ..)| *at),
            wire.to_broker.front().map(|(at, _)| *at),
            Broker::due(&wire.conn),
        ];
        next.into_iter().flatten().fold(now + within, Micros::min)
    }

    /// The net takes the connection away; `told`: and says so.
    fn cut(&mut self, told: bool) {
        if let Some((_, wire)) = &mut self.open {
            wire.to_daemon.clear();
            wire.to_broker.clear();
            // What the broker still owes here, it owes nobody any more.
            wire.conn = Conn::default();
            (wire.mute, wire.closed) = (true, told);
        }
    }
}

impl Wire {
    /// Lets the broker have what has come, and takes what it says.
    fn at_broker(&mut self, world: &mut World) {
        let now = world.now;
        if self.mute {
            self.to_broker.clear();
            return;
        }
        let mut said: Packets = Vec::new();
        while self.to_broker.front().is_some_and(|(at, _)| now >= *at) {
            let (_, bytes) = self.to_broker.pop_front().expect("it was looked at");
            match world.broker.received(now, &mut self.conn, &bytes) {
                Some(packets) => said.extend(packets),
                None => self.closed = true,
            }
        }
        said.extend(world.broker.pump(now, &mut self.conn));
        world.happened += said.len() as u64;
        self.to_daemon.extend(said.into_iter().map(|(bytes, frame)| (now + LATENCY, bytes, frame)));
    }
}

impl Line {
    fn new(protocol: Protocol, seed: u64) -> Self {
        let config = config::Broker {
            host: "b".into(),
            port: 1,
            protocol,
            tls: None,
            login: None,
            client_id: "c".into(),
            keep_alive: KEEP_ALIVE,
            connect_timeout: CONNECT_TIMEOUT,
            max_inflight: MAX_INFLIGHT,
        };
        let outbox = config::Outbox {
            path: "outbox".into(),
            max_bytes: NonZeroU64::MAX,
            when_full: OutboxWhenFull::Block,
            memory_bytes: NonZeroU64::MAX,
            spill_after: Duration::from_secs(1),
            backlog_per_sec: NonZeroU64::MIN,
        };
        let limits = LaneLimits { items: 8, bytes: 1 << 20, when_full: WhenFull::Block, ordered: false };
        let lanes = Arc::new(Lanes::new([limits], || {}));
        let counters = vec![Arc::default()];
        let intake = Arc::new(Intake::new(lanes.clone(), counters.clone()));
        let outbox = Outbox::new(&outbox, vec![("p".into(), counters[0].clone())], MAX_INFLIGHT, Micros(0));
        let publisher = Publisher { outbox: Arc::new(outbox), counters, wake: Arc::new(|| {}) };
        let route = Route {
            pipeline: 0,
            name: "p".into(),
            filter: Filter::parse("frames"),
            qos: Qos::AtLeastOnce,
            id_property: None,
            max_payload_bytes: 1000,
            is_stateful: false,
        };
        let source = MqttSource::new(
            "c".into(),
            vec![route],
            intake,
            Arc::new(Ledger::new(|| {})),
            Arc::default(),
            Box::new(|_| {}),
            Identities::new(None, []),
        );
        let notices = Arc::new(Notices::default());
        notices.set_availability(Availability::Online);
        let outlet = Outlet::new(
            "d",
            "c",
            MAX_INFLIGHT,
            publisher.clone(),
            notices,
            Arc::default(),
            Box::new(|_, _| {}),
        );
        let world = World {
            now: Micros(1),
            broker: Broker::new(protocol),
            away: false,
            swallows: false,
            attempts: 0,
            owed: BTreeSet::new(),
            handed: BTreeSet::new(),
            next_frame: 0,
            happened: 0,
            config: config.clone(),
        };
        Self {
            world,
            intake: Side::new(source, &config, seed),
            publish: Side::new(outlet, &config, seed + 1),
            lanes,
            publisher,
            work: VecDeque::new(),
            chance: seed | 1,
        }
    }

    /// Xorshift.
    fn below(&mut self, bound: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % bound
    }

    fn send(&mut self, frames: u64) {
        for _ in 0..frames {
            let frame = self.world.next_frame;
            self.world.next_frame += 1;
            if self.world.broker.publish(frame) {
                self.world.owed.insert(frame);
            }
        }
    }

    /// The worker: takes a frame when it has room, and answers each after a while, in any order.
    fn answer(&mut self) -> Option<Micros> {
        let now = self.world.now;
        while self.lanes.depth(0).0 > 0
            && self.work.len() < 4
            && self.publisher.outbox.depth().live + self.work.len() < ANSWERS
        {
            let (_, arrival) = self.lanes.take().expect("something waits");
            let ready = now + Duration::from_millis(1 + self.below(50));
            self.work.push_back((ready, arrival));
            self.world.happened += 1;
        }
        while let Some(at) = self.work.iter().position(|(ready, _)| now >= *ready) {
            let (_, Arrival { frame, ticket, .. }) = self.work.remove(at).expect("it was found a moment ago");
            let text = format!("{}:{}", String::from_utf8_lossy(&frame.payload), frame.identity.delivery);
            self.publisher.publish(Entry {
                pipeline: 0,
                topic: "answers".into(),
                payload: text.into(),
                qos: Qos::AtLeastOnce,
                retain: false,
                kind: Kind::Prediction,
                identity: frame.identity,
                back: None,
                ticket,
                queued_at: now,
            });
            self.world.happened += 1;
        }
        self.work.iter().map(|(ready, _)| *ready).min()
    }

    /// Lets this time pass, with a frame now and then.
    fn pass(&mut self, time: Duration, frame_every: Duration) {
        let end = self.world.now + time;
        let mut next_frame = self.world.now + frame_every;
        while self.world.now < end {
            if self.world.now >= next_frame {
                self.send(1);
                next_frame = self.world.now + frame_every;
            }
            let mut next;
            loop {
                let before = self.world.happened;
                next = self.intake.step(&mut self.world).min(self.publish.step(&mut self.world));
                next = self.answer().map_or(next, |ready| next.min(ready));
                if self.world.happened == before {
                    break;
                }
            }
            let soonest = self.world.now + Duration::from_micros(1);
            self.world.now = next.min(next_frame).min(end).max(soonest);
        }
    }

    fn both(&mut self, told: bool) {
        self.intake.cut(told);
        self.publish.cut(told);
    }

    fn befall(&mut self, weather: Weather) {
        const FRAME_EVERY: Duration = Duration::from_secs(3);
        match weather {
            Weather::Cut(which) | Weather::HalfOpen(which) => {
                let told = matches!(weather, Weather::Cut(_));
                if !matches!(which, Which::Publish) {
                    self.intake.cut(told);
                }
                if !matches!(which, Which::Intake) {
                    self.publish.cut(told);
                }
            }
            Weather::BlackHole(lasts) => {
                self.both(false);
                self.world.swallows = true;
                self.pass(lasts, FRAME_EVERY);
                self.world.swallows = false;
            }
            Weather::Away(lasts) => {
                self.both(true);
                self.world.away = true;
                self.pass(lasts, FRAME_EVERY);
                self.world.away = false;
            }
            Weather::Refuses(code, lasts) => {
                self.both(true);
                self.world.broker.refuses = Some(code);
                self.pass(lasts, FRAME_EVERY);
                self.world.broker.refuses = None;
            }
            Weather::Restart { forgets } => {
                self.both(true);
                if forgets {
                    for frame in self.world.broker.forget() {
                        // Its loss, unless it has handed it over.
                        if !self.world.handed.contains(&frame) {
                            self.world.owed.remove(&frame);
                        }
                    }
                }
            }
            Weather::ReceiveMaximum(most) => {
                self.both(true);
                self.world.broker.receive_maximum = most.get().into();
            }
            Weather::TakesNothing(code, lasts) => {
                self.world.broker.takes_nothing = Some(code);
                self.pass(lasts, FRAME_EVERY);
                self.world.broker.takes_nothing = None;
            }
            Weather::Burst(frames) => self.send(frames.into()),
        }
    }

    /// In good weather both connections come back in time, and then every frame that is owed is
    /// answered, under one id.
    fn verdict(&mut self) -> Result<(), String> {
        // What hangs is given up, the longest wait passes, the next attempt holds.
        let back_within = KEEP_ALIVE * 3 / 2 + CONNECT_TIMEOUT + LONGEST_BACKOFF + Duration::from_secs(2);
        self.pass(back_within, Duration::from_secs(1));
        if !(self.intake.link.is_up() && self.publish.link.is_up()) {
            return Err(format!("not back within {back_within:?} of good weather"));
        }
        self.pass(Duration::from_secs(600), Duration::from_secs(1000));
        let World { broker, owed, handed, .. } = &self.world;
        let unanswered: Vec<&u64> = owed.iter().filter(|frame| !broker.answers.contains_key(frame)).collect();
        let several: Vec<_> = broker.answers.iter().filter(|(_, deliveries)| deliveries.len() > 1).collect();
        let mut complaints = broker.complaints.clone();
        if !unanswered.is_empty() {
            let took = unanswered.iter().filter(|frame| handed.contains(frame)).count();
            complaints.push(format!("without an answer: {unanswered:?}, {took} of them handed over"));
        }
        if !several.is_empty() {
            complaints.push(format!("answered under several ids: {several:?}"));
        }
        if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
    }
}

fn weather() -> impl Strategy<Value = Weather> {
    let which = || prop_oneof![Just(Which::Intake), Just(Which::Publish), Just(Which::Both)];
    let lasts = || (100u64..400_000).prop_map(Duration::from_millis);
    prop_oneof![
        3 => which().prop_map(Weather::Cut),
        2 => which().prop_map(Weather::HalfOpen),
        1 => lasts().prop_map(Weather::BlackHole),
        1 => lasts().prop_map(Weather::Away),
        // Server busy, quota exceeded, not authorised.
        1 => (prop_oneof![Just(0x89), Just(0x97), Just(0x87)], lasts()).prop_map(|(code, lasts)| Weather::Refuses(code, lasts)),
        2 => any::<bool>().prop_map(|forgets| Weather::Restart { forgets }),
        1 => any::<NonZeroU8>().prop_map(Weather::ReceiveMaximum),
        // Quota exceeded, no reason given.
        1 => (prop_oneof![Just(0x97), Just(0x80)], lasts()).prop_map(|(code, lasts)| Weather::TakesNothing(code, lasts)),
        4 => (1u16..400).prop_map(Weather::Burst),
    ]
}

/// What a run of this weather came to; `spell` lies between two blows.
fn run(protocol: Protocol, seed: u64, weather: &[(Duration, Weather)]) -> (Line, Result<(), String>) {
    let mut line = Line::new(protocol, seed);
    line.pass(Duration::from_secs(1), Duration::from_secs(10));
    for &(spell, weather) in weather {
        line.pass(spell, Duration::from_millis(1) + spell / 20);
        line.befall(weather);
    }
    let verdict = line.verdict();
    (line, verdict)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Blows in quick succession: one falls into what the one before has left.
    #[test]
    fn whatever_befalls_the_links_every_frame_is_answered_once_and_acknowledged_after_its_answer(
        is_v5 in any::<bool>(),
        seed in 0u64..1_000_000,
        weather in prop::collection::vec(((0u64..8000).prop_map(Duration::from_millis), weather()), 1..40),
    ) {
        let protocol = if is_v5 { Protocol::V5 } else { Protocol::V3_1_1 };
        prop_assert_eq!(run(protocol, seed, &weather).1, Ok(()));
    }
}

/// Years of it, with a blow every few hours.
fn years(years: u64) {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let seed = std::env::var("LINESIDE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let spell = (1u64..24 * 3600).prop_map(Duration::from_secs);
    let days = prop::collection::vec((spell, weather()), years as usize * 730);
    let weather = days.new_tree(&mut runner).expect("nothing is filtered").current();
    let (line, verdict) = run(Protocol::V5, seed, &weather);
    assert_eq!(verdict, Ok(()), "seed {seed}");
    let passed = line.world.now.since(Micros(0)).as_secs_f64() / (365.25 * 24.0 * 3600.0);
    let frames = line.world.broker.answers.len();
    assert!(passed > 0.9 * years as f64 && frames > 10_000, "{passed:.1} years, {frames} frames");
    // Each blow costs a connection a few attempts, and one that lasts, one every quarter of a minute or so.
    let attempts = line.world.attempts as f64 / weather.len() as f64;
    assert!(attempts < 30.0, "{attempts:.1} attempts a blow");
    println!("{passed:.1} years, {} blows, {frames} frames, {attempts:.1} attempts a blow", weather.len());
}

#[test]
fn a_year_of_weather_costs_no_frame_and_no_broker_is_hammered() {
    years(1);
}

#[test]
#[ignore = "takes a minute; tests/run --long"]
fn twenty_years_of_weather_cost_no_frame_and_no_broker_is_hammered() {
    years(20);
}
