//! The binary: arguments in, library, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    lineside::cli::main()
}
