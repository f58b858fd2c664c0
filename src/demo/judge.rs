//! What was sent, what came back, and whether it was right.
//!
//! Pure: messages and times come in as arguments. [`Board`] shares it between the threads and keeps
//! the line from running ahead of the answers by more than its windows, so that no queue on the way
//! (broker, daemon) can overflow and a missing answer is a fault and never a matter of speed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::render::Part;
use crate::base::Micros;

/// Unanswered frames of one stream at most; below `queue_frames` of `demo.toml`.
pub const WINDOW: usize = 32;
/// Wrong answers and unanswered frames that are kept for the summary.
const KEPT: usize = 12;
/// Longest latency that is told apart: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// The two sources of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Pictures of parts.
    Inspection,
    /// Readings of a machine.
    Machine,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inspection, Self::Machine];

    /// The pipeline's name in `demo.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inspection => "inspection",
            Self::Machine => "machine",
        }
    }
}

/// Where time is spent, in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after `latency_us` of the prediction, but for the last")]
pub enum Leg {
    Queue,
    Decode,
    Featurize,
    Infer,
    Total,
    /// From sending to prediction received, as its sender sees it.
    RoundTrip,
}

impl Leg {
    /// In the order of the way.
    pub const ALL: [Self; 6] =
        [Self::Queue, Self::Decode, Self::Featurize, Self::Infer, Self::Total, Self::RoundTrip];

    /// Key in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Featurize => "featurize",
            Self::Infer => "infer",
            Self::Total => "total",
            Self::RoundTrip => "round_trip",
        }
    }
}

/// How one stream fares.
#[derive(Clone, Debug)]
pub struct Score {
    /// Frames sent.
    pub sent: u64,
    /// Frames with a prediction.
    pub answered: u64,
    /// Predictions whose label is the truth.
    pub right: u64,
    /// Verdicts: pass, fail, uncertain, none.
    pub verdicts: [u64; 4],
    /// Predictions of a frame that had one already.
    pub duplicates: u64,
    /// Frames that were refused, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Microseconds, by [`Leg`].
    pub latencies: Vec<Histogram<u32>>,
}

/// Names of the verdicts, in the order of [`Score::verdicts`].
pub const VERDICTS: [&str; 4] = ["pass", "fail", "uncertain", "none"];

impl Score {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3)
            .expect("bounds and digits are constants that the histogram allows");
        Self {
            sent: 0,
            answered: 0,
            right: 0,
            verdicts: [0; 4],
            duplicates: 0,
            errors: BTreeMap::new(),
            latencies: vec![histogram; Leg::ALL.len()],
        }
    }

    /// Frames that were refused.
    pub fn refused(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The latest frame with this sequence number, which wraps; `None`: no frame had it.
    fn numbered(&self, sequence: u16) -> Option<u64> {
        let last = self.sent.checked_sub(1)?;
        last.checked_sub(u64::from((last as u16).wrapping_sub(sequence)))
    }

    /// Share of predictions that are right; `None` before the first.
    pub fn accuracy(&self) -> Option<f64> {
        (self.answered > 0).then(|| self.right as f64 / self.answered as f64)
    }

    /// Microseconds within which a share (0 to 1) of predictions were there.
    pub fn latency_us(&self, leg: Leg, share: f64) -> u64 {
        self.latencies[leg as usize].value_at_quantile(share)
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
}

struct Pending {
    at: Micros,
    truth: &'static str,
    part: Option<Arc<Part>>,
}

/// A prediction that arrived, for whoever shows it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which source.
    pub stream: Stream,
    /// The frame's number.
    pub index: u64,
    /// `pass`, `fail`, `uncertain` or `none`.
    pub verdict: String,
    /// What the model says.
    pub label: String,
    /// How sure it is.
    pub score: f64,
    /// What is true.
    pub truth: &'static str,
    /// The part itself, when pictures are kept.
    pub part: Option<Arc<Part>>,
}

impl Answer {
    /// Whether the label is the truth.
    pub fn is_right(&self) -> bool {
        self.label == self.truth
    }
}

/// What we read of `lineside.prediction/1` and `lineside.error/1`, as any consumer would.
#[derive(Deserialize)]
struct Message {
    schema: String,
    pipeline: String,
    source: Source,
    #[serde(default)]
    latency_us: BTreeMap<String, u64>,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    score: f64,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    levels: BTreeMap<String, String>,
    sequence: Option<u16>,
}

/// Counts and compares.
pub struct Judge {
    scores: [Score; 2],
    pending: [HashMap<u64, Pending>; 2],
    fates: [HashMap<u64, Fate>; 2],
    first_sent: Option<Micros>,
    last_answered: Option<Micros>,
    /// What happened last; a pause here means that something is stuck.
    last_event: Micros,
    last: Option<Answer>,
    mistakes: Vec<String>,
    problems: Vec<String>,
    online: bool,
}

impl Judge {
    /// Nothing sent yet.
    pub fn new() -> Self {
        Self {
            scores: [Score::new(), Score::new()],
            pending: Default::default(),
            fates: Default::default(),
            first_sent: None,
            last_answered: None,
            last_event: Micros(0),
            last: None,
            mistakes: Vec::new(),
            problems: Vec::new(),
            online: false,
        }
    }

    /// Frame `index` goes out now.
    pub fn sent(
        &mut self,
        now: Micros,
        stream: Stream,
        index: u64,
        truth: &'static str,
        part: Option<Arc<Part>>,
    ) {
        self.first_sent.get_or_insert(now);
        self.last_event = now;
        self.scores[stream as usize].sent += 1;
        self.pending[stream as usize].insert(index, Pending { at: now, truth, part });
    }

    /// A message of the daemon. The answer, if it is the first one to a frame of ours.
    pub fn heard(&mut self, now: Micros, topic: &str, payload: &[u8]) -> Option<Answer> {
        if topic.ends_with("/availability") {
            self.online = payload == b"online";
            return None;
        }
        self.last_event = now;
        let message: Message = match serde_json::from_slice(payload) {
            Ok(message) => message,
            Err(error) => {
                self.problem(format!("a message on {topic} cannot be read: {error}"));
                return None;
            }
        };
        let stream = Stream::ALL.into_iter().find(|stream| stream.name() == message.pipeline);
        let index = match stream {
            Some(Stream::Inspection) => message.source.levels.get("part").and_then(|id| id.parse().ok()),
            Some(Stream::Machine) => {
                let sequence = message.source.sequence;
                sequence.and_then(|sequence| self.scores[Stream::Machine as usize].numbered(sequence))
            }
            None => None,
        };
        let (Some(stream), Some(index)) = (stream, index) else {
            self.problem(format!("a message on {topic} names no frame of ours"));
            return None;
        };
        let at = stream as usize;
        let is_error = message.schema.starts_with("lineside.error/");
        let Some(pending) = self.pending[at].remove(&index) else {
            match self.fates[at].get(&index) {
                None => self.problem(format!("an answer to {} {index}, which was not sent", stream.name())),
                Some(_) if is_error => {}
                Some(Fate::Refused) => {
                    self.problem(format!("{} {index} was refused, then answered", stream.name()));
                }
                Some(Fate::Answered) => self.scores[at].duplicates += 1,
            }
            return None;
        };
        if is_error {
            self.fates[at].insert(index, Fate::Refused);
            *self.scores[at].errors.entry(message.reason).or_default() += 1;
            return None;
        }
        self.fates[at].insert(index, Fate::Answered);
        self.last_answered = Some(now);
        let answer = Answer {
            stream,
            index,
            verdict: message.verdict,
            label: message.label,
            score: message.score,
            truth: pending.truth,
            part: pending.part,
        };
        self.scores[at].count(&answer, &message.latency_us, now.since(pending.at));
        if !answer.is_right() && self.mistakes.len() < KEPT {
            let Answer { index, label, score, truth, .. } = &answer;
            self.mistakes.push(format!("{} {index:06}: {label} ({score:.2}), is {truth}", stream.name()));
        }
        self.last = Some(answer.clone());
        Some(answer)
    }

    /// Something that must not happen.
    pub fn problem(&mut self, what: String) {
        if self.problems.len() < KEPT {
            self.problems.push(what);
        }
    }

    fn waiting(&self) -> usize {
        self.pending.iter().map(HashMap::len).sum()
    }

    fn standing(&self, now: Micros) -> Standing {
        let unanswered = Stream::ALL.into_iter().flat_map(|stream| {
            let mut indices: Vec<_> = self.pending[stream as usize].keys().copied().collect();
            indices.sort_unstable();
            indices.into_iter().map(move |index| format!("{} {index:06}", stream.name()))
        });
        Standing {
            scores: self.scores.clone(),
            elapsed: self.first_sent.map_or(Duration::ZERO, |first| now.since(first)),
            took: match (self.first_sent, self.last_answered) {
                (Some(first), Some(last)) => last.since(first),
                _ => Duration::ZERO,
            },
            quiet: now.since(self.last_event),
            waiting: self.waiting(),
            unanswered: unanswered.take(KEPT).collect(),
            last: self.last.clone(),
            mistakes: self.mistakes.clone(),
            problems: self.problems.clone(),
        }
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self::new()
    }
}

impl Score {
    fn count(&mut self, answer: &Answer, stages_us: &BTreeMap<String, u64>, round_trip: Duration) {
        self.answered += 1;
        self.right += u64::from(answer.is_right());
        let none = VERDICTS.len() - 1;
        self.verdicts[VERDICTS.iter().position(|verdict| *verdict == answer.verdict).unwrap_or(none)] += 1;
        for leg in Leg::ALL {
            let value = match leg {
                Leg::RoundTrip => round_trip.as_micros() as u64,
                _ => stages_us.get(leg.name()).copied().unwrap_or_default(),
            };
            self.latencies[leg as usize].saturating_record(value);
        }
    }
}

/// Everything that can be shown, at one moment.
#[derive(Clone, Debug)]
pub struct Standing {
    /// By [`Stream`].
    pub scores: [Score; 2],
    /// Since the first frame.
    pub elapsed: Duration,
    /// From the first frame to the last answer.
    pub took: Duration,
    /// Since anything happened.
    pub quiet: Duration,
    /// Frames without an answer yet.
    pub waiting: usize,
    /// Some of them, by name.
    pub unanswered: Vec<String>,
    /// The newest answer.
    pub last: Option<Answer>,
    /// Some wrong answers, in words.
    pub mistakes: Vec<String>,
    /// What must not happen and did.
    pub problems: Vec<String>,
}

impl Standing {
    /// Both streams together.
    pub fn sum(&self, of: impl Fn(&Score) -> u64) -> u64 {
        self.scores.iter().map(of).sum()
    }

    /// Answers a second, first frame to last answer.
    pub fn throughput_per_s(&self, answered: u64) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { answered as f64 / seconds } else { 0.0 }
    }

    /// Right answers out of all; `None` before the first.
    pub fn accuracy(&self) -> Option<f64> {
        let answered = self.sum(|score| score.answered);
        (answered > 0).then(|| self.sum(|score| score.right) as f64 / answered as f64)
    }

    /// Microseconds from sending to prediction, over both streams.
    pub fn round_trip_us(&self, share: f64) -> u64 {
        let mut all = self.scores[0].latencies[Leg::RoundTrip as usize].clone();
        all += &self.scores[1].latencies[Leg::RoundTrip as usize];
        all.value_at_quantile(share)
    }
}

/// A [`Judge`] that threads share.
#[derive(Default)]
pub struct Board {
    judge: Mutex<Judge>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Judge> {
        // The judge's numbers are plain: a thread that panicked half-way left none of them torn.
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the judge and wakes whoever waits for it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Judge) -> T) -> T {
        let result = act(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `stream` has room for one more unanswered frame; `false`: not within `patience`.
    pub fn wait_room(&self, stream: Stream, patience: Duration) -> bool {
        let full = |judge: &mut Judge| judge.pending[stream as usize].len() >= WINDOW;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until the daemon has said `online`; `false`: not within `patience`.
    pub fn wait_online(&self, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |judge| !judge.online);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until every frame sent has an answer or a refusal, or `patience` has passed.
    pub fn wait_settled(&self, patience: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |judge| judge.waiting() > 0);
        drop(waited);
    }

    /// Now.
    pub fn standing(&self, now: Micros) -> Standing {
        self.lock().standing(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prediction(part: &str, label: &str, verdict: &str) -> Vec<u8> {
        let levels = json!({"part": part});
        json!({
            "schema": "lineside.prediction/1", "pipeline": "inspection",
            "source": {"topic": "camera/1/frame", "levels": levels},
            "latency_us": {"queue": 5, "decode": 700, "featurize": 30, "infer": 2000, "total": 2800},
            "verdict": verdict, "label": label, "score": 0.9, "resent": false,
        })
        .to_string()
        .into_bytes()
    }

    const TOPIC: &str = "lineside/demo/inspection/result";

    #[test]
    fn an_answer_is_held_against_the_truth_of_its_own_frame() {
        let mut judge = Judge::new();
        judge.sent(Micros(1_000), Stream::Inspection, 0, "ok", None);
        judge.sent(Micros(2_000), Stream::Inspection, 1, "pit", None);
        assert!(judge.heard(Micros(9_000), TOPIC, &prediction("000001", "pit", "fail")).unwrap().is_right());
        assert!(!judge.heard(Micros(9_500), TOPIC, &prediction("000000", "pit", "fail")).unwrap().is_right());
        let standing = judge.standing(Micros(10_000));
        let score = &standing.scores[0];
        assert_eq!((score.sent, score.answered, score.right), (2, 2, 1));
        assert_eq!(score.verdicts, [0, 2, 0, 0]);
        assert_eq!(score.latency_us(Leg::Infer, 0.5), 2000);
        assert_eq!(score.latency_us(Leg::RoundTrip, 0.0) / 100, 70);
        assert_eq!(standing.took, Duration::from_micros(8_500));
        assert_eq!(standing.accuracy(), Some(0.5));
        assert_eq!(standing.mistakes, ["inspection 000000: pit (0.90), is ok"]);
        assert_eq!((standing.waiting, standing.problems.len()), (0, 0));
    }

    #[test]
    fn a_second_answer_counts_as_such_and_not_as_an_answer() {
        let mut judge = Judge::new();
        judge.sent(Micros(0), Stream::Inspection, 3, "ok", None);
        assert!(judge.heard(Micros(1), TOPIC, &prediction("3", "ok", "pass")).is_some());
        assert!(judge.heard(Micros(2), TOPIC, &prediction("3", "ok", "pass")).is_none());
        let standing = judge.standing(Micros(3));
        assert_eq!((standing.scores[0].answered, standing.scores[0].duplicates), (1, 1));
        assert!(standing.problems.is_empty());
    }

    #[test]
    fn a_refused_frame_is_settled_and_not_answered() {
        let mut judge = Judge::new();
        judge.sent(Micros(0), Stream::Machine, 0, "ok", None);
        let error = json!({
            "schema": "lineside.error/1", "pipeline": "machine", "reason": "stale",
            "source": {"port": "/dev/pts/1", "sequence": 0},
        });
        judge.heard(Micros(1), "lineside/demo/machine/error", error.to_string().as_bytes());
        let standing = judge.standing(Micros(3));
        assert_eq!((standing.waiting, standing.scores[1].answered), (0, 0));
        assert_eq!(standing.scores[1].errors, BTreeMap::from([("stale".into(), 1)]));
    }

    #[test]
    fn a_number_means_the_latest_frame_that_had_it() {
        let sent = |sent| Score { sent, ..Score::new() };
        assert_eq!(sent(0).numbered(0), None);
        assert_eq!((sent(3).numbered(2), sent(3).numbered(3)), (Some(2), None));
        assert_eq!((sent(65_537).numbered(0), sent(65_537).numbered(65_535)), (Some(65_536), Some(65_535)));
    }

    #[test]
    fn what_nobody_asked_for_is_a_problem() {
        let mut judge = Judge::new();
        judge.heard(Micros(0), TOPIC, b"{");
        judge.heard(Micros(0), TOPIC, &prediction("7", "ok", "pass"));
        judge.heard(Micros(0), TOPIC, &prediction("seven", "ok", "pass"));
        assert_eq!(judge.standing(Micros(0)).problems.len(), 3);
    }

    #[test]
    fn the_line_waits_when_its_window_is_full_and_not_before() {
        let board = Board::default();
        let short = Duration::from_millis(10);
        for index in 0..WINDOW as u64 {
            assert!(board.wait_room(Stream::Inspection, short));
            board.with(|judge| judge.sent(Micros(0), Stream::Inspection, index, "ok", None));
        }
        assert!(!board.wait_room(Stream::Inspection, short));
        assert!(board.wait_room(Stream::Machine, short));
        board.with(|judge| judge.heard(Micros(1), TOPIC, &prediction("4", "ok", "pass")));
        assert!(board.wait_room(Stream::Inspection, short));
        assert_eq!(board.standing(Micros(1)).unanswered[0], "inspection 000000");
    }

    #[test]
    fn the_daemon_is_online_when_it_says_so() {
        let board = Board::default();
        let topic = "lineside/demo/availability";
        board.with(|judge| judge.heard(Micros(0), topic, b"offline"));
        assert!(!board.wait_online(Duration::from_millis(5)));
        board.with(|judge| judge.heard(Micros(0), topic, b"online"));
        assert!(board.wait_online(Duration::from_millis(5)));
    }
}
