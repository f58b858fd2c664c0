//! The way of a frame; the rooms in flow order, which is alphabetical order.
//!
//! Siblings never name each other: what passes between them is in [`crate::base`].

pub mod acquire;
pub mod decode;
pub mod featurize;
pub mod infer;
pub mod interpret;
pub mod publish;
