//! Six real agents with a serving runtime each, half of them told by a command, half by a POST; and what is asked of a
//! rollout on them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use nave_crds::{PlacementPolicy, PlacementPolicyStatus, StepState};
use nave_tests::{
    HookCall, HookRuntime, JoinInstructions, Progress, Spoke, SpokeSettings, Stack, eventually, weights,
};
use serde_json::{Value, json};

/// For a whole rollout beside other tests; shorter than the hub's longest sleep, which must not be what moves it.
const LIMIT: Duration = Duration::from_secs(150);

/// A published version: the manifest's digest, and the SHA-256 of the weights.
pub(crate) struct Version {
    pub(crate) name: &'static str,
    pub(crate) digest: String,
    pub(crate) weights: String,
}

/// The sites, in the order in which a rollout takes them.
pub(crate) const SITES: [&str; 6] = ["site-0", "site-1", "site-2", "site-3", "site-4", "site-5"];

/// The stack, the sites' runtimes, the agents by site.
pub(crate) struct Six {
    pub(crate) spokes: BTreeMap<&'static str, Spoke>,
    pub(crate) runtime: HookRuntime,
    pub(crate) stack: Stack,
}

impl Six {
    /// Started, all connected.
    pub(crate) async fn start() -> Result<Self> {
        let stack = Stack::start().await?;
        let mut runtime = HookRuntime::start().await?;
        let arguments = ["--auto-accept", "--uses", "6"];
        let join = JoinInstructions::create(&stack.kubectl, &stack.hub.address(), &arguments).await?;
        let mut settings = Vec::new();
        for (index, site) in SITES.into_iter().enumerate() {
            let mut one = SpokeSettings::joining(site, &stack.hub.address(), &join).label("fleet", "six");
            one.extra = match index % 2 {
                0 => runtime.told_by_post(site),
                _ => runtime.told_by_command(site, stack.folder())?,
            };
            settings.push(one);
        }
        let spokes = futures::future::try_join_all(settings.iter().map(|one| stack.spoke_with(one))).await?;
        Ok(Self { spokes: SITES.into_iter().zip(spokes).collect(), runtime, stack })
    }

    pub(crate) async fn publish(&self, model: &str, name: &'static str) -> Result<Version> {
        let folder = self.stack.folder().join(model).join(name);
        let file = folder.join("weights.bin");
        weights::write_random(&file, 300_000, (model.len() * 1_000) as u64)?;
        // Of one size, of other content.
        let mut content = std::fs::read(&file)?;
        content[..name.len()].copy_from_slice(name.as_bytes());
        std::fs::write(&file, content)?;
        let digest = self.stack.publish(&folder, model, name).await?;
        Ok(Version { name, digest, weights: weights::file_digest(&file)? })
    }

    /// Creates or changes the policy of that name for the model of that name.
    pub(crate) async fn roll_out(&self, model: &str, version: &Version, rollout: &Value) -> Result<()> {
        let policy = json!({
            "apiVersion": "nave.dev/v1alpha1",
            "kind": "PlacementPolicy",
            "metadata": {"name": model, "namespace": "default"},
            "spec": {
                "model": {"name": model, "version": version.name},
                "placement": {"clusterSelector": {"matchLabels": {"fleet": "six"}}},
                "rollout": rollout,
                "serving": {"runtime": "hook", "probe": {"timeout": "3s"}},
            },
        });
        self.stack.kubectl.apply(&policy.to_string()).await.map(drop)
    }

    /// The policy's status, for its present generation.
    pub(crate) async fn status(&self, policy: &str) -> Result<PlacementPolicyStatus> {
        let object = self.stack.kubectl.json(&["get", "placementpolicy", policy]).await?;
        let policy: PlacementPolicy = serde_json::from_value(object)?;
        let status = policy.status.context("no status yet")?;
        anyhow::ensure!(status.observed_generation == policy.metadata.generation, "it is of an older spec");
        Ok(status)
    }

    pub(crate) async fn wait_state(&self, policy: &str, state: StepState) -> Result<PlacementPolicyStatus> {
        self.wait_status(policy, &format!("to be {state:?}"), |status| {
            status.step.as_ref().is_some_and(|step| step.state == state)
        })
        .await
    }

    pub(crate) async fn wait_status(
        &self,
        policy: &str,
        what: &str,
        wanted: impl Fn(&PlacementPolicyStatus) -> bool,
    ) -> Result<PlacementPolicyStatus> {
        eventually(&format!("{policy} {what}"), LIMIT, || async {
            let status = self.status(policy).await?;
            let seen = format!("{:?} {:?} {:?}", status.step, status.clusters, status.waiting_on);
            Ok(Progress::when(wanted(&status), status, seen))
        })
        .await
    }

    /// Waits until the hub has it from each of these sites, and looks at what lies there.
    pub(crate) async fn wait_serving(&self, sites: &[&str], model: &str, version: &Version) -> Result<()> {
        for site in sites {
            self.stack.wait_serving(site, model, &version.digest).await?;
            assert_eq!(self.served(site, model)?, version.weights, "{site}");
        }
        Ok(())
    }

    /// The SHA-256 of the weights under the site's `current`.
    pub(crate) fn served(&self, site: &str, model: &str) -> Result<String> {
        let folder = self.spokes[site].current(model).with_context(|| format!("{site} serves no {model}"))?;
        weights::file_digest(&folder.join("weights.bin"))
    }

    /// How often the site's runtime was told to serve the version. Each time its weights lay there whole.
    pub(crate) fn activations(&self, site: &str, model: &str, version: &Version) -> Result<usize> {
        let of_it = |call: &HookCall| {
            call.action == "activate" && call.model == model && call.version == version.name
        };
        let calls: Vec<_> = self.runtime.calls(site)?.into_iter().filter(of_it).collect();
        for call in &calls {
            assert_eq!(call.weights, version.weights, "{site} was told {call:?} before it was verified");
        }
        Ok(calls.len())
    }

    /// The sites whose runtime was told to serve the version.
    pub(crate) fn told(&self, model: &str, version: &Version) -> Result<Vec<&'static str>> {
        let mut told = Vec::new();
        for site in SITES {
            if self.activations(site, model, version)? > 0 {
                told.push(site);
            }
        }
        Ok(told)
    }

    /// Waits for as many Events of the policy; they have to be these, each as often as it is named.
    pub(crate) async fn wait_events(&self, policy: &str, expected: &[&str]) -> Result<()> {
        let seen = eventually("the policy's Events", LIMIT, || async {
            let reasons = self.events(policy).await?;
            Ok(Progress::when(reasons.len() >= expected.len(), reasons.clone(), format!("{reasons:?}")))
        })
        .await?;
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(seen, expected, "Events of {policy}");
        Ok(())
    }

    /// What the policy's Events of one reason say, sorted.
    pub(crate) async fn notes(&self, policy: &str, reason: &str) -> Result<Vec<String>> {
        let events = self.stack.kubectl.json(&["get", "events.events.k8s.io"]).await?;
        let all = events["items"].as_array().context("no list of Events")?;
        let of_it =
            all.iter().filter(|event| event["regarding"]["name"] == policy && event["reason"] == reason);
        let mut notes: Vec<String> =
            of_it.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect();
        notes.sort_unstable();
        Ok(notes)
    }

    /// Reasons, sorted; one that was counted twice is there twice.
    async fn events(&self, policy: &str) -> Result<Vec<String>> {
        let events = self.stack.kubectl.json(&["get", "events.events.k8s.io"]).await?;
        let mut reasons = Vec::new();
        for event in events["items"].as_array().context("no list of Events")? {
            let regarding = &event["regarding"];
            if regarding["kind"] != "PlacementPolicy" || regarding["name"] != policy {
                continue;
            }
            let times = event["series"]["count"].as_u64().unwrap_or(1);
            let reason = event["reason"].as_str().context("an Event without a reason")?;
            reasons.extend((0..times).map(|_| reason.to_owned()));
        }
        reasons.sort_unstable();
        Ok(reasons)
    }
}
