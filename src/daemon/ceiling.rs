//! The most memory that a daemon of this configuration takes, part by part.
//!
//! Promise: every part is bounded by a key of the configuration or a property of a model, so the sum does
//! not depend on how many frames come, how fast, or how long the broker is away. It is an upper bound for
//! the worst moment (every queue full, every worker with the largest payload), not what a daemon usually
//! takes; a test floods one and holds it to this.

use std::collections::BTreeMap;
use std::fmt;

use super::boot::Verified;
use crate::config::{Card, Config, Format, Protocol, card};
use crate::mqtt::wire::LONGEST_PROPERTIES;
use crate::outbox::keeper;

/// The program itself, its threads, its connections and its metrics; measured, twice over.
const PROGRAM_BYTES: u64 = 48 << 20;
/// Read buffers and encoded packets of the two connections, beside the largest payload.
const CONNECTION_BYTES: u64 = 1 << 20;
/// Topic, levels and book-keeping of a frame that waits.
const FRAME_BYTES: u64 = 1 << 10;
/// Properties (MQTT 5) as text in memory: a pair of one byte each takes seven on the wire.
const PROPERTIES_TIMES: u64 = 16;
/// JSON and CSV as decoded values: eight bytes for what may be two characters, and their fields' names.
const DECODED_PER_BYTE: u64 = 8;
/// Decoded picture, its copy with other channels, and the one that is resized.
const BYTES_PER_PIXEL: u64 = 3 * 4;
/// A graph is held as read, as optimised and as packed while it is loaded; allocators keep some of it.
const LOADED_TIMES: u64 = 4;
/// Kernels' scratch, which no estimate sees, is about as large as what they work on.
const SCRATCH_TIMES: u64 = 2;

/// What takes memory, and how much at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Name and bytes of each part.
    pub parts: Vec<(&'static str, u64)>,
    /// Models whose shapes depend on values: what their sessions take is not in it.
    pub unknown: Vec<String>,
}

impl Ceiling {
    /// Of this configuration with these models.
    pub fn of(config: &Config, models: &BTreeMap<&str, &Verified>) -> Self {
        let workers = config.runtime.workers.get() as u64;
        let beside = match config.broker.protocol {
            Protocol::V3_1_1 => 0,
            Protocol::V5 => LONGEST_PROPERTIES as u64 * PROPERTIES_TIMES,
        };
        let (mut queues, mut payloads, mut decoded, mut origins) = (0, 0, 0, 0);
        let mut largest = 0;
        for pipeline in &config.pipelines {
            let source = &pipeline.source;
            let payload = source.max_payload_bytes.get() as u64;
            let held = payload + beside;
            let frames = source.queue_frames.get() as u64;
            // One frame over the limit passes alone, and one waits outside a full queue.
            let full = (source.queue_bytes.get() as u64).min(frames * held) + held;
            queues += full + frames * FRAME_BYTES;
            largest = largest.max(payload);
            let unpacked = match pipeline.decode.format {
                Format::Image => {
                    pipeline.decode.max_pixels.min(payload * MOST_PIXELS_PER_BYTE) * BYTES_PER_PIXEL
                }
                _ => payload * DECODED_PER_BYTE,
            };
            payloads += held;
            decoded = decoded.max(unpacked);
            if let Some(verified) = models.get(pipeline.model.as_str()) {
                origins += source.max_sources.get() as u64 * origin_bytes(&verified.card);
            }
        }
        let (mut weights, mut sessions, mut unknown) = (0, 0, Vec::new());
        for (name, verified) in models {
            match verified.model.memory() {
                Some(memory) => {
                    weights += memory.weights_bytes * LOADED_TIMES;
                    sessions += memory.intermediates_bytes * SCRATCH_TIMES * workers;
                }
                None => unknown.push((*name).to_owned()),
            }
        }
        let segment = keeper::segment_bytes(config.outbox.max_bytes.get()).max(keeper::GROUP_BYTES);
        let unpacked = if beside > 0 { segment * PROPERTIES_TIMES } else { 0 };
        Self {
            parts: vec![
                ("program", PROGRAM_BYTES),
                ("models", weights),
                ("sessions", sessions),
                ("queues", queues),
                ("connections", 2 * (CONNECTION_BYTES + largest + beside)),
                ("workers", workers * ((largest + beside).min(payloads) + decoded)),
                ("windows and states", origins),
                // In memory, a group on its way to disk, and two segments on their way back.
                ("outbox", config.outbox.memory_bytes.get() + 4 * segment + unpacked),
            ],
            unknown,
        }
    }

    /// What it takes to work at all, with every queue empty.
    pub fn needed_bytes(&self) -> u64 {
        let always = |name: &str| ["program", "models", "sessions"].contains(&name);
        self.parts.iter().filter(|(name, _)| always(name)).map(|(_, bytes)| bytes).sum()
    }

    /// All parts together.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// A picture of one colour is packed this tightly at most: beyond it a decoder gives up first.
const MOST_PIXELS_PER_BYTE: u64 = 1024;

/// Windows and states of one origin.
fn origin_bytes(card: &Card) -> u64 {
    let window = match &card.features {
        card::Features::Window(window) => {
            (window.samples * window.channels.len()) as u64 * size_of::<f64>() as u64
        }
        _ => 0,
    };
    // A state is as large as the model's state inputs; 64 KiB are far beyond those of a gated unit.
    FRAME_BYTES + window + card.states.len() as u64 * (64 << 10)
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(f, "at most {} MiB:", mib(self.bytes()))?;
        for (i, (name, bytes)) in self.parts.iter().filter(|(_, bytes)| *bytes > 0).enumerate() {
            write!(f, "{}{name} {}", if i == 0 { " " } else { ", " }, mib(*bytes))?;
        }
        for name in &self.unknown {
            write!(f, "; {name} not counted: its shapes depend on values")?;
        }
        Ok(())
    }
}
