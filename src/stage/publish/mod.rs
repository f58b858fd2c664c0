//! publish.

pub mod payload;
