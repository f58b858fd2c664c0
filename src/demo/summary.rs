//! What came of a demo, for people and as one JSON object.

use serde_json::{Map, Value, json};

use super::judge::{Leg, Score, Standing, Stream, VERDICTS};
use super::table::{self, ms, percent};
use crate::base::Paint;

/// The end of a demo.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Seed of line and machine; with it the same frames come again.
    pub seed: u64,
    /// Frames that were to be sent.
    pub asked: u64,
    /// The last standing.
    pub standing: Standing,
    /// Threads of the daemon that did not end in time.
    pub late_threads: Vec<String>,
}

impl Summary {
    /// Every frame that was asked for has been sent and answered, and nothing happened that must not.
    pub fn is_complete(&self) -> bool {
        self.complaints().is_empty()
    }

    /// The object of `--json`.
    pub fn json(&self) -> Value {
        let standing = &self.standing;
        let answered = standing.sum(|score| score.answered);
        let mut errors = Map::new();
        for (reason, count) in standing.scores.iter().flat_map(|score| &score.errors) {
            let so_far = errors.get(reason).and_then(Value::as_u64).unwrap_or_default();
            errors.insert(reason.clone(), json!(so_far + count));
        }
        let pipelines: Map<_, _> = Stream::ALL
            .into_iter()
            .map(|stream| {
                let score = &standing.scores[stream as usize];
                (stream.name().to_owned(), pipeline(score, standing.throughput_per_s(score.answered)))
            })
            .collect();
        json!({
            "schema": "lineside.demo/1",
            "version": env!("CARGO_PKG_VERSION"),
            "seed": self.seed,
            "asked": self.asked,
            "frames": standing.sum(|score| score.sent),
            "answered": answered,
            "duplicates": standing.sum(|score| score.duplicates),
            "accuracy": standing.accuracy(),
            "throughput_per_s": standing.throughput_per_s(answered),
            "duration_s": standing.took.as_secs_f64(),
            "latency_us": {
                "p50": standing.round_trip_us(0.5),
                "p99": standing.round_trip_us(0.99),
                "max": standing.round_trip_us(1.0),
            },
            "pipelines": pipelines,
            "errors": errors,
            "unanswered": standing.unanswered,
            "mistakes": standing.mistakes,
            "problems": standing.problems,
            "late_threads": self.late_threads,
        })
    }

    /// The summary in words, a line each.
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        let standing = &self.standing;
        let (sent, answered) = (standing.sum(|score| score.sent), standing.sum(|score| score.answered));
        let mut lines = table::body(standing, paint);
        lines.push(String::new());
        lines.push(format!(
            " {answered} of {sent} frames answered in {:.1} s: {:.1}/s, {} right",
            standing.took.as_secs_f64(),
            standing.throughput_per_s(answered),
            percent(standing.accuracy()),
        ));
        lines.push(format!(
            " From sending to prediction received: p50 {} ms, p99 {} ms, longest {} ms",
            ms(standing.round_trip_us(0.5)),
            ms(standing.round_trip_us(0.99)),
            ms(standing.round_trip_us(1.0)),
        ));
        let wrong = answered - standing.sum(|score| score.right);
        if wrong > 0 {
            lines.push(format!(" Wrong answers ({wrong}):"));
            lines.extend(standing.mistakes.iter().map(|text| format!("   {text}")));
            if wrong > standing.mistakes.len() as u64 {
                lines.push("   …".into());
            }
        }
        lines
    }

    /// What was wrong, a line each; empty when the summary is complete.
    pub fn complaints(&self) -> Vec<String> {
        let standing = &self.standing;
        let mut complaints = Vec::new();
        let sent = standing.sum(|score| score.sent);
        if sent < self.asked {
            complaints.push(format!("stopped after {sent} of {} frames", self.asked));
        }
        for (stream, score) in Stream::ALL.into_iter().zip(&standing.scores) {
            let missing = score.sent - score.answered;
            if missing > 0 {
                let refused = score.refused();
                let reasons: Vec<_> =
                    score.errors.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
                let name = stream.name();
                let mut text = format!("{missing} of {} {name} frames have no prediction", score.sent);
                if refused > 0 {
                    text.push_str(&format!("; refused: {}", reasons.join(", ")));
                }
                complaints.push(text);
            }
        }
        if !standing.unanswered.is_empty() {
            complaints.push(format!("without any answer: {}", standing.unanswered.join(", ")));
        }
        complaints.extend(standing.problems.iter().cloned());
        if !self.late_threads.is_empty() {
            complaints.push(format!("threads that did not end in time: {}", self.late_threads.join(", ")));
        }
        complaints
    }
}

fn pipeline(score: &Score, throughput_per_s: f64) -> Value {
    let verdicts: Map<_, _> =
        VERDICTS.iter().zip(score.verdicts).map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
    let latency: Map<_, _> = Leg::ALL
        .into_iter()
        .map(|leg| {
            let value = json!({"p50": score.latency_us(leg, 0.5), "p99": score.latency_us(leg, 0.99)});
            (leg.name().to_owned(), value)
        })
        .collect();
    json!({
        "frames": score.sent,
        "answered": score.answered,
        "right": score.right,
        "accuracy": score.accuracy(),
        "throughput_per_s": throughput_per_s,
        "verdicts": verdicts,
        "duplicates": score.duplicates,
        "errors": score.errors,
        "latency_us": latency,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Micros;
    use crate::demo::judge::Board;

    fn summary(answers: &[&str]) -> Summary {
        let board = Board::default();
        for index in 0..3 {
            board.with(|judge| judge.sent(Micros(0), Stream::Machine, index, "ok", None));
        }
        for (index, label) in answers.iter().enumerate() {
            let message = json!({
                "schema": "lineside.prediction/1", "pipeline": "machine", "verdict": "pass",
                "label": label, "score": 0.9, "source": {"port": "/dev/pts/1", "sequence": index},
                "latency_us": {"infer": 70},
            });
            board.with(|judge| judge.heard(Micros(500_000), "x/result", message.to_string().as_bytes()));
        }
        Summary { seed: 5, asked: 3, standing: board.standing(Micros(600_000)), late_threads: vec![] }
    }

    #[test]
    fn the_object_has_what_scripts_look_for() {
        let summary = summary(&["ok", "ok", "failure"]);
        assert!(summary.is_complete(), "{:?}", summary.complaints());
        let json = summary.json();
        assert_eq!((json["frames"].as_u64(), json["answered"].as_u64()), (Some(3), Some(3)));
        assert_eq!(json["accuracy"].as_f64(), Some(2.0 / 3.0));
        assert_eq!(json["throughput_per_s"].as_f64(), Some(6.0));
        assert_eq!(json["latency_us"]["p50"].as_u64().unwrap() / 1000, 500);
        assert_eq!(json["pipelines"]["machine"]["latency_us"]["infer"]["p50"], 70);
        assert_eq!(json["pipelines"]["inspection"]["accuracy"], Value::Null);
        assert!(summary.lines(Paint::Plain).iter().any(|line| line.contains("failure (0.90), is ok")));
    }

    #[test]
    fn a_missing_answer_is_named_and_is_not_complete() {
        let summary = summary(&["ok", "ok"]);
        assert!(!summary.is_complete());
        let complaints = summary.complaints().join("\n");
        assert!(complaints.contains("1 of 3 machine frames") && complaints.contains("machine 000002"));
    }

    #[test]
    fn a_line_that_was_stopped_early_says_so() {
        let summary = Summary { asked: 4, ..summary(&["ok"; 3]) };
        assert_eq!(summary.complaints(), ["stopped after 3 of 4 frames"]);
    }

    #[test]
    fn a_wrong_answer_is_an_answer() {
        let summary = summary(&["failure"; 3]);
        assert!(summary.is_complete() && summary.complaints().is_empty());
    }
}
