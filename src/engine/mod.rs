//! The engine: the only place that names tract.
//!
//! ```text
//! folder ─► load (verified ─► parsed ─► typed ─► optimised) ─► Model ─► Session, one a worker
//!                      │                                          │
//!                   refused                                     golden
//! ```
//!
//! Promise: a model whose answers are known to be wrong is refused and never run; one frame that
//! breaks the engine costs that frame. Concrete shapes, always optimised, no file beside the model's.
//! Not here: what fills an input (`stage::infer`) or what an output means (`stage::interpret`).
//!
//! | file | answers |
//! |---|---|
//! | `load` | how a file becomes a model |
//! | `onnx`, `nnef` | what stands in the file |
//! | `prepared/` | a graph saved decluttered, ready in a fraction of the time |
//! | `plain` | what may be written in several ways, in one |
//! | `dense` | sparse constants, written out |
//! | `functions/` | functions that a model brings along, written out where they are called |
//! | `untrusted/` | whether bytes are what they claim, before anything trusts them |
//! | `refused`, `rehearsed` | which graphs would be answered wrongly, or not at all |
//! | `operators/`, `passes/`, `whole_sums` | what we add to tract, and rewrite around it |
//! | `model`, `session` | what is shared and what a worker owns |
//! | `compile/`, `oracle/` | a model folder from an ONNX file; the standard's own arithmetic |
//! | `golden`, `npy` | whether the answers are right, and the files that say so |
//! | `page`, `folder` | what a person wants to know; a file or a folder, as given |

mod caught;
pub mod compile;
mod convert;
mod dense;
mod digest;
mod error;
pub mod folder;
mod functions;
pub mod golden;
pub mod kernels;
mod load;
mod model;
mod nnef;
pub mod npy;
mod onnx;
mod operators;
mod oracle;
mod page;
mod passes;
mod plain;
mod port;
pub mod prepared;
mod range;
mod refused;
mod rehearsed;
#[cfg(test)]
pub(crate) mod sample;
mod session;
#[cfg(test)]
pub(crate) mod shared_models;
mod untrusted;
mod whole_sums;

/// The version of tract that is built in; files in its own form are bound to it.
pub const TRACT_VERSION: &str = "0.23.9";

pub use error::{EngineError, InferError, ModelError, Step};
pub use load::{MAX_FILE_BYTES, Parsed, Verified};
pub use model::{Memory, Model};
pub use page::{OperatorCount, Page};
pub use port::{Dim, Port};
pub use session::Session;
