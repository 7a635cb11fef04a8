//! `nave-testenv [--] COMMAND ...`: one control plane and one S3 server for a whole test run, and the command with their
//! addresses in its environment (NAVE_TEST_*). Ends with the command's exit code and leaves nothing behind, on Ctrl-C and
//! SIGTERM too.

use std::process::ExitCode;

use anyhow::Context as _;
use nave_tests::{ControlPlane, ControlPlaneSettings, Hub, S3Server, Tools};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    let [program, arguments @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: nave-testenv [--] COMMAND ...")
    };

    let tools = Tools::load()?;
    let folder = tempfile::Builder::new().prefix("nave-testenv-").tempdir().context("making a folder")?;
    let (plane_folder, s3_folder) = (folder.path().join("controlplane"), folder.path().join("s3"));
    let (plane, s3) = tokio::try_join!(
        ControlPlane::start(&tools, &plane_folder, ControlPlaneSettings::default()),
        S3Server::start(&tools, &s3_folder),
    )?;
    // CRDs are of the whole cluster, so they are here before the first test.
    Hub::install_permissions(&tools, &plane, None).await?;

    let mut child = Command::new(program)
        .args(arguments)
        .env("NAVE_TEST_KUBECONFIG", plane.kubeconfig())
        .env("NAVE_TEST_S3_ENDPOINT", s3.endpoint())
        .env("NAVE_TEST_S3_ACCESS_KEY", s3.access_key())
        .env("NAVE_TEST_S3_SECRET_KEY", s3.secret_key())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("waiting for the command")?,
            // In a terminal the command got it too and ends by itself.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => child.start_kill().context("ending the command")?,
        }
    };
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
