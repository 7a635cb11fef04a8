//! `nave-operator`: parses the command line, sets up TLS and logs, and hands over to `app`.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Parser as _;
use nave_operator::{
    app,
    args::{Cli, Command, RunArgs},
};
use nave_runtime::{drain, telemetry};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Crds => print_crds(),
    }
}

#[tokio::main]
async fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::init(args.log_format).context("cannot set up logging")?;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS provider was installed first");
    }
    let drain = drain::Drain::new();
    drain::signal(&drain).context("cannot listen for SIGTERM and SIGINT")?;
    app::start(args, &drain).await?.finished().await
}

fn print_crds() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for crd in nave_crds::all() {
        let text = serde_yaml::to_string(&crd).context("cannot write a CRD as YAML")?;
        write!(out, "---\n{text}").context("cannot write to the standard output")?;
    }
    Ok(())
}
