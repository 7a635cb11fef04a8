//! Everything that a test through the whole system needs, started: a control plane of its own with the chart's CRDs and
//! permissions, an S3 server, a hub; and agents on demand.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    control_plane::{ControlPlane, Settings as ControlPlaneSettings},
    eventually::{Progress, eventually},
    hub::{Hub, HubSettings},
    kubectl::Kubectl,
    s3::S3Server,
    spoke::{JoinInstructions, Spoke, SpokeSettings},
    tools::Tools,
};

/// Generous: tests share two cores with others.
const LIMIT: Duration = Duration::from_secs(120);
const CREDENTIALS: &str = "models-s3";

/// How a stack is started.
#[derive(Clone, Debug, Default)]
pub struct StackSettings {
    /// The hub's.
    pub hub: HubSettings,
    /// The control plane's.
    pub control_plane: ControlPlaneSettings,
    /// What the ModelVersions name as the S3 server's address instead of its own: a fault proxy's, say.
    pub endpoint: Option<String>,
    /// The one namespace whose Secrets the hub may read, made beforehand; none = all.
    pub model_namespace: Option<&'static str>,
}

/// The running parts. Fields in the order in which they are ended.
#[derive(Debug)]
pub struct Stack {
    /// The hub.
    pub hub: Hub,
    /// The S3 server.
    pub s3: S3Server,
    /// The control plane.
    pub plane: ControlPlane,
    /// kubectl with the administrator's rights.
    pub kubectl: Kubectl,
    /// Where the programs are.
    pub tools: Tools,
    endpoint: String,
    bucket: String,
    folder: TempDir,
}

impl Stack {
    /// Starts all of it, with default settings.
    ///
    /// # Errors
    /// Some part did not become ready.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(StackSettings::default()).await
    }

    /// Starts all of it.
    ///
    /// # Errors
    /// Some part did not become ready.
    pub async fn start_with(settings: StackSettings) -> anyhow::Result<Self> {
        let tools = Tools::load()?;
        let folder =
            tempfile::Builder::new().prefix("nave-").tempdir().context("making a folder for the stack")?;
        let (plane_folder, s3_folder) = (folder.path().join("controlplane"), folder.path().join("s3"));
        let (plane, s3) = tokio::try_join!(
            ControlPlane::start(&tools, &plane_folder, settings.control_plane),
            S3Server::shared_or_start(&tools, &s3_folder),
        )?;
        let mut kubectl = Kubectl::new(&tools, plane.kubeconfig())?;
        if let Some(namespace) = settings.model_namespace {
            kubectl.run(&["create", "namespace", namespace]).await?;
        }
        Hub::install_permissions(&tools, &plane, settings.model_namespace).await?;
        for (name, value) in s3.environment() {
            kubectl = kubectl.with_env(name, &value);
        }
        let endpoint = settings.endpoint.unwrap_or_else(|| s3.endpoint().to_owned());
        kubectl.apply(&credentials(&s3)).await.context("writing the Secret with the S3 keys")?;
        let hub = Hub::start(&tools, &plane, folder.path(), settings.hub).await?;
        // Buckets of a shared server are told apart by name.
        let bucket = format!("models-{:016x}", rand::random::<u64>());
        Ok(Self { hub, s3, plane, kubectl, tools, endpoint, bucket, folder })
    }

    /// The folder that holds everything; gone when the stack is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The bucket of this stack.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// From now on ModelVersions name this address for the S3 server: a fault proxy's.
    pub fn use_endpoint(&mut self, endpoint: &str) {
        endpoint.clone_into(&mut self.endpoint);
    }

    /// A token for one spoke, accepted as soon as it joins.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn join_instructions(&self) -> anyhow::Result<JoinInstructions> {
        JoinInstructions::create(&self.kubectl, &self.hub.address(), &["--auto-accept"]).await
    }

    /// Starts an agent that joins, and waits until the hub says that it is connected.
    ///
    /// # Errors
    /// It did not connect in time.
    pub async fn spoke(&self, cluster: &str, labels: &[(&str, &str)]) -> anyhow::Result<Spoke> {
        let join = self.join_instructions().await?;
        let settings = SpokeSettings::joining(cluster, &self.hub.address(), &join);
        let settings = labels.iter().fold(settings, |settings, (key, value)| settings.label(key, value));
        self.spoke_with(&settings).await
    }

    /// The same with settings of the caller's.
    ///
    /// # Errors
    /// It did not connect in time.
    pub async fn spoke_with(&self, settings: &SpokeSettings) -> anyhow::Result<Spoke> {
        let mut spoke = Spoke::start(&self.tools, self.folder.path(), settings)?;
        tokio::select! {
            waited = self.wait_connected(&settings.cluster, true) => waited.with_context(|| spoke.log_tail())?,
            error = spoke.until_it_ends() => return Err(error),
        }
        Ok(spoke)
    }

    /// Waits until the EdgeCluster's condition Connected is (not) True.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_connected(&self, cluster: &str, connected: bool) -> anyhow::Result<()> {
        let wanted = if connected { "Connected=True" } else { "Connected not True" };
        eventually(&format!("{cluster} to be {wanted}"), LIMIT, || async {
            let object = self.kubectl.json(&["get", "edgecluster", cluster]).await?;
            let status = condition(&object, "Connected");
            Ok(Progress::when((status == "True") == connected, (), format!("Connected={status}")))
        })
        .await
    }

    /// `kubectl nave publish` of a folder; the manifest's digest.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn publish(&self, folder: &Path, model: &str, version: &str) -> anyhow::Result<String> {
        let published = self.publish_with(folder, model, version, &[]).await?;
        let digest = published["manifestDigest"].as_str().context("`nave publish` printed no digest")?;
        Ok(digest.to_owned())
    }

    /// The same with more arguments; all that the plugin says.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn publish_with(
        &self,
        folder: &Path,
        model: &str,
        version: &str,
        extra: &[&str],
    ) -> anyhow::Result<Value> {
        let folder = folder.to_string_lossy();
        let mut arguments = vec![
            "nave",
            "publish",
            &folder,
            "--model",
            model,
            "--version",
            version,
            "--bucket",
            &self.bucket,
            "--endpoint",
            &self.endpoint,
            "--credentials-secret",
            CREDENTIALS,
        ];
        arguments.extend(extra);
        self.kubectl.json(&arguments).await
    }

    /// Creates or changes a PlacementPolicy in namespace default: this version, all at once, on what the labels match.
    ///
    /// # Errors
    /// The API server refused it.
    pub async fn place(
        &self,
        policy: &str,
        model: &str,
        version: &str,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        let object = serde_json::json!({
            "apiVersion": "nave.dev/v1alpha1",
            "kind": "PlacementPolicy",
            "metadata": {"name": policy, "namespace": "default"},
            "spec": {
                "model": {"name": model, "version": version},
                "placement": {"clusterSelector": {"matchLabels": labels}},
                "serving": {"runtime": "files"},
            },
        });
        self.kubectl.apply(&object.to_string()).await.map(drop)
    }

    /// What the hub stored of what a cluster reported for a model: the rows of its ClusterAssignment's status, one for
    /// each version that it serves or holds. None where there is no assignment.
    ///
    /// # Errors
    /// The API server cannot be asked.
    pub async fn reported(&self, cluster: &str, model: &str) -> anyhow::Result<Vec<Value>> {
        let arguments = ["get", "clusterassignment", cluster, "--ignore-not-found", "-o", "json"];
        let text = self.kubectl.run(&arguments).await?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let assignment: Value = serde_json::from_str(&text).context("parsing a ClusterAssignment")?;
        let rows = assignment["status"]["entries"].as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().filter(|row| row["model"] == model).collect())
    }

    /// Waits until the hub's objects say that the cluster serves exactly this digest.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_serving(&self, cluster: &str, model: &str, digest: &str) -> anyhow::Result<()> {
        self.wait_reported(cluster, model, &format!("to serve {digest}"), |entry| {
            entry["phase"] == "Serving" && entry["digest"] == digest
        })
        .await
        .map(drop)
    }

    /// Waits until a row of what a cluster reported for a model satisfies `wanted`.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_reported(
        &self,
        cluster: &str,
        model: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        eventually(&format!("{cluster} {what}"), LIMIT, || async {
            let rows = self.reported(cluster, model).await?;
            let found = rows.iter().find(|row| wanted(row)).cloned();
            Ok(found.map_or_else(|| Progress::Pending(Value::Array(rows).to_string()), Progress::Done))
        })
        .await
    }
}

/// The status of a condition, or the empty text.
pub(crate) fn condition(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

fn credentials(s3: &S3Server) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": CREDENTIALS, "namespace": "default"},
        "stringData": {"accessKeyId": s3.access_key(), "secretAccessKey": s3.secret_key()},
    })
    .to_string()
}
