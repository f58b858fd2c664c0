//! A frame: what a source gave, with the time it came and an id that stays.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

use super::{Micros, UnixMicros};

/// What a source gave, not yet looked at.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The payload as it came.
    pub payload: Bytes,
    /// Where it came from.
    pub origin: Origin,
    /// What makes it this frame and no other, as far as the transport can tell.
    pub identity: Identity,
    /// Wall-clock time at which its last byte was taken.
    pub acquired_at: UnixMicros,
    /// The same moment on the monotonic clock; ages and latencies start here.
    pub taken_at: Micros,
    /// What came along beside the payload.
    pub carried: Carried,
}

/// What comes along with a frame beside its payload; nothing where the transport carries nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The broker had kept it for later subscribers: it may be old.
    pub retained: bool,
    /// Of no use from then on.
    pub expires_at: Option<Micros>,
    /// Where its sender wants the answer, beside the pipeline's own topic.
    pub reply_topic: Option<Arc<str>>,
    /// An id of its own, which the payload need not repeat.
    pub frame_id: Option<String>,
    /// Its number in its sender's count, which wraps and so is no id.
    pub sequence: Option<u16>,
    /// What its answers carry in turn.
    pub back: Option<Arc<Back>>,
}

impl Carried {
    /// Bytes that it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        let back = self.back.as_ref().map_or(0, |back| back.bytes());
        let frame_id = self.frame_id.as_ref().map_or(0, String::len);
        back + frame_id + self.reply_topic.as_ref().map_or(0, |topic| topic.len())
    }
}

/// What an answer carries back to whoever sent the frame (MQTT 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Back {
    /// By which the sender knows the answer.
    pub correlation: Option<Bytes>,
    /// Keys and values of the sender's own, in order; keys may repeat.
    pub user: Vec<(String, String)>,
}

/// A short string: itself, and the least that an allocator gives for its text.
const STRING_BYTES: usize = size_of::<String>() + 32;

impl Back {
    /// Bytes that it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        let pair = |(key, value): &(String, String)| key.len() + value.len() + 2 * STRING_BYTES;
        self.correlation.as_ref().map_or(0, Bytes::len) + self.user.iter().map(pair).sum::<usize>()
    }
}

/// Where a frame came from. Frames with an equal origin share windows and recurrent state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The concrete MQTT topic, or the port's path.
    pub name: Arc<str>,
    /// Named topic levels with their values, `("camera", "left")`, in topic order. Shared: each frame of a
    /// port has the same, and each prediction those of its frame.
    pub levels: Arc<[(Arc<str>, String)]>,
}

impl Origin {
    /// An origin without named levels.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), levels: Arc::default() }
    }

    /// The value of a named level.
    pub fn level(&self, name: &str) -> Option<&str> {
        self.levels.iter().find(|(key, _)| &**key == name).map(|(_, value)| value.as_str())
    }
}

/// What the transport knows of a frame's identity. A frame that carries an id of its own
/// (`id_field`) is known by that instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Tells apart frames with equal bytes; equal when the transport delivers one frame again.
    pub delivery: u64,
    /// The transport says that it may have delivered this frame before.
    pub redelivered: bool,
    /// What finds the frame among the recent ones when it is delivered again; 0: it comes once.
    pub key: u128,
}

/// 128 bits that name a frame's prediction; equal when the same frame is answered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameId(pub u128);

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
