//! The `weir` binary: hands its arguments to the library and exits with its code.

use std::process::ExitCode;

/// Small allocations of many threads are what a proxy does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
