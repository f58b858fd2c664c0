//! Which of its kernels the engine takes, where a board says so.
//!
//! The engine goes by the processor's part number and knows few of them. Not here: what is best on which
//! board (`boards/`, and only where it was measured).

use crate::config::board::Kernels;

/// The engine's name for the choice on 64-bit ARM; elsewhere it means nothing.
const KNOB: &str = "TRACT_CPU_AARCH64_KIND";

/// To be called before the first model is loaded: the choice is made once. The environment variable of
/// that name still holds against it.
pub fn prefer(kernels: Kernels) {
    if let Err(error) = tract_core::knobs::set_config_global(KNOB, kernels.as_str()) {
        log::warn!("kernels = {:?} of the board is not heeded: {error}", kernels.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_still_has_this_choice() {
        assert!(tract_core::knobs::all().iter().any(|knob| knob.name == KNOB), "tract renamed {KNOB}");
    }
}
