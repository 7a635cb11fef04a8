//! Both charts on a node: the hub and one spoke as pods, an S3 server that they reach, and what a user does with them.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use nave_tests::{
    Kubectl, Progress, S3Server, Tools, eventually,
    node::{Image, Node, Relay},
    weights,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::site;

pub(crate) const SYSTEM: &str = "nave-system";
pub(crate) const SPOKE: &str = "nave-agent";
pub(crate) const CLUSTER: &str = "bridge-a12";
pub(crate) const MODEL: &str = "bridge-defects";
/// Pods are scheduled, pulled up, probed and rolled beside compilers.
const LIMIT: Duration = Duration::from_secs(180);
const HUB_NAME: &str = "nave-operator.nave-system.svc";

/// The parts, in the order in which they end.
pub(crate) struct Fleet {
    relay: Relay,
    s3: S3Server,
    pub(crate) kubectl: Kubectl,
    node: Node,
    tools: Tools,
    folder: TempDir,
}

impl Fleet {
    /// A node with both images on it, an S3 server, and a namespace whose Secret names its keys; `None` = no node here.
    pub(crate) async fn start() -> Option<Self> {
        let node = site::start().await?;
        let tools = Tools::load().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["nave-operator", "nave-agent"] {
            let version = env!("CARGO_PKG_VERSION");
            node.import(&Image::new(format!("{name}:{version}"), tools.ours(name).unwrap())).unwrap();
        }
        let s3 = S3Server::start(&tools, folder.path()).await.unwrap();
        let target = s3.endpoint().trim_start_matches("http://").parse().unwrap();
        let relay = Relay::start(target).await.unwrap();
        let mut kubectl = node.kubectl().unwrap();
        for (name, value) in s3.environment() {
            kubectl = kubectl.with_env(name, &value);
        }
        let fleet = Self { relay, s3, kubectl, node, tools, folder };
        fleet.prepare_namespaces().await.unwrap();
        Some(fleet)
    }

    async fn prepare_namespaces(&self) -> Result<()> {
        self.kubectl.run(&["create", "namespace", "vision"]).await?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "models-s3", "namespace": "vision"},
            "stringData": {"accessKeyId": self.s3.access_key(), "secretAccessKey": self.s3.secret_key()},
        });
        self.kubectl.apply(&secret.to_string()).await?;
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "spoke-disk"},
            "spec": {
                "capacity": {"storage": "2Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "local": {"path": self.node.volume("spoke-disk")?},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                    [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["nave-node"]}]}]}},
            },
        });
        self.kubectl.apply(&volume.to_string()).await.map(drop)
    }

    /// The spoke's state directory, seen from outside.
    pub(crate) fn disk(&self) -> PathBuf {
        self.node.volume("spoke-disk").unwrap()
    }

    /// Installs or upgrades the hub's chart, and waits until its pods are ready.
    pub(crate) async fn install_hub(&self, values: &str) -> Result<()> {
        let periods =
            "hub.heartbeat=2s,hub.gracePeriod=10s,hub.leaseDuration=5s,rbac.modelNamespaces={vision}";
        self.shell(&format!(
            "helm upgrade --install nave-operator charts/nave-operator --namespace {SYSTEM} --create-namespace \
             --set {periods} --set {values}"
        ))
        .await?;
        self.wait_rolled_out(SYSTEM, "deployment/nave-operator").await
    }

    /// Makes a token and runs the command that is printed with it, with what this site needs beside it: there is no name
    /// server, no default storage class, and a small disk.
    pub(crate) async fn join_spoke(&self) -> Result<String> {
        let hub = format!("{HUB_NAME}:7443");
        let words = ["nave", "token", "create", "--hub", &hub, "--cluster", CLUSTER, "--auto-accept"];
        let created = eventually("a token", LIMIT, || async {
            // The hub makes its CA when it first runs.
            Ok(Progress::Done(self.kubectl.json(&words).await?))
        })
        .await?;
        let command = created["helm"].as_str().context("no Helm command was printed")?;
        let command = format!("{command} {}", self.site_values().await?);
        self.shell(&command).await?;
        Ok(command)
    }

    async fn site_values(&self) -> Result<String> {
        let path = "jsonpath={.spec.clusterIP}";
        let address =
            self.kubectl.run(&["-n", SYSTEM, "get", "service", "nave-operator", "-o", path]).await?;
        Ok(format!(
            "--set store.pvc.storageClassName= --set store.size=1Gi --set labels.site-type=bridge \
             --set 'hostAliases[0].ip={address}' --set 'hostAliases[0].hostnames[0]={HUB_NAME}' \
             --set networkPolicy.storagePorts={{{}}}",
            self.relay.address().port()
        ))
    }

    /// `kubectl nave publish` of seeded weights; what lies in the folder, by digest, and the version's identity.
    pub(crate) async fn publish(
        &self,
        version: &str,
        seed: u64,
    ) -> Result<(BTreeMap<String, String>, String)> {
        let folder = self.folder.path().join(version);
        weights::write_random(&folder.join("model.bin"), 6_000_000, seed)?;
        weights::write_random(&folder.join("config/labels.txt"), 2_000, seed + 1)?;
        let (path, endpoint) = (folder.display().to_string(), format!("http://{}", self.relay.address()));
        let words =
            ["nave", "publish", &path, "--model", MODEL, "--version", version, "--namespace", "vision"];
        let place = ["--bucket", "models", "--endpoint", &endpoint, "--credentials-secret", "models-s3"];
        let published = self.kubectl.json(&[&words[..], &place].concat()).await?;
        let digest = published["manifestDigest"].as_str().context("no digest was printed")?;
        Ok((weights::digests(&folder)?, digest.to_owned()))
    }

    /// Creates or changes the policy of the bridges.
    pub(crate) async fn place(&self, version: &str) -> Result<()> {
        let policy = json!({
            "apiVersion": "nave.dev/v1alpha1",
            "kind": "PlacementPolicy",
            "metadata": {"name": "bridges", "namespace": "vision"},
            "spec": {
                "model": {"name": MODEL, "version": version},
                "placement": {"clusterSelector": {"matchLabels": {"site-type": "bridge"}}},
                "serving": {"runtime": "files"},
            },
        });
        self.kubectl.apply(&policy.to_string()).await.map(drop)
    }

    /// Waits until the hub says that the spoke serves this identity, and looks at the disk whether it does.
    pub(crate) async fn wait_serving(&self, digest: &str, files: &BTreeMap<String, String>) -> Result<()> {
        let served = eventually(&format!("{CLUSTER} to serve {digest}"), LIMIT, || async {
            let assignment = self.kubectl.json(&["get", "clusterassignment", CLUSTER]).await?;
            let entries = assignment["status"]["entries"].as_array().cloned().unwrap_or_default();
            let serves = entries.iter().any(|entry| entry["phase"] == "Serving" && entry["digest"] == digest);
            Ok(Progress::when(serves, (), &assignment["status"]))
        })
        .await;
        if let Err(error) = served {
            return Err(error.context(self.what_is_there().await));
        }
        self.ensure_on_disk(files)
    }

    /// For failures: the fleet's objects, and what the pods said last.
    async fn what_is_there(&self) -> String {
        let mut text = String::new();
        for words in [
            &["get", "edgeclusters,clusterassignments,modelversions,placementpolicies", "-A", "-o", "yaml"][..],
            &["-n", SYSTEM, "logs", "deployment/nave-operator", "--all-pods=true", "--tail=40"],
            &["-n", SPOKE, "logs", "statefulset/nave-agent", "--tail=40"],
        ] {
            text += &self.kubectl.run(words).await.unwrap_or_else(|error| format!("{error:#}"));
        }
        text
    }

    /// Whether what is served is what was published, byte for byte.
    pub(crate) fn ensure_on_disk(&self, files: &BTreeMap<String, String>) -> Result<()> {
        let found = weights::digests(&self.disk().join("models").join(MODEL).join("current"))?;
        ensure!(&found == files, "served: {found:?}, published: {files:?}");
        Ok(())
    }

    /// Waits for the EdgeCluster's condition Connected and returns the object.
    pub(crate) async fn wait_connected(&self) -> Result<Value> {
        eventually(&format!("{CLUSTER} to be connected"), LIMIT, || async {
            let object = self.kubectl.json(&["get", "edgecluster", CLUSTER]).await?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let connected =
                conditions.iter().any(|one| one["type"] == "Connected" && one["status"] == "True");
            Ok(Progress::when(connected, object.clone(), &object["status"]))
        })
        .await
    }

    /// Waits until the EdgeCluster tells this fact.
    pub(crate) async fn wait_fact(&self, name: &str, value: &str) -> Result<Value> {
        eventually(&format!("{CLUSTER} to tell {name}={value}"), LIMIT, || async {
            let object = self.kubectl.json(&["get", "edgecluster", CLUSTER]).await?;
            Ok(Progress::when(object["status"]["facts"][name] == value, object.clone(), &object["status"]))
        })
        .await
    }

    pub(crate) async fn wait_rolled_out(&self, namespace: &str, what: &str) -> Result<()> {
        let rolled = self.kubectl.run(&["-n", namespace, "rollout", "status", what, "--timeout=180s"]).await;
        let Err(error) = rolled else { return Ok(()) };
        let pods = self.kubectl.run(&["-n", namespace, "describe", "pods"]).await.unwrap_or_default();
        Err(error.context(format!("{pods}\n{}", self.what_is_there().await)))
    }

    /// Ends the pods of a release as a crash of their node would, and waits for the next ones.
    pub(crate) async fn kill_pods(&self, namespace: &str, what: &str) -> Result<()> {
        self.kubectl
            .run(&["-n", namespace, "delete", "pods", "--all", "--force", "--grace-period=0"])
            .await?;
        self.wait_rolled_out(namespace, what).await
    }

    /// A command line with helm on PATH, in the checkout.
    pub(crate) async fn shell(&self, line: &str) -> Result<String> {
        let helm = self.tools.fetched("helm")?;
        let mut folders = vec![helm.parent().context("helm is in no folder")?.to_owned()];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        command.env("PATH", std::env::join_paths(folders)?).env("KUBECONFIG", self.node.kubeconfig());
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.folder.path().join("helm"));
        }
        let output = tokio::process::Command::from(command).output().await.context("run a shell")?;
        ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
