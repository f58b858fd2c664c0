//! acquire.
