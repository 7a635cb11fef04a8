//! The node itself: a pod of our own image runs on it as it would anywhere, and nothing is left of it.

use nave_tests::node::Image;

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
      ports: [{name: http, containerPort: 8000}]
      securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"#;

#[tokio::test]
async fn node_runs_a_pod_and_leaves_nothing() {
    let Some(node) = site::start().await else { return };
    node.import(&Image::new("node-tool:1", site::node_tool())).unwrap();
    let kubectl = node.kubectl().unwrap();
    kubectl.apply(POD).await.unwrap();
    kubectl.run(&["wait", "--for=condition=Ready", "pod/tool", "--timeout=120s"]).await.unwrap();

    let id = kubectl.run(&["exec", "tool", "--", "/node_tool", "id"]).await.unwrap();
    assert!(id.contains("Uid:\t65532\t65532\t65532\t65532"), "{id}");
    assert!(id.contains("CapEff:\t0000000000000000"), "{id}");
    assert!(id.contains("Seccomp:\t2"), "{id}");
    let refused = kubectl.run(&["exec", "tool", "--", "/node_tool", "write", "/x"]).await.unwrap_err();
    assert!(refused.to_string().contains("Read-only file system"), "{refused}");

    drop(node);
    assert!(!std::path::Path::new("/run/netns/nave-node").exists());
    assert!(!std::path::Path::new("/sys/class/net/nave-node0").exists());
    for hierarchy in ["memory", "cpuset", "unified"] {
        let cgroup = std::path::Path::new("/sys/fs/cgroup").join(hierarchy).join("nave-node");
        assert!(!cgroup.exists(), "{} is left", cgroup.display());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("nave-node"), "{mounts}");
}
