//! What every layer may name: the words of the design as types.
//!
//! Promise: `no_std` with `alloc`, no I/O, no clock of its own. Bytes and time come in as
//! arguments, so that whatever is built on these types can be replayed in a test.
//! Not here: anything that decides (stages) or waits (flow).

pub mod clock;
pub mod content;
pub mod counters;
pub mod frame;
pub mod prediction;
pub mod reason;
pub mod tensor;
pub mod words;

#[cfg(feature = "daemon")]
pub use clock::SystemClock;
pub use clock::{Clock, Micros, UnixMicros};
pub use content::{Content, Features, Image, Rows};
pub use frame::{Frame, FrameId, Identity, Origin};
pub use prediction::{Latency, Prediction, Scored, Verdict};
pub use reason::{Reason, Stage};
pub use tensor::{Data, DataType, Tensor};
