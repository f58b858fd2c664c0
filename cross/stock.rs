//! Models loaded as tract's own guide does it, from ONNX to runnable, and nothing else: what the time to
//! ready is held against (`cross/measure --against`). Not a part of Lineside.

use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    for path in std::env::args().skip(1) {
        onnx().model_for_path(&path)?.into_optimized()?.into_runnable()?;
    }
    Ok(())
}
