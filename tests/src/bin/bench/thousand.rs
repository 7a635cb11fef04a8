//! 1,000 connected simulated spokes, for the parts that need them.

use kube::Client;
use nave_tests::{
    Stack,
    fleet::{Fleet, api},
};

use crate::table::say;

pub(crate) const SPOKES: usize = 1_000;

/// The spokes, connected, all with the label `bench=thousand`.
pub(crate) struct Thousand {
    pub(crate) client: Client,
    pub(crate) names: Vec<String>,
    pub(crate) fleet: Fleet,
}

impl Thousand {
    pub(crate) async fn connect(stack: &Stack) -> anyhow::Result<Self> {
        say("connecting 1,000 spokes")?;
        let client = stack.plane.client().await?;
        let names: Vec<String> = (0..SPOKES).map(|n| format!("spoke-{n:04}")).collect();
        api::create_clusters(&client, &names, &[("bench", "thousand")]).await?;
        let mut fleet = Fleet::of(stack).await?;
        fleet.connect_all(&names).await?;
        Ok(Self { client, names, fleet })
    }
}
