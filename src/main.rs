//! The program: flags, one call into the library, an exit code.

use std::process::ExitCode;

use clap::Parser;
use contacts_gateway::cli::Cli;
use tikv_jemallocator::Jemalloc;

/// With glibc's a miss takes an eighth more time, and with mimalloc, as quick as this, more memory than `cache.max_bytes` stands for.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Wrong flags end the process here, with 2.
    Cli::parse().run()
}
