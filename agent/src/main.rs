//! `nave-agent`: parses, sets up, hands over.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use nave_agent::commands::{PullArgs, StoreArgs, VerifyArgs};

/// The spoke of Nave: pulls weights, verifies them, keeps them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Pull(PullArgs),
    Store(StoreArgs),
    Verify(VerifyArgs),
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("a TLS provider is installed already");
    }
    match verb {
        Verb::Pull(args) => match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime.block_on(args.run()),
            Err(error) => fail(&format!("cannot start: {error}")),
        },
        Verb::Store(args) => args.run(),
        Verb::Verify(args) => args.run(),
    }
}

fn fail(message: &str) -> ExitCode {
    match writeln!(io::stderr(), "error: {message}") {
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}
