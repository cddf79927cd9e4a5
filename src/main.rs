//! The program: flags, one call into the library, an exit code.

use std::process::ExitCode;

use clap::Parser;
use contacts_gateway::cli::Cli;

fn main() -> ExitCode {
    // Wrong flags end the process here, with 2.
    Cli::parse().run()
}
