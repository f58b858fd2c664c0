//! Boot: cards and models read, held against each other and verified, before the first frame.
//!
//! Promise: a daemon that starts has run every golden case of every model on this device's own
//! kernels. Models load side by side; all complaints of all pipelines come at once.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use super::way::{Origins, Pipeline};
use crate::config::card::VerifiedBy;
use crate::config::{self, Card, Complaints, Config};
use crate::engine::{self, Model, ModelError};
use crate::mqtt::Template;
use crate::observe::latency::Latencies;
use crate::outbox::PlaceError;
use crate::stage::publish::payload::{OriginKind, PayloadContext};
use crate::stage::{decode, featurize, infer, interpret};

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Cards, models and pipelines that cannot be used; every one of them, a line each.
    #[error("{}", .0.join("\n"))]
    Setup(Vec<String>),
    /// The outbox's folder belongs to somebody else, or is none.
    #[error(transparent)]
    Outbox(#[from] PlaceError),
    /// The HTTP port cannot be had.
    #[error("cannot listen on {address} ([http] listen)")]
    Http {
        /// From the config.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The board's watchdog cannot be armed.
    #[error("cannot arm the watchdog {} ([device] hardware_watchdog); only one program can hold it", device.display())]
    Watchdog {
        /// Of the board.
        device: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A model with its card, loaded and verified.
pub struct Verified {
    /// The card.
    pub card: Card,
    /// The model.
    pub model: Model,
    /// What its golden cases came to.
    pub golden: engine::golden::Report,
    /// Reading, optimising and verifying, in milliseconds.
    pub ready_ms: u128,
}

impl Verified {
    /// What holds nobody up and somebody should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.card.draft {
            warnings.push(
                "its card is a draft of `lineside compile`; look at each CONFIRM in it, then remove `draft`"
                    .to_owned(),
            );
        }
        if let Some(why) = self.model.unprepared() {
            warnings.push(format!(
                "its prepared graph is not used, so that it is ready later: {why}; make it anew with `lineside \
                 prepare` where models are made"
            ));
        }
        if self.golden.cases.is_empty() {
            let by = match self.card.golden.verified {
                Some(VerifiedBy::Itself) => "; only the engine itself has looked at them",
                _ => "",
            };
            warnings.push(format!("it has no golden cases: its answers on this device are unverified{by}"));
        }
        warnings
    }
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The card is wrong.
    #[error(transparent)]
    Card(#[from] Complaints),
    /// The graph, or its golden cases.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Card and graph contradict each other.
    #[error(transparent)]
    Mismatch(#[from] infer::CardMismatch),
}

/// Loads the model behind `card`, holds the card against it, and runs its golden cases.
pub fn verify(card: Card) -> Result<Verified, VerifyError> {
    let begun = Instant::now();
    let model = Model::load(&card)?;
    infer::Inference::new(&model, &card)?;
    let golden = engine::golden::check(&model, &card)?;
    Ok(Verified { card, model, golden, ready_ms: begun.elapsed().as_millis() })
}

/// Runs the golden cases of a card's other batch sizes. Frames do not need these graphs; `infer` does.
pub fn verify_batches(card: &Card) -> Result<(), ModelError> {
    for size in card.sizes().iter().skip(1) {
        engine::golden::check(&Model::load(size)?, size)?;
    }
    Ok(())
}

/// Every model that a config names, verified side by side; by model name.
pub fn models(config: &Config) -> BTreeMap<String, Result<Verified, VerifyError>> {
    let names: Vec<&String> = {
        let mut names: Vec<_> = config.pipelines.iter().map(|pipeline| &pipeline.model).collect();
        names.sort();
        names.dedup();
        names
    };
    // As many at once as there are cores: each is one thread's work.
    let next = Mutex::new(names.into_iter());
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(name) = take(&next) {
                    let verified =
                        Card::read(&config.models.join(name)).map_err(VerifyError::from).and_then(verify);
                    done.lock().expect("no thread panics while it holds this").insert(name.clone(), verified);
                }
            });
        }
    });
    done.into_inner().expect("no thread panics while it holds this")
}

fn take<T>(items: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    items.lock().expect("no thread panics while it holds this").next()
}

/// Every pipeline of a config, ready for its first frame.
pub fn pipelines(config: &Config) -> Result<Vec<Arc<Pipeline>>, BootError> {
    let models = models(config);
    let mut wrong: Vec<String> = Vec::new();
    for (name, verified) in &models {
        match verified {
            Err(error) => wrong.push(format!("model {name}: {}", crate::base::words::in_words(error))),
            Ok(verified) => {
                for warning in verified.warnings() {
                    log::warn!("model {name}: {warning}");
                }
                let (ready_ms, cases) = (verified.ready_ms, verified.golden.cases.len());
                if cases > 0 {
                    log::info!("model {name}: ready in {ready_ms} ms, {cases} golden case(s) hold");
                }
            }
        }
    }
    let mut pipelines = Vec::new();
    for (index, pipeline) in config.pipelines.iter().enumerate() {
        let Some(Ok(verified)) = models.get(&pipeline.model) else { continue };
        match self::pipeline(config, index, verified) {
            Ok(built) => pipelines.push(Arc::new(built)),
            Err(words) => {
                wrong.push(format!("pipeline {} with model {}: {words}", pipeline.name, pipeline.model));
            }
        }
    }
    if wrong.is_empty() { Ok(pipelines) } else { Err(BootError::Setup(wrong)) }
}

/// Joins the `index`-th pipeline's config with its model; what contradicts is said in words.
pub fn pipeline(config: &Config, index: usize, verified: &Verified) -> Result<Pipeline, String> {
    let pipeline = &config.pipelines[index];
    let Verified { card, model, .. } = verified;
    decode::compatible(&pipeline.decode, &card.features)?;
    let input = card.features.port(&card.graph.inputs);
    let input = input
        .ok_or_else(|| format!("model {} has no input {}", card.name, card.features.inputs().join(", ")))?;
    let featurizer = featurize::Featurizer::new(&card.features, &input).map_err(|error| error.to_string())?;
    let interpreter =
        interpret::Interpreter::new(&card.output, &card.features, pipeline.threshold, pipeline.uncertain)
            .map_err(|error| error.to_string())?;
    let scores = model.outputs().iter().find(|output| output.name == card.output.tensor);
    if let Some(output) = scores.and_then(engine::Port::concrete) {
        interpreter.fits(&output)?;
    }
    let device = &config.device.id;
    let origin_kind = match pipeline.source.kind {
        config::SourceKind::Mqtt { .. } => OriginKind::Topic,
        config::SourceKind::Serial(_) => OriginKind::Port,
    };
    Ok(Pipeline {
        index,
        config: pipeline.clone(),
        card: card.clone(),
        counters: Arc::default(),
        latencies: Latencies::new(),
        model: model.clone(),
        featurizer,
        interpreter,
        context: PayloadContext::new(device, &pipeline.name, &card.name, &card.version, origin_kind),
        topic: Template::parse(&pipeline.publish.topic, device, &pipeline.name),
        error_topic: Template::parse(&pipeline.publish.error_topic, device, &pipeline.name),
        origins: Mutex::new(Origins::new(pipeline.source.max_sources.get())),
        overload_said: Mutex::default(),
        refusals_said: Mutex::default(),
    })
}
