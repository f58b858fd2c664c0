//! The way back: what became of a frame, as a write to a port, so that a PLC or a lamp acts on it
//! without MQTT.
//!
//! Promise: a write stands apart from settlement. It is handed over before the prediction goes to the
//! outbox, waits for nobody, is never written late (`expires_ms`) and never twice: a frame that its
//! source delivers again gets its prediction again, but no second write.
//! Not here: the port (`acquire::serial`), the queue in between ([`crate::flow::writes`]).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::counters::WriteLoss;
use crate::base::{Frame, FrameId, Micros, Prediction, Reason, Scored};
use crate::config::write_back::{Form, Outcome, Piece, WriteBack};
use crate::flow::{PortWrite, What, Writes};
use crate::modbus::Request;

/// Hands verdicts of one pipeline to the port that is to hear them.
#[derive(Clone)]
pub struct VerdictWriter {
    config: WriteBack,
    /// Index, and name.
    pipeline: (usize, Arc<str>),
    writes: Arc<Writes>,
    /// A text fitted no frame, and that was said.
    misfit_told: Arc<AtomicBool>,
}

/// What a text may speak of.
struct Said<'a> {
    outcome: Outcome,
    label: &'a str,
    score: Option<f64>,
    id: String,
    frame_id: &'a str,
}

impl VerdictWriter {
    /// For the pipeline of this index and name; `writes` leads to its port.
    pub fn new(config: WriteBack, index: usize, name: &str, writes: Arc<Writes>) -> Self {
        Self { config, pipeline: (index, name.into()), writes, misfit_told: Arc::default() }
    }

    /// A prediction was made.
    pub fn prediction(&self, now: Micros, prediction: &Prediction) {
        if prediction.redelivered {
            self.writes.lost(self.pipeline.0, WriteLoss::Redelivered);
            return;
        }
        let joined;
        let (label, score) = match &prediction.scored {
            Scored::Class { label, score, .. } => (label.as_str(), Some(f64::from(*score))),
            Scored::Labels { labels, scores } => {
                joined = labels.join(",");
                let best = scores.iter().map(|(_, score)| f64::from(*score)).reduce(f64::max);
                (joined.as_str(), best)
            }
            Scored::Values { values } => ("", values.first().map(|(_, value, _)| *value)),
            Scored::Anomaly { anomaly_score, .. } => ("", Some(f64::from(*anomaly_score))),
        };
        let said = Said {
            outcome: prediction.verdict.into(),
            label,
            score,
            id: prediction.id.to_string(),
            frame_id: prediction.frame_id.as_deref().unwrap_or_default(),
        };
        self.hand_over(now, prediction.taken_at, &said);
    }

    /// A frame got no prediction.
    pub fn error(&self, now: Micros, frame: &Frame, reason: Reason, id: FrameId, own_id: Option<&str>) {
        if frame.identity.redelivered {
            self.writes.lost(self.pipeline.0, WriteLoss::Redelivered);
            return;
        }
        let said = Said {
            outcome: Outcome::Error,
            label: reason.as_str(),
            score: None,
            id: id.to_string(),
            frame_id: own_id.unwrap_or_default(),
        };
        self.hand_over(now, frame.taken_at, &said);
    }

    fn hand_over(&self, now: Micros, taken_at: Micros, said: &Said<'_>) {
        let what = self.what(said);
        if let Some(words) = self.misfit(&what) {
            self.writes.lost(self.pipeline.0, WriteLoss::Refused);
            // Once: a label that is too long comes again and again.
            if !self.misfit_told.swap(true, Ordering::Relaxed) {
                log::warn!("{words}");
            }
            return;
        }
        let expires_at = taken_at + self.config.expires_after;
        self.writes.push(now, PortWrite { pipeline: self.pipeline.0, what, expires_at });
    }

    fn what(&self, said: &Said<'_>) -> What {
        match &self.config.form {
            Form::Line(pieces) => What::Bytes(format!("{}\n", self.text(pieces, said)).into_bytes()),
            Form::Frame(pieces) => What::Body(self.text(pieces, said).into_bytes()),
            Form::Coil { unit, address, on } => {
                let on = on.contains(&said.outcome);
                What::Modbus { unit: *unit, request: Request::WriteCoil { address: *address, on } }
            }
            Form::Register { unit, address, values } => {
                let value = values[said.outcome as usize];
                What::Modbus { unit: *unit, request: Request::WriteRegister { address: *address, value } }
            }
        }
    }

    /// Why no frame of the port carries it.
    fn misfit(&self, what: &What) -> Option<String> {
        let (What::Body(body), Some(room)) = (what, &self.config.frame_bytes) else { return None };
        (!room.contains(&body.len())).then(|| {
            format!(
                "pipeline {}: a verdict of {} bytes fits no frame of port {}, which carries {} to {}: it is not written; \
                 shorten text in [pipeline.write_back], or let the port's source have longer frames",
                self.pipeline.1,
                body.len(),
                self.config.port,
                room.start(),
                room.end()
            )
        })
    }

    fn text(&self, pieces: &[Piece], said: &Said<'_>) -> String {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Words(words) => text.push_str(words),
                Piece::Verdict => text.push_str(said.outcome.as_str()),
                Piece::Label => plain(&mut text, said.label),
                Piece::Score => {
                    if let Some(score) = said.score {
                        write!(text, "{score}").expect("a string takes everything");
                    }
                }
                Piece::Id => text.push_str(&said.id),
                Piece::FrameId => plain(&mut text, said.frame_id),
                Piece::Pipeline => text.push_str(&self.pipeline.1),
            }
        }
        text
    }
}

/// Labels and ids are anyone's: a line stays one line.
fn plain(text: &mut String, anyones: &str) {
    text.extend(anyones.chars().map(|c| if c.is_control() { '_' } else { c }));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::counters::PipelineCounters;
    use crate::base::{Carried, Identity, Latency, Origin, UnixMicros, Verdict};

    fn prediction(verdict: Verdict, scored: Scored) -> Prediction {
        Prediction {
            id: FrameId(0xabc),
            origin: Origin::new("t"),
            frame_id: Some("part\n7".into()),
            acquired_at: UnixMicros(0),
            inferred_at: UnixMicros(0),
            taken_at: Micros(5),
            latency: Latency::default(),
            verdict,
            scored,
            sequence: None,
            retained: false,
            redelivered: false,
        }
    }

    fn frame(redelivered: bool) -> Frame {
        Frame {
            payload: bytes::Bytes::new(),
            origin: Origin::new("t"),
            identity: Identity { delivery: 0, key: 0, redelivered },
            acquired_at: UnixMicros(0),
            taken_at: Micros(5),
            carried: Carried::default(),
        }
    }

    fn class(label: &str, score: f32) -> Scored {
        Scored::Class { label: label.into(), score, scores: Vec::new() }
    }

    struct Bench {
        writes: Arc<Writes>,
        writer: VerdictWriter,
        counters: Arc<PipelineCounters>,
    }

    fn bench(form: Form) -> Bench {
        let counters = Arc::new(PipelineCounters::default());
        let writes = Arc::new(Writes::new(vec![counters.clone()], || ()));
        let config = WriteBack {
            port: "p".into(),
            line: None,
            frame_bytes: matches!(form, Form::Frame(_)).then_some(0..=5),
            form,
            expires_after: Duration::from_secs(1),
        };
        Bench { writer: VerdictWriter::new(config, 0, "screw", writes.clone()), writes, counters }
    }

    impl Bench {
        fn taken(&self) -> What {
            self.writes.take(Micros(6)).unwrap().what
        }
    }

    #[test]
    fn a_line_says_what_its_text_asks_for_and_stays_one_line() {
        let text = "{pipeline} {verdict} {label} {score} {frame_id} {id}";
        let bench = bench(Form::Line(Piece::parse(text).unwrap()));
        bench.writer.prediction(Micros(5), &prediction(Verdict::Fail, class("a\r\nb", 0.75)));
        let line = b"screw fail a__b 0.75 part_7 00000000000000000000000000000abc\n";
        assert_eq!(bench.taken(), What::Bytes(line.to_vec()));
        bench.writer.error(Micros(5), &frame(false), Reason::Malformed, FrameId(1), None);
        assert_eq!(
            bench.taken(),
            What::Bytes(b"screw error malformed   00000000000000000000000000000001\n".to_vec())
        );
        let anomaly = Scored::Anomaly { anomaly_score: 2.5, expected: Vec::new() };
        bench.writer.prediction(Micros(5), &prediction(Verdict::Uncertain, anomaly));
        assert!(matches!(bench.taken(), What::Bytes(line) if line.starts_with(b"screw uncertain  2.5 ")));
    }

    #[test]
    fn a_text_that_no_frame_carries_is_refused_in_words_and_counted() {
        let bench = bench(Form::Frame(Piece::parse("{label}").unwrap()));
        bench.writer.prediction(Micros(5), &prediction(Verdict::Fail, class("wet", 0.5)));
        assert_eq!(bench.taken(), What::Body(b"wet".to_vec()));
        for refused in 1..=2 {
            bench.writer.prediction(Micros(5), &prediction(Verdict::Fail, class("cracked", 0.5)));
            assert_eq!(bench.writes.take(Micros(6)), None);
            assert_eq!(bench.counters.write_lost(WriteLoss::Refused).get(), refused);
        }
        let words = bench.writer.misfit(&What::Body(b"cracked".to_vec())).unwrap();
        assert!(
            words.starts_with("pipeline screw: a verdict of 7 bytes fits no frame of port p, which"),
            "{words}"
        );
        assert!(bench.writer.misfit_told.load(Ordering::Relaxed));
    }

    #[test]
    fn a_coil_is_on_for_its_outcomes_and_off_for_all_others() {
        let bench = bench(Form::Coil { unit: 3, address: 9, on: vec![Outcome::Fail, Outcome::Error] });
        let is_on = |verdict| {
            bench.writer.prediction(Micros(5), &prediction(verdict, class("x", 1.0)));
            match bench.taken() {
                What::Modbus { unit: 3, request: Request::WriteCoil { address: 9, on } } => on,
                other => panic!("{other:?}"),
            }
        };
        assert!(is_on(Verdict::Fail));
        assert!(!is_on(Verdict::Pass) && !is_on(Verdict::Uncertain) && !is_on(Verdict::None));
        bench.writer.error(Micros(5), &frame(false), Reason::Malformed, FrameId(1), None);
        assert!(matches!(bench.taken(), What::Modbus { request: Request::WriteCoil { on: true, .. }, .. }));
    }

    #[test]
    fn a_register_holds_a_number_for_each_outcome() {
        let bench = bench(Form::Register { unit: 3, address: 9, values: [10, 11, 12, 13, 14] });
        for (verdict, number) in
            [(Verdict::Pass, 10), (Verdict::Fail, 11), (Verdict::Uncertain, 12), (Verdict::None, 13)]
        {
            bench.writer.prediction(Micros(5), &prediction(verdict, class("x", 1.0)));
            let request = Request::WriteRegister { address: 9, value: number };
            assert_eq!(bench.taken(), What::Modbus { unit: 3, request });
        }
    }

    #[test]
    fn a_frame_that_comes_again_is_not_acted_on_again() {
        let bench = bench(Form::Frame(vec![Piece::Verdict]));
        let again = Prediction { redelivered: true, ..prediction(Verdict::Fail, class("x", 1.0)) };
        bench.writer.prediction(Micros(5), &again);
        bench.writer.error(Micros(5), &frame(true), Reason::Malformed, FrameId(1), None);
        assert_eq!(bench.writes.take(Micros(5)), None);
        assert_eq!(bench.counters.write_lost(WriteLoss::Redelivered).get(), 2);
        bench.writer.prediction(Micros(5), &prediction(Verdict::Fail, class("x", 1.0)));
        assert_eq!(bench.taken(), What::Body(b"fail".to_vec()));
        bench.writer.prediction(Micros(5), &prediction(Verdict::Fail, class("x", 1.0)));
        assert_eq!(bench.writes.take(Micros(1_000_005)), None, "a second later it is too late");
    }
}
