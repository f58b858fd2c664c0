//! Listening on a wire: what comes, cut into frames and told; what it could be; and keeping it.
//!
//! Promise: pure. Bytes and times come in as arguments, memory is bounded whatever comes, and frames are
//! cut by the very codec of the daemon.
//! Not here: ports, terminals and signals (`cli::listen`).
//!
//! - [`ear`]: bytes to frames, each with the bytes that it stood in; [`adu`]: the same for Modbus
//! - [`show`]: a frame as a line for people, and as an object for machines
//! - [`guess`]: which rate, framing and checksum fit what came
//! - [`recording`]: bytes with their times, in a file

pub mod adu;
pub mod ear;
pub mod guess;
pub mod recording;
pub mod show;
