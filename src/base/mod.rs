//! What every layer may name: the words of the design as types.
//!
//! Promise: `no_std`, most of it with `alloc`, no I/O, no clock of its own. Bytes and time come in as
//! arguments, so that whatever is built on these types can be replayed in a test.
//! Not here: anything that decides (stages) or waits (flow).

pub mod clock;
#[cfg(feature = "alloc")]
pub mod content;
#[cfg(feature = "alloc")]
pub mod counters;
#[cfg(feature = "alloc")]
pub mod frame;
#[cfg(feature = "alloc")]
pub mod paint;
#[cfg(feature = "alloc")]
pub mod prediction;
pub mod reason;
#[cfg(feature = "alloc")]
pub mod tensor;
pub mod wire;
#[cfg(feature = "alloc")]
pub mod words;

#[cfg(feature = "daemon")]
pub use clock::SystemClock;
pub use clock::{Clock, Micros, UnixMicros};
#[cfg(feature = "alloc")]
pub use content::{Content, Features, Image, Rows};
#[cfg(feature = "alloc")]
pub use frame::{Back, Carried, Frame, FrameId, Identity, Origin};
#[cfg(feature = "alloc")]
pub use paint::Paint;
#[cfg(feature = "alloc")]
pub use prediction::{Latency, Prediction, Scored, Verdict};
pub use reason::{Reason, Stage};
#[cfg(feature = "alloc")]
pub use tensor::{Data, DataType, Tensor};
