//! The charts on a real API server: what they render is taken, what the hub may do is what it does and no more, an upgrade
//! brings newer CRDs, and an uninstall takes everything but the users' own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use nave_tests::{ControlPlane, ControlPlaneSettings, Kubectl, Tools};
use tempfile::TempDir;

const SYSTEM: &str = "nave-system";
const HUB: &str = "system:serviceaccount:nave-system:nave-operator";
const SPOKE: &str = "system:serviceaccount:nave-agent:nave-agent";
/// Kinds of the Prometheus operator, whose CRDs this API server does not have.
const MONITORS: [&str; 2] = ["kind: ServiceMonitor", "kind: PodMonitor"];

/// Who, verb, resource, namespace ("" = cluster-wide), and whether it is allowed.
const PERMISSIONS: &[(&str, &str, &str, &str, bool)] = &[
    (HUB, "watch", "edgeclusters.nave.dev", "", true),
    (HUB, "create", "edgeclusters.nave.dev", "", true),
    (HUB, "patch", "edgeclusters.nave.dev/status", "", true),
    (HUB, "watch", "modelversions.nave.dev", "", true),
    (HUB, "patch", "modelversions.nave.dev/status", "", true),
    (HUB, "watch", "placementpolicies.nave.dev", "", true),
    (HUB, "patch", "placementpolicies.nave.dev/status", "", true),
    (HUB, "create", "clusterassignments.nave.dev", "", true),
    (HUB, "patch", "clusterassignments.nave.dev", "", true),
    (HUB, "patch", "clusterassignments.nave.dev/status", "", true),
    (HUB, "create", "events.events.k8s.io", "vision", true),
    (HUB, "get", "secrets/nave-ca", SYSTEM, true),
    (HUB, "create", "secrets", SYSTEM, true),
    (HUB, "update", "secrets/nave-token-abcd1234", SYSTEM, true),
    (HUB, "get", "secrets/models-s3", "vision", true),
    (HUB, "create", "leases.coordination.k8s.io", SYSTEM, true),
    (HUB, "update", "leases.coordination.k8s.io", SYSTEM, true),
    (HUB, "delete", "leases.coordination.k8s.io", SYSTEM, true),
    // Consent is the platform team's, and so is the end of a cluster, a version or a policy.
    (HUB, "patch", "edgeclusters.nave.dev", "", false),
    (HUB, "delete", "edgeclusters.nave.dev", "", false),
    (HUB, "delete", "clusterassignments.nave.dev", "", false),
    (HUB, "create", "modelversions.nave.dev", "vision", false),
    (HUB, "patch", "placementpolicies.nave.dev", "vision", false),
    (HUB, "delete", "customresourcedefinitions.apiextensions.k8s.io", "", false),
    // Secrets: by name, and only where it was said.
    (HUB, "list", "secrets", SYSTEM, false),
    (HUB, "delete", "secrets", SYSTEM, false),
    (HUB, "list", "secrets", "vision", false),
    (HUB, "update", "secrets/models-s3", "vision", false),
    (HUB, "get", "secrets", "kube-system", false),
    (HUB, "get", "secrets", "default", false),
    (HUB, "update", "leases.coordination.k8s.io", "kube-system", false),
    (HUB, "create", "pods", SYSTEM, false),
    (HUB, "get", "nodes", "", false),
    (HUB, "impersonate", "users", "", false),
    (HUB, "bind", "clusterroles.rbac.authorization.k8s.io", "", false),
    (SPOKE, "get", "secrets", "nave-agent", false),
    (SPOKE, "get", "pods", "nave-agent", false),
    (SPOKE, "get", "edgeclusters.nave.dev", "", false),
];

#[tokio::test]
async fn api_charts_are_taken_by_the_server_with_every_example_of_values() {
    let site = Site::start().await;
    site.kubectl.run(&["create", "namespace", SYSTEM]).await.unwrap();
    for chart in ["nave-operator", "nave-agent"] {
        for values in std::fs::read_dir(charts().join(chart).join("ci")).unwrap() {
            let values = values.unwrap().path().display().to_string();
            let rendered = site.helm(&["template", "r", chart, "--namespace", SYSTEM, "--values", &values]);
            let objects: Vec<&str> = rendered.split("\n---\n").filter(|object| !is_monitor(object)).collect();
            let file = site.folder.path().join("objects.yaml");
            std::fs::write(&file, objects.join("\n---\n")).unwrap();
            let file = file.display().to_string();
            let taken = site.kubectl.run(&["apply", "--server-side", "--dry-run=server", "-f", &file]).await;
            let taken = taken.unwrap_or_else(|error| panic!("{values}: {error:#}"));
            assert!(taken.lines().count() >= 3, "{values}: {taken}");
        }
    }
}

#[tokio::test]
async fn api_helm_installs_upgrades_and_uninstalls_both_charts() {
    let site = Site::start().await;
    site.kubectl.run(&["create", "namespace", "vision"]).await.unwrap();

    // A release of before: its CRD lacks a column.
    let older = site.older_chart();
    let older = older.display().to_string();
    let models = ["--set", "rbac.modelNamespaces={vision}"];
    let place = ["--namespace", SYSTEM, "--create-namespace"];
    let notes = site.helm(&[&["install", "nave-operator", &older][..], &place, &models].concat());
    assert!(notes.contains("kubectl nave token create"), "{notes}");
    assert!(!site.crd_columns().await.contains("Agent"));
    site.kubectl.apply(EDGE_CLUSTER).await.unwrap();
    site.assert_permissions_of_hub_and_spoke().await;

    // The upgrade brings the CRDs along, and changes what was asked for.
    site.helm(
        &[&["upgrade", "nave-operator", "nave-operator"][..], &place, &models, &["--set", "replicas=3"]]
            .concat(),
    );
    assert!(site.crd_columns().await.contains("Agent"));
    let replicas = ["-n", SYSTEM, "get", "deployment", "nave-operator", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(site.kubectl.run(&replicas).await.unwrap(), "3");
    site.helm(&["rollback", "nave-operator", "1", "--namespace", SYSTEM]);
    assert_eq!(site.kubectl.run(&replicas).await.unwrap(), "2");

    // The uninstall leaves what is the users': CRDs and their objects. Everything else goes.
    site.helm(&["uninstall", "nave-operator", "--namespace", SYSTEM, "--wait"]);
    assert_eq!(site.left("nave-operator").await, Vec::<String>::new());
    assert_eq!(
        site.kubectl.run(&["get", "edgecluster", "-o", "name"]).await.unwrap().trim(),
        "edgecluster.nave.dev/bridge-a12"
    );
    let crds = site.kubectl.run(&["get", "customresourcedefinitions", "-o", "name"]).await.unwrap();
    assert_eq!(crds.matches(".nave.dev").count(), 5, "{crds}");

    // And the next install takes over from there.
    site.helm(&[&["install", "nave-operator", "nave-operator"][..], &place, &models].concat());
}

const EDGE_CLUSTER: &str = "
apiVersion: nave.dev/v1alpha1
kind: EdgeCluster
metadata: {name: bridge-a12}
spec: {accepted: true}
";

/// A control plane of its own: CRDs are the whole cluster's.
struct Site {
    tools: Tools,
    folder: TempDir,
    plane: ControlPlane,
    kubectl: Kubectl,
}

impl Site {
    async fn start() -> Self {
        let tools = Tools::load().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("plane");
        let plane = ControlPlane::start(&tools, &files, ControlPlaneSettings::default()).await.unwrap();
        let kubectl = Kubectl::new(&tools, plane.kubeconfig()).unwrap();
        Self { tools, folder, plane, kubectl }
    }

    fn helm(&self, words: &[&str]) -> String {
        let mut helm = Command::new(self.tools.fetched("helm").unwrap());
        helm.current_dir(charts()).args(words).env("KUBECONFIG", self.plane.kubeconfig());
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(name, self.folder.path().join("helm"));
        }
        let output = helm.output().unwrap();
        assert!(output.status.success(), "helm {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The hub's chart as an earlier version would have been: EdgeClusters without the column `Agent`.
    fn older_chart(&self) -> PathBuf {
        let copy = self.folder.path().join("nave-operator");
        let status =
            Command::new("cp").arg("-r").arg(charts().join("nave-operator")).arg(&copy).status().unwrap();
        assert!(status.success());
        let crd = copy.join("files/crds/edgeclusters.nave.dev.yaml");
        let newer = std::fs::read_to_string(&crd).unwrap();
        let column = "    - jsonPath: .status.agentVersion\n      name: Agent\n      type: string\n";
        assert!(newer.contains(column), "{}", &newer[..1500]);
        std::fs::write(&crd, newer.replace(column, "")).unwrap();
        copy
    }

    async fn crd_columns(&self) -> String {
        let path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}";
        self.kubectl.run(&["get", "crd", "edgeclusters.nave.dev", "-o", path]).await.unwrap()
    }

    async fn assert_permissions_of_hub_and_spoke(&self) {
        let values = charts().join("nave-agent/ci/claim.yaml").display().to_string();
        let place =
            ["--namespace", "nave-agent", "--create-namespace", "--set", "metrics.podMonitor.enabled=false"];
        let notes =
            self.helm(&[&["install", "nave-agent", "nave-agent", "--values", &values][..], &place].concat());
        assert!(notes.contains("kubectl nave accept bridge-a12"), "{notes}");
        let mut wrong = Vec::new();
        for (who, verb, resource, namespace, expected) in PERMISSIONS {
            if self.can(who, verb, resource, namespace).await != *expected {
                wrong.push(format!("{who} {verb} {resource} in {namespace:?} should be {expected}"));
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        self.helm(&["uninstall", "nave-agent", "--namespace", "nave-agent", "--wait"]);
        assert_eq!(self.left("nave-agent").await, Vec::<String>::new());
    }

    async fn can(&self, who: &str, verb: &str, resource: &str, namespace: &str) -> bool {
        let mut words = vec!["auth", "can-i", verb, "--as", who];
        // `secrets/name` is one object, `edgeclusters.nave.dev/status` a subresource.
        match resource.split_once('/') {
            Some((kind, "status")) => words.extend([kind, "--subresource", "status"]),
            Some(_) | None => words.push(resource),
        }
        match namespace {
            "" => words.push("--all-namespaces"),
            namespace => words.extend(["-n", namespace]),
        }
        let output = self.kubectl.command(&words).output().await.unwrap();
        match String::from_utf8_lossy(&output.stdout).trim() {
            "yes" => true,
            "no" => false,
            other => panic!("kubectl {words:?}: {other} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Objects of a release that are still there, CRDs aside.
    async fn left(&self, release: &str) -> Vec<String> {
        let kinds = "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,roles,rolebindings,clusterroles,\
            clusterrolebindings,networkpolicies,poddisruptionbudgets";
        let of = format!("app.kubernetes.io/instance={release}");
        let found =
            self.kubectl.run(&["get", kinds, "--all-namespaces", "-l", &of, "-o", "name"]).await.unwrap();
        found.lines().map(str::to_owned).collect()
    }
}

fn is_monitor(object: &str) -> bool {
    MONITORS.iter().any(|kind| object.lines().any(|line| line == *kind))
}

fn charts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("charts")
}
