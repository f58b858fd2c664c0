//! The storms: what befalls the line, how often, and what must hold afterwards.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use lineside::flow::fail::Point;
use serde_json::Value;

use super::chance::Chance;
use super::line::{KEEP_ALIVE, Line, Link, PATIENCE, Verdict, Wanted, books};
use super::proxy::Fault;
use super::support::client::Client;
use super::support::mosquitto::Setup;
use super::support::site::STATS;
use super::support::{SOON, eventually};
use super::trend::Trend;

/// How a storm is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The long form: the figures of `docs/reliability.md`.
    pub(crate) long: bool,
    /// Length of a soak.
    pub(crate) soak: Duration,
    /// `[broker] protocol` of this storm.
    pub(crate) protocol: &'static str,
}

impl Plan {
    fn line(&self, name: &'static str, link: Link, named: fn(u64) -> bool) -> Wanted {
        Wanted { name, protocol: self.protocol, link, named, outbox: "" }
    }
}

/// What came of a storm.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What the storm itself saw go wrong.
    pub(crate) complaints: Vec<String>,
    /// Figures for the table.
    pub(crate) notes: Vec<String>,
}

/// A storm by name.
pub(crate) type Storm = (&'static str, fn(&Plan) -> Outcome);

/// In the order in which they run.
pub(crate) const STORMS: &[Storm] = &[
    ("kills", kills),
    ("points", points),
    ("restarts", restarts),
    ("faults", faults),
    ("faults-tls", faults_tls),
    ("full-disk", full_disk),
    ("full-disk-drops", full_disk_drops),
    ("soak", soak),
];

fn all_named(_: u64) -> bool {
    true
}

/// One frame in four carries no id of its own.
fn most_named(frame: u64) -> bool {
    frame % 4 != 3
}

/// `kill -9` of the daemon: while it starts, while it works, right after an answer.
fn kills(plan: &Plan) -> Outcome {
    let kills = if plan.long { 1000 } else { 40 };
    let mut chance = Chance::new(plan.seed, "kills");
    let mut line = Line::start(&plan.line("kills", Link::Direct, most_named));
    line.sender.rate(300);
    let mut complaints = Vec::new();
    for n in 0..kills {
        if chance.per_cent(25) {
            std::thread::sleep(chance.millis(0..120));
        } else {
            let before = line.book.answers();
            if eventually(SOON, || (line.book.answers() > before).then_some(())).is_none() {
                complaints.push(format!("no answer within {SOON:?} after kill {n}:\n{}", line.daemon.log()));
                break;
            }
            std::thread::sleep(chance.millis(0..60));
        }
        line.kill();
    }
    Outcome { verdict: line.verdict(), complaints, notes: vec![format!("{kills} × kill -9")] }
}

/// Death at each step of settlement, at a pass of chance.
fn points(plan: &Plan) -> Outcome {
    let rounds = if plan.long { 10 } else { 1 };
    let mut chance = Chance::new(plan.seed, "points");
    let mut line = Line::start(&Wanted {
        // A process lives for seconds here: the backlog must go faster than it grows.
        outbox: "spill_after_ms = 100\nbacklog_per_sec = 20_000",
        ..plan.line("points", Link::Proxied, most_named)
    });
    line.sender.rate(100);
    let mut complaints = Vec::new();
    for round in 0..rounds {
        let mut points = Point::ALL.to_vec();
        chance.shuffle(&mut points);
        for point in points {
            let name = point.as_str();
            let is_on_disk = name.starts_with("records") || name.starts_with("segment");
            let pass = match point {
                // Segments are large and few.
                Point::SegmentCreate | Point::SegmentRead | Point::SegmentRemove => 1,
                _ if is_on_disk => chance.within(1..4),
                _ => chance.within(1..200),
            };
            line.kill_and_plan(&format!("{name}#{pass}=kill"));
            if is_on_disk {
                // It is written to while no answer goes out, and read when the way is free again.
                line.subscribed_or_dead();
                line.proxy().begin(Fault::NoWayOut);
                std::thread::sleep(chance.millis(400..900));
                line.proxy().calm();
            }
            if eventually(SOON, || (!line.daemon.is_alive()).then_some(())).is_none() {
                complaints.push(format!("{name}#{pass} was not reached in round {round}"));
            }
        }
    }
    line.kill();
    Outcome {
        verdict: line.verdict(),
        complaints,
        notes: vec![format!("{rounds} deaths at each of {} steps", Point::ALL.len())],
    }
}

/// The broker restarts: the first half with persistence, the second half without.
fn restarts(plan: &Plan) -> Outcome {
    let restarts = if plan.long { 150 } else { 5 };
    let mut chance = Chance::new(plan.seed, "restarts");
    let mut line = Line::start(&plan.line("restarts", Link::Proxied, all_named));
    let mut away = Away::default();
    line.sender.rate(500);
    for n in 0..restarts {
        away.stand(&mut chance);
        line.broker.restart();
        if !away.measure(&line, &format!("persistent restart {n}"), Duration::ZERO) {
            break;
        }
    }
    line.sender.rate(0);
    std::thread::sleep(Duration::from_millis(300));
    if eventually(SOON, || (line.book.open() == 0).then_some(())).is_none() {
        away.complaints.push(format!("{} frames open after the persistent half", line.book.open()));
    }

    // From here on the broker owes a frame only until it has forgotten it; what it has handed over,
    // the daemon owes.
    line.book.forgetful();
    line.broker.change(Setup::default());
    line.sender.rate(500);
    for n in 0..restarts {
        away.stand(&mut chance);
        line.broker.stop();
        // The hearer has to be back first: a broker drops what nobody has subscribed to.
        line.proxy().begin(Fault::Refuse);
        eventually(SOON, || (!line.hearer.is_ready()).then_some(()));
        line.broker.resume();
        if eventually(SOON, || line.hearer.is_ready().then_some(())).is_none() {
            away.complaints.push("the storm's own hearer is not back".into());
        }
        line.proxy().calm();
        if !away.measure(&line, &format!("forgetful restart {n}"), Duration::ZERO) {
            break;
        }
    }
    let mut outcome =
        away.outcome(&line, format!("{restarts} restarts with persistence, {restarts} without"));
    // A storm in which hardly anything was handed over shows nothing.
    let figures = &outcome.verdict.figures;
    let (accepted, owed) = (figures["accepted"].as_u64(), figures["owed"].as_u64());
    if owed.unwrap_or(0) * 4 < accepted.unwrap_or(0) {
        outcome.complaints.push(format!("only {owed:?} of {accepted:?} accepted frames are owed"));
    }
    outcome
}

fn faults(plan: &Plan) -> Outcome {
    link_faults(plan, "faults", Link::Proxied)
}

fn faults_tls(plan: &Plan) -> Outcome {
    link_faults(plan, "faults-tls", Link::ProxiedTls)
}

/// Every kind of link fault equally often, in an order of chance.
fn link_faults(plan: &Plan, name: &'static str, link: Link) -> Outcome {
    let rounds = match (plan.long, link) {
        (true, Link::ProxiedTls) => 5,
        (true, _) => 25,
        (false, Link::ProxiedTls) => 1,
        (false, _) => 2,
    };
    let mut chance = Chance::new(plan.seed, name);
    let line = Line::start(&plan.line(name, link, most_named));
    let mut away = Away::default();
    line.sender.rate(300);
    'storm: for round in 0..rounds {
        let mut kinds = Fault::ALL;
        chance.shuffle(&mut kinds);
        for fault in kinds {
            away.stand(&mut chance);
            line.proxy().begin(fault);
            std::thread::sleep(chance.millis(100..900));
            line.proxy().calm();
            let noticing = noticed_within(fault);
            if !away.measure(&line, &format!("{fault:?} in round {round}"), noticing) {
                break 'storm;
            }
        }
    }
    away.outcome(&line, format!("{rounds} × {} kinds of link fault", Fault::ALL.len()))
}

/// What the daemon may take to notice that something is wrong.
fn noticed_within(fault: Fault) -> Duration {
    match fault {
        Fault::HalfOpen | Fault::BlackHole => KEEP_ALIVE * 3 / 2,
        _ => Duration::ZERO,
    }
}

fn full_disk(plan: &Plan) -> Outcome {
    without_room(plan, "full-disk", "block")
}

fn full_disk_drops(plan: &Plan) -> Outcome {
    without_room(plan, "full-disk-drops", "drop_oldest")
}

/// The disk is full for a while in the middle of an outage: what may not be dropped is not lost, and
/// what may be is counted.
fn without_room(plan: &Plan, name: &'static str, when_full: &str) -> Outcome {
    let full_for = Duration::from_secs(if plan.long { 60 } else { 4 });
    let drops = when_full == "drop_oldest";
    let line = Line::start(&Wanted {
        // Less than the frames that a broker sends without an acknowledgement: memory fills as well.
        outbox: if drops {
            "spill_after_ms = 100\nmemory_bytes = 32_768\nwhen_full = \"drop_oldest\""
        } else {
            "spill_after_ms = 100\nmemory_bytes = 32_768\nwhen_full = \"block\""
        },
        ..plan.line(name, Link::Proxied, most_named)
    });
    let mut complaints = Vec::new();
    line.sender.rate(300);
    std::thread::sleep(Duration::from_millis(500));
    line.proxy().begin(Fault::NoWayOut);
    if eventually(SOON, || line.has_written().then_some(())).is_none() {
        complaints.push("nothing was written while no answer could go out".into());
    }
    line.disk_is_full(true);
    std::thread::sleep(full_for);
    line.daemon.wait_log(&["cannot write", "No space left"], Duration::from_secs(1));
    line.disk_is_full(false);
    line.daemon.wait_log(&["works again"], SOON);
    std::thread::sleep(Duration::from_millis(500));
    line.proxy().calm();
    let mut notes = vec![format!("a disk that is full for {} s", full_for.as_secs())];
    if drops {
        line.sender.rate(0);
        let client = Client::connect(line.broker.port, "storm-stats");
        assert!(client.subscribe(STATS, rumqttc::QoS::AtLeastOnce), "the storm may subscribe");
        let dropped = || client.heard(STATS).last().map_or(0, |stats| dropped_by_choice(&stats.json()));
        eventually(PATIENCE, || (line.book.open() as u64 <= dropped()).then_some(()));
        let dropped = dropped();
        line.book.drop_by_choice(dropped);
        notes.push(format!("{dropped} dropped by choice, each counted"));
        if dropped == 0 {
            complaints.push("nothing was dropped: the disk was not full for long enough".into());
        }
    }
    Outcome { verdict: line.verdict(), complaints, notes }
}

/// What the outbox let go, as `stats` count it.
fn dropped_by_choice(stats: &Value) -> u64 {
    let pipelines = stats["pipelines"].as_object().into_iter().flat_map(|pipelines| pipelines.values());
    pipelines.filter_map(|pipeline| pipeline["lost"]["outbox_drop_oldest"].as_u64()).sum()
}

/// Link faults and broker restarts for minutes: memory must not grow, and stays below what `check` says.
fn soak(plan: &Plan) -> Outcome {
    let mut chance = Chance::new(plan.seed, "soak");
    // Nothing is dropped by choice: the judge would have to know how much.
    let mut line = Line::start(&Wanted {
        outbox: "when_full = \"block\"",
        ..plan.line("soak", Link::Proxied, most_named)
    });
    let mut away = Away::default();
    let mut samples: Vec<(f64, f64)> = Vec::new();
    // Which part grew, and when: a step or a slope, of the heap or of the program's file.
    let mut series = File::create(books().join("soak.memory")).expect("the storms' folder is writable");
    let begun = Instant::now();
    while begun.elapsed() < plan.soak {
        away.stand(&mut chance);
        line.sender.rate(chance.within(50..400));
        let kinds = Fault::ALL;
        let fault = kinds[chance.within(0..kinds.len() as u64) as usize];
        let noticing = if chance.per_cent(15) {
            line.broker.restart();
            Duration::ZERO
        } else {
            line.proxy().begin(fault);
            std::thread::sleep(chance.millis(100..2000));
            line.proxy().calm();
            noticed_within(fault)
        };
        if !away.measure(&line, &format!("soak after {:.0} s", begun.elapsed().as_secs_f32()), noticing) {
            break;
        }
        // Good weather for a moment, so that memory is looked at in a state that comes again.
        line.sender.rate(200);
        std::thread::sleep(Duration::from_secs(1));
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        let [resident, heap, file] = ["VmRSS", "RssAnon", "RssFile"].map(|key| line.daemon.memory_kb(key));
        writeln!(series, "{minutes:.3} min, {resident} kB resident: {heap} anonymous, {file} of files")
            .expect("the storms' folder is writable");
        samples.push((minutes, resident as f64));
    }
    let mut outcome =
        away.outcome(&line, format!("{:.1} minutes of weather", plan.soak.as_secs_f32() / 60.0));
    // The first third warms up: an allocator keeps what the worst moment so far took, and no storm begins with
    // its worst.
    let settled = &samples[samples.len() / 3..];
    let trend = Trend::of(settled);
    let (highest, ceiling) = (line.daemon.memory_kb("VmHWM"), line.ceiling_kb());
    outcome.notes.push(format!(
        "resident {highest} kB at most, `check` says {ceiling} kB; slope {trend} over {} samples",
        settled.len()
    ));
    if highest > ceiling {
        outcome.complaints.push(format!("{highest} kB are more than the {ceiling} kB that `check` says"));
    }
    // A short soak still warms up; its slope says nothing.
    let is_long = plan.soak >= Duration::from_secs(5 * 60);
    if is_long && trend.grows() {
        outcome.complaints.push(format!("memory grows by {trend}"));
    }
    outcome
}

/// How long the line was away after each blow.
#[derive(Default)]
struct Away {
    last: Duration,
    longest: Duration,
    total: Duration,
    blows: u32,
    complaints: Vec<String>,
    /// Bytes of the daemon's log that were looked at.
    read: usize,
}

impl Away {
    /// Good weather for as long as the line was away, and a moment: with a link that breaks as soon as it
    /// stands, only the longest wait between attempts would be tested.
    fn stand(&self, chance: &mut Chance) {
        std::thread::sleep(self.last + chance.millis(50..500));
    }

    /// Waits until the line lives; it must within `noticing`, the wait that the daemon announced, and 2 s.
    /// Whether it does at all: a line that stands shows nothing more.
    fn measure(&mut self, line: &Line, what: &str, noticing: Duration) -> bool {
        let took = line.live_again();
        let log = line.daemon.log();
        let said = announced(&log[self.read..]);
        self.read = log.len();
        let allowed = noticing + said + Duration::from_secs(2);
        match took {
            Some(took) => {
                self.last = took;
                self.longest = self.longest.max(took);
                self.total += took;
                self.blows += 1;
                if took > allowed {
                    self.complaints.push(format!(
                        "{what}: live again after {took:.1?}; allowed {allowed:.1?} with a backoff of {said:.1?}"
                    ));
                }
            }
            None => self.complaints.push(format!("{what}: not live again:\n{log}")),
        }
        took.is_some()
    }

    fn outcome(self, line: &Line, what: String) -> Outcome {
        let mean = self.total.checked_div(self.blows).unwrap_or_default();
        let verdict = line.verdict();
        let notes =
            vec![what, format!("live again after {mean:.1?} on average, {:.1?} at most", self.longest)];
        Outcome { verdict, complaints: self.complaints, notes }
    }
}

/// The longest wait that the daemon announced in these lines.
fn announced(log: &str) -> Duration {
    let waits = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("trying again in ")?;
        rest.split_once(" s")?.0.parse::<f64>().ok()
    });
    Duration::from_secs_f64(waits.fold(0.0, f64::max))
}
