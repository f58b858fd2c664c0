//! A prediction: the verdict that is published, with what it rests on.

use alloc::string::String;
use alloc::vec::Vec;

use super::{FrameId, Micros, Origin, UnixMicros};

/// What a machine may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// In order.
    Pass,
    /// Not in order.
    Fail,
    /// Inside the card's uncertain band: let a person look.
    Uncertain,
    /// The card asks for no verdict (a plain regression, say).
    None,
}

impl Verdict {
    /// Name in the published JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Uncertain => "uncertain",
            Self::None => "none",
        }
    }
}

/// What interpretation made of the scores.
#[derive(Clone, Debug, PartialEq)]
pub enum Scored {
    /// One label out of several; scores in the card's label order.
    Class {
        /// The winning label.
        label: String,
        /// Its score.
        score: f32,
        /// Every label with its score.
        scores: Vec<(String, f32)>,
    },
    /// Any number of labels at once.
    Labels {
        /// Labels at or over their threshold, best first.
        labels: Vec<String>,
        /// Every label with its score.
        scores: Vec<(String, f32)>,
    },
    /// Named quantities.
    Values {
        /// Name, value and unit of each target.
        values: Vec<(String, f64, String)>,
    },
    /// How unusual the frame is; higher is stranger.
    Anomaly {
        /// The score that is compared with the threshold.
        anomaly_score: f32,
        /// What the model expected, where the score is an error.
        expected: Vec<(String, f64)>,
    },
}

/// Microseconds spent in each part of the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// From the frame's last byte to a worker taking it.
    pub queue_us: u64,
    /// Payload to values or pixels.
    pub decode_us: u64,
    /// Values or pixels to a filled model input.
    pub featurize_us: u64,
    /// The model itself.
    pub infer_us: u64,
    /// From the frame's last byte to the prediction being handed to the outbox.
    pub total_us: u64,
}

/// A verdict on a frame, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Equal when the same frame is answered again.
    pub id: FrameId,
    /// Where the frame came from.
    pub origin: Origin,
    /// The id that the frame itself carried.
    pub frame_id: Option<String>,
    /// The frame's number in its sender's count.
    pub sequence: Option<u16>,
    /// When the frame came, or the time that it carried itself (`time_field`).
    pub acquired_at: UnixMicros,
    /// When inference ended.
    pub inferred_at: UnixMicros,
    /// Monotonic time at which the frame came.
    pub taken_at: Micros,
    /// Time spent.
    pub latency: Latency,
    /// What to do with the part.
    pub verdict: Verdict,
    /// What it rests on.
    pub scored: Scored,
    /// The broker had kept the frame for later subscribers.
    pub retained: bool,
    /// The transport delivered this frame before: a first answer may be under way already.
    pub redelivered: bool,
}
