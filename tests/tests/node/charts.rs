//! The story of a site, with nothing but the charts: the hub and a spoke run as pods, the spoke joins, pulls, verifies and
//! serves; both are upgraded and killed; the uninstall leaves what it should.

use std::{fs, path::Path};

use crate::fleet::{CLUSTER, Fleet, SPOKE, SYSTEM};

const HUB: &str = "deployment/nave-operator";
const AGENT: &str = "statefulset/nave-agent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_runs_hub_and_spoke_from_their_charts() {
    let Some(fleet) = Fleet::start().await else { return };
    fleet.install_hub("replicas=2").await.unwrap();
    let join = fleet.join_spoke().await.unwrap();
    fleet.wait_rolled_out(SPOKE, AGENT).await.unwrap();
    let joined = fleet.wait_connected().await.unwrap();
    let (first_files, first) = fleet.publish("1.0.0", 1).await.unwrap();
    fleet.place("1.0.0").await.unwrap();
    fleet.wait_serving(&first, &first_files).await.unwrap();
    for (binary, count) in [("/nave-operator", 2), ("/nave-agent", 1)] {
        let confined = confinement_of(binary);
        assert_eq!(confined.len(), count, "{binary}");
        for process in confined {
            assert_eq!(process, CONFINED, "{binary}");
        }
    }

    // Upgrades: the spoke keeps its identity (its token is used up, so it could not join anew) and what it serves.
    let upgrade = join.replacen("helm install", "helm upgrade", 1);
    fleet.shell(&format!("{upgrade} --set-string facts.line=3")).await.unwrap();
    fleet.wait_rolled_out(SPOKE, AGENT).await.unwrap();
    fleet.install_hub("replicas=1").await.unwrap();
    fleet.ensure_on_disk(&first_files).unwrap();
    let upgraded = fleet.wait_fact("line", "3").await.unwrap();
    assert_eq!(upgraded["status"]["identity"], joined["status"]["identity"]);

    // Killed: both come back, and the next version still gets through.
    fleet.kill_pods(SPOKE, AGENT).await.unwrap();
    fleet.ensure_on_disk(&first_files).unwrap();
    fleet.kill_pods(SYSTEM, HUB).await.unwrap();
    let (second_files, second) = fleet.publish("1.1.0", 2).await.unwrap();
    fleet.place("1.1.0").await.unwrap();
    fleet.wait_serving(&second, &second_files).await.unwrap();

    // Uninstalled: weights and identity stay on the spoke's disk, the fleet's objects and its CA at the hub.
    fleet.shell(&format!("helm uninstall nave-agent --namespace {SPOKE} --wait")).await.unwrap();
    fleet.shell(&format!("helm uninstall nave-operator --namespace {SYSTEM} --wait")).await.unwrap();
    assert_eq!(fleet.objects(SPOKE).await, ["persistentvolumeclaim/state-nave-agent-0"]);
    fleet.ensure_on_disk(&second_files).unwrap();
    let left = fleet.objects(SYSTEM).await;
    assert!(left.contains(&"secret/nave-ca".to_owned()), "{left:?}");
    assert!(
        left.iter().all(|name| name.starts_with("secret/nave-") || name.starts_with("lease.")),
        "{left:?}"
    );
    let cluster = fleet.kubectl.run(&["get", "edgecluster", "-o", "name"]).await.unwrap();
    assert_eq!(cluster.trim(), format!("edgecluster.nave.dev/{CLUSTER}"));
}

impl Fleet {
    /// What is in a namespace, beside what Kubernetes puts into every one.
    async fn objects(&self, namespace: &str) -> Vec<String> {
        let kinds = "all,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,\
            persistentvolumeclaims,leases";
        // Pods end a moment after what owned them.
        self.kubectl
            .run(&["-n", namespace, "wait", "--for=delete", "pods", "--all", "--timeout=120s"])
            .await
            .unwrap();
        let found = self.kubectl.run(&["-n", namespace, "get", kinds, "-o", "name"]).await.unwrap();
        let everywhere = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
        found.lines().filter(|name| !everywhere.contains(name)).map(str::to_owned).collect()
    }
}

/// Uid, capabilities, seccomp filter, no new privileges, root file system.
type Confinement = [String; 5];
const CONFINED: [&str; 5] = ["65532", "0000000000000000", "2", "1", "ro"];

/// What the kernel says of the processes of a binary on the node.
fn confinement_of(binary: &str) -> Vec<Confinement> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let process = entry.unwrap().path();
        if is_on_node(&process, binary) {
            let status = fs::read_to_string(process.join("status")).unwrap();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                line.split_whitespace().next().unwrap_or_default().to_owned()
            };
            let mounts = fs::read_to_string(process.join("mountinfo")).unwrap();
            let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
            let options = root.split(' ').nth(5).unwrap().split(',').next().unwrap().to_owned();
            found.push([field("Uid:"), field("CapEff:"), field("Seccomp:"), field("NoNewPrivs:"), options]);
        }
    }
    found
}

fn is_on_node(process: &Path, binary: &str) -> bool {
    let runs = fs::read(process.join("cmdline"))
        .is_ok_and(|line| line.starts_with(format!("{binary}\0").as_bytes()));
    runs && fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains("/nave-node/"))
}
