//! An API server with the CRDs installed, a namespace for the one test that asked for it, and a bucket likewise.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::{
    api::{
        core::v1::Namespace,
        rbac::v1::{Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use nave_tests::{ControlPlane, ControlPlaneSettings, Kubectl, S3Server, Tools};
use object_store::ObjectStoreExt as _;
use serde_json::{Value, json};

pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) kubectl: Kubectl,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) namespace: String,
    _plane: ControlPlane,
    _folder: tempfile::TempDir,
}

impl Server {
    /// The API server of this test run; where there is none, one of this test's own.
    pub(crate) async fn start() -> Self {
        let tools = Tools::load().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let plane = match ControlPlane::shared() {
            Ok(plane) => plane,
            Err(_) => {
                ControlPlane::start(&tools, folder.path(), ControlPlaneSettings::default()).await.unwrap()
            }
        };
        let client = plane.client().await.unwrap();
        install_crds(&client).await;
        let namespace = make_namespace(&client).await;
        let kubeconfig = plane.kubeconfig().to_owned();
        let kubectl = Kubectl::new(&tools, &kubeconfig).unwrap();
        Self { client, kubectl, kubeconfig, namespace, _plane: plane, _folder: folder }
    }

    /// The object in this test's namespace; cluster-scoped ones get a name of their own instead.
    pub(crate) fn in_namespace(&self, mut object: Value) -> Value {
        let namespaced = !["EdgeCluster", "ClusterAssignment"].contains(&object["kind"].as_str().unwrap());
        let metadata = &mut object["metadata"];
        if namespaced {
            metadata["namespace"] = self.namespace.clone().into();
        } else {
            metadata["name"] = format!("{}-{}", self.namespace, metadata["name"].as_str().unwrap()).into();
        }
        object
    }

    /// The API of whatever kind the object is of.
    pub(crate) fn dynamic(&self, object: &DynamicObject) -> Api<DynamicObject> {
        let types = object.types.as_ref().unwrap();
        let kind = GroupVersionKind::try_from(types).unwrap();
        let mut resource = ApiResource::from_gvk(&kind);
        if kind.kind == "PlacementPolicy" {
            resource.plural = "placementpolicies".to_owned();
        }
        match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// A kubeconfig that differs from this server's.
    pub(crate) fn kubeconfig_but(&self, change: impl FnOnce(&mut Value)) -> tempfile::NamedTempFile {
        let mut config = serde_yaml::from_str(&std::fs::read_to_string(&self.kubeconfig).unwrap()).unwrap();
        change(&mut config);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), serde_yaml::to_string(&config).unwrap()).unwrap();
        file
    }

    /// A kubeconfig of somebody who may do this in this test's namespace and nothing else.
    pub(crate) async fn kubeconfig_of(&self, name: &str, rules: Value) -> tempfile::NamedTempFile {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        let roles: Api<Role> = Api::namespaced(self.client.clone(), &self.namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), &self.namespace);
        roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
        self.kubeconfig_but(|config| config["users"][0]["user"]["as"] = name.into())
    }

    /// What `kubectl nave` prints; what it complains of is the error.
    pub(crate) fn nave(&self, arguments: &[&str]) -> Result<String, String> {
        run(nave().args(arguments).env("KUBECONFIG", &self.kubeconfig))
    }

    /// The same as JSON.
    pub(crate) fn nave_json(&self, arguments: &[&str]) -> Value {
        let text = self.nave(&[arguments, &["-o", "json"]].concat()).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// Our plugin, without anything of the caller's environment that it would read.
pub(crate) fn nave() -> Command {
    let mut command = Command::new(Tools::load().unwrap().ours("kubectl-nave").unwrap());
    command.env_clear();
    command
}

/// The output of a program that is to succeed; otherwise what it complained of.
#[allow(clippy::unwrap_in_result)] // That it starts at all is not what a test asks.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Only where they are missing: those of the shared server are Helm's.
async fn install_crds(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in nave_crds::all() {
        let name = crd.name_any();
        if api.get_opt(&name).await.unwrap().is_some() {
            continue;
        }
        api.patch(&name, &PatchParams::apply("nave-tests").force(), &Patch::Apply(&crd)).await.unwrap();
        await_condition(api.clone(), &name, conditions::is_crd_established()).await.unwrap();
    }
}

async fn make_namespace(client: &Client) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut namespace = Namespace::default();
    namespace.metadata.generate_name = Some("test-".to_owned());
    namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any()
}

/// Where `crds/examples` has the example of a kind.
pub(crate) fn example_path(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../crds/examples/{kind}.yaml"))
}

/// The example of a kind.
pub(crate) fn example(kind: &str) -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(example_path(kind)).unwrap()).unwrap()
}

/// A bucket for one test.
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) server: S3Server,
    _folder: tempfile::TempDir,
}

impl Bucket {
    /// On the S3 server of this test run; where there is none, on one of this test's own.
    pub(crate) async fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = S3Server::shared_or_start(&Tools::load().unwrap(), folder.path()).await.unwrap();
        Self { name: name.to_owned(), server, _folder: folder }
    }

    pub(crate) async fn get(&self, key: &str) -> Vec<u8> {
        // The harness' own `get` takes keys that are encoded already.
        let key = object_store::path::Path::parse(key).unwrap();
        let store = self.server.bucket(&self.name).unwrap();
        store.get(&key).await.unwrap().bytes().await.unwrap().to_vec()
    }
}
