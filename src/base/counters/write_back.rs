//! What became of verdicts on their way to a port.

/// Why a verdict was not written to a port. None of these touches the prediction's way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteLoss {
    /// The port was away, or nobody confirmed it, until it was too late to act on.
    Expired,
    /// Newer ones came before the port had time for it.
    Overtaken,
    /// The unit answered with an exception, or no frame of the port's codec carries the text.
    Refused,
    /// The frame was delivered a second time: it may have been acted on already.
    Redelivered,
}

impl WriteLoss {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Expired, Self::Overtaken, Self::Refused, Self::Redelivered];

    /// The `reason` label of metrics, and the key in `stats`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Overtaken => "overtaken",
            Self::Refused => "refused",
            Self::Redelivered => "redelivered",
        }
    }
}
