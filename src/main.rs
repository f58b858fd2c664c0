//! The binary: arguments in, library, exit code out.

#[cfg(checks_processor)]
mod entry;

use std::process::ExitCode;

/// musl's own maps and unmaps at each inference.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lineside::cli::main()
}
