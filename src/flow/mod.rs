//! How work moves between threads: bounded lanes with a choice for when they are full, tickets that
//! tell a source what became of its frame, waits between attempts, and stopping in order.
//!
//! Promise: every queue is bounded in items and bytes; what does not fit is handed back to the
//! caller, who counts it. Not here: what the items are; no stage is known.

pub mod backoff;
pub mod fail;
pub mod lanes;
pub mod threads;
pub mod ticket;
pub mod writes;

pub use backoff::Backoff;
pub use lanes::{LaneLimits, Lanes, Pushed};
pub use threads::Threads;
pub use ticket::{Receipt, Settlement, Ticket};
pub use writes::{PortWrite, What, Writes};
