//! demo.
pub mod render;
