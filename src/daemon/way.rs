//! The way of one frame, room after room: decode → featurize → infer → interpret → publish.
//!
//! Promise: a frame that enters leaves by exactly one door: predictions, an `…/error` message, a
//! window or state that absorbed it, or a counted drop; its ticket goes through that same door.
//! What one origin's frames must share (windows, recurrent state) is kept for the most recent
//! `max_sources` origins.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::base::counters::PipelineCounters;
use crate::base::words::{in_words, panic_words};
use crate::base::{Clock, Frame, FrameId, Latency, Micros, Origin, Prediction, Reason};
use crate::config::{self, Card, card};
use crate::engine::InferError;
use crate::flow::Ticket;
use crate::mqtt::Template;
use crate::observe::latency::Latencies;
use crate::outbox::{Entry, Kind};
use crate::stage::acquire::{Arrival, TooLarge};
use crate::stage::decode::{DecodeError, Decoder};
use crate::stage::featurize::{FeatureState, FeaturizeError, Featurizer};
use crate::stage::infer::{Inference, StateTensors};
use crate::stage::interpret::{InterpretError, InterpretState, Interpreter};
use crate::stage::publish::Publisher;
use crate::stage::publish::payload::{PayloadContext, Unanswered};
use crate::stage::publish::write_back::VerdictWriter;

/// What all workers share of one pipeline.
pub struct Pipeline {
    /// Its place in the config; the index of its lane.
    pub index: usize,
    /// As configured.
    pub config: config::Pipeline,
    /// Its model's card.
    pub card: Card,
    /// What happened.
    pub counters: Arc<PipelineCounters>,
    /// How long it took.
    pub latencies: Latencies,
    pub(super) model: crate::engine::Model,
    pub(super) featurizer: Featurizer,
    pub(super) interpreter: Interpreter,
    pub(super) context: PayloadContext,
    pub(super) topic: Template,
    pub(super) error_topic: Template,
    pub(super) origins: Mutex<Origins>,
    pub(super) overload_said: Mutex<Said>,
    /// Reasons for which a frame had no answer that the log has told of.
    pub(super) refusals_said: Mutex<Vec<Reason>>,
}

/// When overload was last logged, and how many drops that told of.
#[derive(Default)]
pub(super) struct Said {
    at: Option<Micros>,
    drops: u64,
}

impl Pipeline {
    /// Whether a frame's answer depends on those before it: its lane is then served in order.
    pub fn is_stateful(&self) -> bool {
        let window = matches!(self.card.features, card::Features::Window(_));
        let forecast = matches!(
            self.card.output.kind,
            card::OutputKind::Anomaly { by: card::AnomalyBy::Error { frames_ahead, smooth_frames, .. } }
                if frames_ahead > 0 || smooth_frames > 1
        );
        window || forecast || !self.card.states.is_empty()
    }

    /// The frame's own id, where a level of its topic is one.
    fn id_in_topic<'o>(&self, origin: &'o Origin) -> Option<&'o str> {
        origin.level(self.config.source.id_level.as_deref()?).filter(|id| !id.is_empty())
    }

    /// The name under which an origin's frames share windows and states: its topic, without what differs
    /// from frame to frame.
    fn origin_name(&self, origin: &Origin) -> Arc<str> {
        let config::SourceKind::Mqtt { topic, .. } = &self.config.source.kind else {
            return origin.name.clone();
        };
        let Some(id_level) = &self.config.source.id_level else { return origin.name.clone() };
        let wanted = format!("{{{id_level}}}");
        let place = topic.split('/').position(|level| level == wanted);
        let levels = origin.name.split('/').enumerate();
        let kept = levels.map(|(i, level)| if Some(i) == place { wanted.as_str() } else { level });
        kept.collect::<Vec<_>>().join("/").into()
    }

    /// Logs what overload dropped since it was last said, unless that was less than `every` ago.
    pub(super) fn say_overload(&self, now: Micros, every: Duration) {
        const DROPS: [Reason; 4] =
            [Reason::QueueDropOldest, Reason::QueueDropNewest, Reason::Stale, Reason::OutboxDropOldest];
        let total: u64 = DROPS.iter().map(|reason| self.counters.lost(*reason).get()).sum();
        let mut said = self.overload_said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.at.is_none_or(|at| now.since(at) >= every);
        if total > said.drops && due {
            let by_reason =
                DROPS.map(|reason| format!("{} {}", reason.as_str(), self.counters.lost(reason).get()));
            log::warn!(
                "pipeline {}: {} frame(s) dropped by overload since this was last said; so far {}",
                self.config.name,
                total - said.drops,
                by_reason.join(", ")
            );
            *said = Said { at: Some(now), drops: total };
        }
    }
}

/// What frames of one origin share.
struct OriginState {
    features: FeatureState,
    tensors: StateTensors,
    verdicts: InterpretState,
    last_used: u64,
}

impl Pipeline {
    /// Logs the first frame without an answer for a reason; whoever looks at the log need not know the topic.
    fn say_refusal(&self, frame: &Frame, reason: Reason, message: &str) {
        let mut said = self.refusals_said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.contains(&reason) {
            return;
        }
        said.push(reason);
        log::warn!(
            "pipeline {}: a frame from {} has no prediction ({}): {message}; others like it are counted, and told on {} \
             only",
            self.config.name,
            frame.origin.name,
            reason.as_str(),
            self.error_topic.topic(&frame.origin)
        );
    }
}

/// States by origin, bounded.
pub(super) struct Origins {
    states: HashMap<Arc<str>, OriginState>,
    clock: u64,
    max: usize,
}

impl Origins {
    pub(super) fn new(max: usize) -> Self {
        Self { states: HashMap::new(), clock: 0, max }
    }

    /// The state of the origin called `name`; a new one may push out the one that was silent longest.
    fn of(
        &mut self,
        name: &Arc<str>,
        fresh: impl FnOnce() -> OriginState,
        counters: &PipelineCounters,
    ) -> &mut OriginState {
        self.clock += 1;
        if self.states.len() >= self.max && !self.states.contains_key(name) {
            let silent = self.states.iter().min_by_key(|(_, state)| state.last_used);
            if let Some(silent) = silent.map(|(name, _)| name.clone()) {
                self.states.remove(&silent);
                counters.sources_evicted.bump();
            }
        }
        let state = self.states.entry(name.clone()).or_insert_with(fresh);
        state.last_used = self.clock;
        state
    }
}

/// Why a frame gets no prediction.
#[derive(Debug, thiserror::Error)]
enum WayError {
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Featurize(#[from] FeaturizeError),
    #[error(transparent)]
    Infer(#[from] InferError),
    #[error(transparent)]
    Interpret(#[from] InterpretError),
    /// Outside the model, which catches its own: a bug, and still only one frame's.
    #[error("a panic while answering: {0}")]
    Panicked(String),
}

impl WayError {
    fn reason(&self) -> Reason {
        match self {
            Self::TooLarge(_) => Reason::PayloadTooLarge,
            Self::Decode(error) => error.reason(),
            Self::Featurize(error) => error.reason(),
            Self::Infer(error) => error.reason(),
            Self::Interpret(error) => error.reason(),
            Self::Panicked(_) => Reason::InferPanicked,
        }
    }
}

/// One worker's rooms for one pipeline.
pub struct Way {
    pipeline: Arc<Pipeline>,
    publisher: Publisher,
    writer: Option<VerdictWriter>,
    clock_synced: Arc<AtomicBool>,
    decoder: Decoder,
    featurizer: Featurizer,
    inference: Inference,
    /// For pipelines whose frames share nothing.
    alone: OriginState,
}

impl Way {
    /// Rooms of its own, for one worker thread.
    pub fn new(
        pipeline: Arc<Pipeline>,
        publisher: Publisher,
        writer: Option<VerdictWriter>,
        clock_synced: Arc<AtomicBool>,
    ) -> Self {
        let decoder = Decoder::new(&pipeline.config.decode, &pipeline.card.features)
            .with_packets(&pipeline.card.packets);
        let inference = Inference::new(&pipeline.model, &pipeline.card)
            .expect("boot has held the card against the model");
        let featurizer = pipeline.featurizer.clone();
        let alone = fresh(&pipeline, &inference);
        Self { pipeline, publisher, writer, clock_synced, decoder, featurizer, inference, alone }
    }

    /// Answers one frame: whatever happens, something is published or counted, and the ticket goes
    /// with it.
    pub fn answer(&mut self, arrival: Arrival, clock: &impl Clock) {
        let Arrival { frame, too_large, ticket } = arrival;
        let begun = clock.now();
        let pipeline = self.pipeline.clone();
        let counters = &pipeline.counters;
        if pipeline.config.source.stale_after.is_some_and(|limit| begun.since(frame.taken_at) > limit) {
            counters.lost(Reason::Stale).bump();
            ticket.settle();
            return;
        }
        if frame.carried.expires_at.is_some_and(|at| begun >= at) {
            counters.lost(Reason::Expired).bump();
            ticket.settle();
            return;
        }
        // The frame's own id, as soon as it is known: an error message carries it too.
        let in_topic = || pipeline.id_in_topic(&frame.origin).map(str::to_owned);
        let mut own_id = frame.carried.frame_id.clone().or_else(in_topic);
        let made = match too_large {
            Some(too_large) => Err(too_large.into()),
            None => caught(|| self.answers(&frame, &mut own_id, begun, clock)),
        };
        let (kind, payloads) = match made {
            Ok(payloads) => (Kind::Prediction, payloads),
            Err(error) => {
                counters.lost(error.reason()).bump();
                let bytes = too_large.map_or(frame.payload.len(), |too_large| too_large.payload_bytes());
                let report =
                    caught(|| Ok(vec![self.report(&frame, own_id.as_deref(), &error, bytes, clock)]));
                let none = |panic| {
                    log::error!("a frame's error message cannot be made, please report it: {panic}");
                    Vec::new()
                };
                (Kind::Error, report.unwrap_or_else(none))
            }
        };
        if payloads.is_empty() {
            if kind == Kind::Prediction {
                counters.absorbed.bump();
            }
            ticket.settle();
            return;
        }
        let tickets = ticket.split(payloads.len());
        for (payload, ticket) in payloads.into_iter().zip(tickets) {
            self.publish(&frame, kind, payload, ticket, clock.now());
        }
    }

    /// What is to be published of a frame; nothing of one that was absorbed.
    fn answers(
        &mut self,
        frame: &Frame,
        own_id: &mut Option<String>,
        begun: Micros,
        clock: &impl Clock,
    ) -> Result<Vec<Vec<u8>>, WayError> {
        let predictions = self.predict(frame, own_id, begun, clock)?;
        // Before the outbox, which may wait for the broker: a lamp does not.
        if let Some(writer) = &self.writer {
            let now = clock.now();
            predictions.iter().for_each(|prediction| writer.prediction(now, prediction));
        }
        let pipeline = &self.pipeline;
        let clock_synced = self.clock_synced.load(Ordering::Relaxed);
        let payload = |prediction: &Prediction| {
            pipeline.counters.predictions.bump();
            pipeline.latencies.record(&prediction.latency);
            pipeline.context.prediction_json(prediction, clock_synced)
        };
        Ok(predictions.iter().map(payload).collect())
    }

    /// The message on `…/error`.
    fn report(
        &self,
        frame: &Frame,
        own_id: Option<&str>,
        error: &WayError,
        payload_bytes: usize,
        clock: &impl Clock,
    ) -> Vec<u8> {
        let reason = error.reason();
        let message = in_words(error);
        self.pipeline.say_refusal(frame, reason, &message);
        let id = frame_id(frame, own_id, 0);
        if let Some(writer) = &self.writer {
            writer.error(clock.now(), frame, reason, id, own_id);
        }
        self.pipeline.context.error_json(&Unanswered {
            id,
            origin: &frame.origin,
            frame_id: own_id,
            sequence: frame.carried.sequence,
            acquired_at: frame.acquired_at,
            failed_at: clock.wall(),
            reason,
            message: &message,
            payload_bytes,
            retained: frame.carried.retained,
            redelivered: frame.identity.redelivered,
        })
    }

    fn predict(
        &mut self,
        frame: &Frame,
        own_id: &mut Option<String>,
        begun: Micros,
        clock: &impl Clock,
    ) -> Result<Vec<Prediction>, WayError> {
        let Self { pipeline, decoder, featurizer, inference, alone, .. } = self;
        let decoded = decoder.decode(&frame.payload);
        // An id beside the payload goes before one within, and that before one in the topic.
        if frame.carried.frame_id.is_none() {
            let within = match &decoded {
                Ok(decoded) => decoded.frame_id.clone(),
                Err(_) => decoder.own_id(&frame.payload),
            };
            *own_id = within.or_else(|| own_id.take());
        }
        let decoded = decoded?;
        let decoded_at = clock.now();

        let mut origins;
        let state = if pipeline.is_stateful() {
            origins = pipeline.origins.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || fresh(pipeline, inference);
            origins.of(&pipeline.origin_name(&frame.origin), fresh, &pipeline.counters)
        } else {
            alone
        };
        // Gaps are gaps in the frames' own time, where they carry one. One of them that carries none came at some
        // date as well; the monotonic clock counts from elsewhere.
        let at = match (decoded.time, &pipeline.config.decode.time_field) {
            (Some(time), _) => Micros(time.0),
            (None, Some(_)) => Micros(frame.acquired_at.0),
            (None, None) => frame.taken_at,
        };
        let pushed = featurizer.push(&decoded.content, at, &mut state.features)?;
        if pushed.gap {
            pipeline.counters.gaps.bump();
            state.tensors = inference.fresh_state();
            state.verdicts = pipeline.interpreter.fresh();
        }
        let mut featurized_at = clock.now();
        let featurize_us = featurized_at.since(decoded_at).as_micros() as u64;

        // Kept when the whole frame is answered: else one NaN would stay in a recurrent state for good.
        let mut tensors = None;
        // One row that is refused leaves this as it was by itself.
        let mut verdicts = (pushed.features.len() > 1).then(|| state.verdicts.clone());
        let mut predictions = Vec::with_capacity(pushed.features.len());
        for (nth, features) in pushed.features.iter().enumerate() {
            let (scores, after) = inference.run(features, tensors.as_ref().unwrap_or(&state.tensors))?;
            let inferred_at = clock.now();
            let verdicts = verdicts.as_mut().unwrap_or(&mut state.verdicts);
            let (verdict, scored) = pipeline.interpreter.interpret(&scores, features, verdicts)?;
            tensors = Some(after);
            predictions.push(Prediction {
                id: frame_id(frame, own_id.as_deref(), nth),
                origin: frame.origin.clone(),
                frame_id: own_id.clone(),
                sequence: frame.carried.sequence,
                acquired_at: decoded.time.unwrap_or(frame.acquired_at),
                inferred_at: clock.wall(),
                taken_at: frame.taken_at,
                latency: Latency {
                    queue_us: begun.since(frame.taken_at).as_micros() as u64,
                    decode_us: decoded_at.since(begun).as_micros() as u64,
                    featurize_us,
                    infer_us: inferred_at.since(featurized_at).as_micros() as u64,
                    total_us: clock.now().since(frame.taken_at).as_micros() as u64,
                },
                verdict,
                scored,
                retained: frame.carried.retained,
                redelivered: frame.identity.redelivered,
            });
            featurized_at = clock.now();
        }
        if let Some(tensors) = tensors {
            state.tensors = tensors;
        }
        if let Some(verdicts) = verdicts {
            state.verdicts = verdicts;
        }
        Ok(predictions)
    }

    /// Queues a message, and a copy for the topic that the frame's sender asked for.
    fn publish(&self, frame: &Frame, kind: Kind, payload: Vec<u8>, ticket: Ticket, now: Micros) {
        let publish = &self.pipeline.config.publish;
        let topic = match kind {
            Kind::Error => &self.pipeline.error_topic,
            Kind::Prediction | Kind::Reply => &self.pipeline.topic,
        };
        // A retained error would greet every later subscriber long after it was mended.
        let retain = publish.retain && kind == Kind::Prediction;
        let ours = (Arc::from(topic.topic(&frame.origin)), kind, retain);
        let asked_for = frame.carried.reply_topic.clone().map(|topic| (topic, Kind::Reply, false));
        let messages: Vec<(Arc<str>, Kind, bool)> = [Some(ours), asked_for].into_iter().flatten().collect();
        let payload = Bytes::from(payload);
        let tickets = ticket.split(messages.len());
        for ((topic, kind, retain), ticket) in messages.into_iter().zip(tickets) {
            self.publisher.publish(Entry {
                pipeline: self.pipeline.index,
                topic,
                payload: payload.clone(),
                qos: publish.qos,
                retain,
                kind,
                identity: frame.identity,
                back: frame.carried.back.clone(),
                ticket,
                queued_at: now,
            });
        }
    }
}

/// A panic in it is a bug, and costs one frame.
fn caught<T>(act: impl FnOnce() -> Result<T, WayError>) -> Result<T, WayError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(WayError::Panicked(panic_words(&*panic))))
}

fn fresh(pipeline: &Pipeline, inference: &Inference) -> OriginState {
    OriginState {
        features: pipeline.featurizer.fresh(),
        tensors: inference.fresh_state(),
        verdicts: pipeline.interpreter.fresh(),
        last_used: 0,
    }
}

/// The same for the same frame: from its own id where it carries one, else from its delivery.
/// `nth` counts the predictions of one frame.
fn frame_id(frame: &Frame, own: Option<&str>, nth: usize) -> FrameId {
    let mut hash = Xxh3::new();
    hash.update(frame.origin.name.as_bytes());
    match own {
        Some(id) => {
            hash.update(b"\0own\0");
            hash.update(id.as_bytes());
        }
        None => {
            hash.update(b"\0delivery\0");
            hash.update(&frame.identity.delivery.to_le_bytes());
        }
    }
    hash.update(&(nth as u64).to_le_bytes());
    FrameId(hash.digest128())
}
