//! `nave-agent`: parses, sets up TLS, and hands over.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use nave_agent::{
    app::App,
    args::{Cli, Command, RunArgs},
};
use nave_runtime::{drain, telemetry};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("a TLS provider is installed already");
    }
    match cli.command {
        Command::Run(args) => match run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{error:#}")),
        },
        Command::Pull(args) => block_on(args.run()),
        Command::Import(args) => block_on(args.run()),
        Command::Store(args) => args.run(),
        Command::Verify(args) => args.run(),
    }
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&format!("cannot start: {error}")),
    }
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    telemetry::init(args.log_format)?;
    let config = args.config()?;
    // Two workers: the agent waits for disks and links, and shares a small machine with a model runtime.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let drain = drain::Drain::new();
        drain::signal(&drain).context("cannot listen to signals")?;
        App::start(config, args.address_file.clone(), drain).await?.wait().await
    })
}

fn fail(message: &str) -> ExitCode {
    match writeln!(io::stderr(), "error: {message}") {
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}
