//! What goes into a bundle: one version, or what a policy asks for; and what the sites hold already.

use anyhow::{Context as _, bail};
use kube::Api;
use nave_bundle::Source;
use nave_crds::{ModelVersion, PlacementPolicy};
use nave_names::Digest;

use crate::{
    connection::Connected,
    failure,
    publish::version::{digest, named},
};

/// What the user asked for, by name.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    Version(&'a str),
    Policy(&'a str),
}

/// A version and its manifest's digest.
pub(super) type Named = (ModelVersion, Digest);

/// What was found.
pub(super) struct Selection {
    pub(super) source: Source,
    /// In the order in which they are imported.
    pub(super) versions: Vec<Named>,
    /// What the sites hold.
    pub(super) base: Option<Named>,
    policy: Option<PlacementPolicy>,
}

impl Selection {
    /// Asks the API server.
    pub(super) async fn find(
        hub: &Connected,
        wanted: Wanted<'_>,
        delta_from: Option<&str>,
    ) -> anyhow::Result<Self> {
        let (mut selection, model) = match wanted {
            Wanted::Version(name) => Self::of_version(hub, name).await?,
            Wanted::Policy(name) => Self::of_policy(hub, name).await?,
        };
        if let Some(from) = delta_from {
            let base = named(hub, "--delta-from", &model, from).await?;
            let target = selection.versions.pop();
            if target.as_ref().is_some_and(|(_, digest)| *digest == base.1) {
                bail!("--delta-from {from}: that is this very version ({})", base.1);
            }
            // What the sites hold need not be carried.
            selection.versions.retain(|(_, digest)| *digest != base.1);
            selection.versions.extend(target);
            selection.base = Some(base);
        }
        if let Some((version, _)) = selection.versions.iter().find(|(version, _)| version.spec.withdrawn) {
            let name = version.metadata.name.as_deref().unwrap_or_default();
            bail!("ModelVersion {}/{name} is withdrawn: no site would run it", hub.namespace());
        }
        Ok(selection)
    }

    async fn of_version(hub: &Connected, name: &str) -> anyhow::Result<(Self, String)> {
        let namespace = hub.namespace();
        let versions: Api<ModelVersion> = Api::namespaced(hub.client.clone(), namespace);
        let version = versions.get(name).await.map_err(failure::said);
        let version = version.with_context(|| format!("reading ModelVersion {namespace}/{name}"))?;
        let digest = digest(hub, &version)?;
        let model = version.spec.model.clone();
        let source = Source::Model {
            namespace: namespace.parse().context("the namespace")?,
            name: model.parse().with_context(|| format!("model of ModelVersion {namespace}/{name}"))?,
        };
        Ok((Self { source, versions: vec![(version, digest)], base: None, policy: None }, model))
    }

    async fn of_policy(hub: &Connected, name: &str) -> anyhow::Result<(Self, String)> {
        let namespace = hub.namespace();
        let policies: Api<PlacementPolicy> = Api::namespaced(hub.client.clone(), namespace);
        let policy = policies.get(name).await.map_err(failure::said);
        let policy = policy.with_context(|| format!("reading PlacementPolicy {namespace}/{name}"))?;
        let model = policy.spec.model.name.clone();
        let flag = format!("--policy {name}");
        let target = named(hub, &flag, &model, &policy.spec.model.version).await?;
        let mut versions = Vec::new();
        let previous = policy.status.as_ref().and_then(|status| status.previous_version.clone());
        if let Some(previous) = previous.filter(|previous| *previous != policy.spec.model.version) {
            // One that was deleted or withdrawn meanwhile is nothing to go back to.
            let found = named(hub, &flag, &model, &previous).await.ok();
            versions.extend(found.filter(|(version, _)| !version.spec.withdrawn));
        }
        versions.push(target);
        let source = Source::PlacementPolicy {
            namespace: namespace.parse().context("the namespace")?,
            name: name.parse().context("--policy")?,
        };
        Ok((Self { source, versions, base: None, policy: Some(policy) }, model))
    }

    /// The policy as it was asked for, without what the API server added.
    pub(super) fn policy_yaml(&self) -> anyhow::Result<Option<String>> {
        let Some(policy) = &self.policy else { return Ok(None) };
        let mut bare =
            PlacementPolicy::new(policy.metadata.name.as_deref().unwrap_or_default(), policy.spec.clone());
        bare.metadata.namespace.clone_from(&policy.metadata.namespace);
        bare.metadata.labels.clone_from(&policy.metadata.labels);
        Ok(Some(serde_yaml::to_string(&bare).context("writing the policy as YAML")?))
    }
}
