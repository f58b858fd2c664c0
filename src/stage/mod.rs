//! The way of a frame; the rooms in flow order, which is alphabetical order.
//!
//! Siblings never name each other: what passes between them is in [`crate::base`].

#[cfg(feature = "daemon")]
pub mod acquire;
#[cfg(feature = "daemon")]
pub mod decode;
#[cfg(feature = "daemon")]
pub mod featurize;
#[cfg(feature = "daemon")]
pub mod infer;
#[cfg(feature = "daemon")]
pub mod interpret;
#[cfg(feature = "daemon")]
pub mod publish;

/// What a microcontroller shares of the room: the codec.
#[cfg(not(feature = "daemon"))]
pub mod decode {
    pub mod framing;
}
