//! Temporary.
/// Temporary.
pub fn mark_resent(_: &mut Vec<u8>) {}
