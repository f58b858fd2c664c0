//! Why a frame got no prediction: one closed list, shared by messages, logs, metrics and docs.
//!
//! Stages keep richer errors of their own; each maps to exactly one [`Reason`]. Every reason is
//! counted, so a loss can never be silent.

/// The room in which a frame's way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after the stage")]
pub enum Stage {
    Acquire,
    Decode,
    Featurize,
    Infer,
    Interpret,
    Publish,
}

impl Stage {
    /// Name in messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Decode => "decode",
            Self::Featurize => "featurize",
            Self::Infer => "infer",
            Self::Interpret => "interpret",
            Self::Publish => "publish",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal in $stage:ident,)*) => {
        /// Why a frame got no prediction.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the frame's way.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// Code in `…/error` messages, logs and the `reason` label of metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The stage in which it happens.
            pub const fn stage(self) -> Stage {
                match self { $(Reason::$name => Stage::$stage,)* }
            }
        }
    };
}

reasons! {
    /// The payload is larger than `max_payload_bytes`; it was skipped, not held.
    PayloadTooLarge = "payload_too_large" in Acquire,
    /// The frame queue was full and `when_full` let the oldest go.
    QueueDropOldest = "queue_drop_oldest" in Acquire,
    /// The frame queue was full and `when_full` refused the newest.
    QueueDropNewest = "queue_drop_newest" in Acquire,
    /// The frame waited longer than `stale_after_ms`.
    Stale = "stale" in Acquire,
    /// The frame's own expiry (MQTT 5) passed before its turn came.
    Expired = "expired" in Acquire,
    /// The daemon stopped before the frame's turn came; a QoS 1 broker delivers it again.
    Stopped = "stopped" in Acquire,
    /// No bytes at all.
    EmptyPayload = "empty_payload" in Decode,
    /// The bytes are not what `format` says: truncated picture, broken JSON, torn CSV.
    Malformed = "malformed" in Decode,
    /// A picture of more pixels than `max_pixels`, refused before it is unpacked.
    ImageTooLarge = "image_too_large" in Decode,
    /// The picture's channels do not fit the card.
    WrongChannels = "wrong_channels" in Decode,
    /// Another number of values than the card's columns.
    WrongLength = "wrong_length" in Decode,
    /// A field that neither the card nor the config knows.
    UnknownFeature = "unknown_feature" in Decode,
    /// A packet whose schema id the model's card does not name.
    UnknownSchema = "unknown_schema" in Decode,
    /// A feature is missing, null or blank and the card has no imputation for it.
    MissingFeature = "missing_feature" in Featurize,
    /// A value is NaN or infinite where the card wants a number.
    NotFinite = "not_finite" in Featurize,
    /// The engine returned an error for this frame.
    InferFailed = "infer_failed" in Infer,
    /// An operator panicked on this frame; the session was spawned anew.
    InferPanicked = "infer_panicked" in Infer,
    /// The scores are no basis for a verdict: NaN, or not the shape that the card describes.
    BadScores = "bad_scores" in Interpret,
    /// The prediction makes a larger packet than the broker takes (MQTT 5), or has a longer topic than MQTT knows.
    PredictionTooLarge = "prediction_too_large" in Publish,
    /// The broker refuses to take it, for a reason that does not pass (MQTT 5).
    BrokerRefused = "broker_refused" in Publish,
    /// The outbox was full and `when_full` let its oldest entry go.
    OutboxDropOldest = "outbox_drop_oldest" in Publish,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_reasons_stand_in_flow_order() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert_eq!(*a as usize, i);
            for b in &Reason::ALL[i + 1..] {
                assert_ne!(a.as_str(), b.as_str());
                assert!(a.stage() as u8 <= b.stage() as u8);
            }
        }
    }
}
