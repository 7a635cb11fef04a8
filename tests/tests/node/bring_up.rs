//! The node itself: a pod of our own image runs on it as it would anywhere, and nothing is left of it afterwards.

use std::process::Command;

use nave_tests::node::{Image, Node};

use crate::site;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: tool, labels: {app: tool}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: tool
      image: node-tool:1
      args: [serve, "0.0.0.0:8000"]
      readinessProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1}
      securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"#;

#[test]
fn node_runs_a_pod_and_leaves_nothing() {
    let overcommit = || std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    let before = overcommit();
    let Some(node) = site::start() else { return };
    node.import(&Image::new("node-tool:1", env!("CARGO_BIN_EXE_node_tool"))).unwrap();
    let manifest = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(manifest.path(), POD).unwrap();
    kubectl(&node, &["apply", "-f", manifest.path().to_str().unwrap()]);
    kubectl(&node, &["wait", "--for=condition=Ready", "pod/tool", "--timeout=60s"]);

    let id = kubectl(&node, &["exec", "tool", "--", "/node_tool", "id"]);
    assert!(id.contains("Uid:\t65532\t65532\t65532\t65532"), "{id}");
    assert!(id.contains("CapEff:\t0000000000000000"), "{id}");
    assert!(id.contains("Seccomp:\t2"), "{id}");
    let refused = Command::new(site::kubectl_program())
        .args([
            "--kubeconfig",
            node.kubeconfig().to_str().unwrap(),
            "exec",
            "tool",
            "--",
            "/node_tool",
            "write",
            "/x",
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Read-only file system"), "{refused:?}");

    drop(node);
    assert!(!std::path::Path::new("/run/netns/nave-node").exists());
    assert!(!std::path::Path::new("/sys/fs/cgroup/memory/nave-node").exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/run/nave-node"), "{mounts}");
    assert_eq!(overcommit(), before, "the kernel is as it was");
}

fn kubectl(node: &Node, words: &[&str]) -> String {
    let output = Command::new(site::kubectl_program())
        .arg("--kubeconfig")
        .arg(node.kubeconfig())
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "kubectl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
