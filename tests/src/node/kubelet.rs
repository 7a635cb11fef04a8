//! The kubelet, kube-proxy and the scheduler: their configuration and commands.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::layout::{Layout, NAME, NODE_ADDRESS, POD_RANGE};

/// Writes the kubelet's configuration and returns its arguments.
pub(super) fn kubelet(layout: &Layout, kubeconfig: &Path) -> Result<Vec<String>> {
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{NAME}"),
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": false,
        "containerRuntimeEndpoint": format!("unix://{}", Layout::socket()),
        "address": NODE_ADDRESS,
        "healthzPort": 0,
        "failSwapOn": false,
        // Pods get no name server: there is none.
        "resolvConf": "",
        "podLogsDir": layout.file("pod-logs"),
        "volumePluginDir": layout.file("volume-plugins"),
        // Only this machine reaches the node's address.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        // Images are imported by hand: collected ones could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi"},
        "localStorageCapacityIsolation": false,
        "shutdownGracePeriod": "0s",
        "syncFrequency": "5s",
    });
    let file = write(layout, "kubelet.json", &configuration)?;
    Ok(vec![
        "kubelet".to_owned(),
        format!("--config={file}"),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--root-dir={}", layout.file("kubelet").display()),
        format!("--cert-dir={}", layout.file("kubelet-pki").display()),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={NODE_ADDRESS}"),
    ])
}

/// Writes kube-proxy's configuration and returns its arguments: Services work as on any node.
pub(super) fn proxy(layout: &Layout, kubeconfig: &Path) -> Result<Vec<String>> {
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": kubeconfig},
        "hostnameOverride": NAME,
        "clusterCIDR": POD_RANGE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // These are the whole kernel's, and stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    });
    let file = write(layout, "kube-proxy.json", &configuration)?;
    Ok(vec!["kube-proxy".to_owned(), format!("--config={file}")])
}

/// The scheduler's arguments.
pub(super) fn scheduler(kubeconfig: &Path) -> Vec<String> {
    let kubeconfig = kubeconfig.display();
    vec![
        "kube-scheduler".to_owned(),
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}

fn write(layout: &Layout, name: &str, value: &serde_json::Value) -> Result<String> {
    let file = layout.file(name);
    std::fs::write(&file, serde_json::to_vec_pretty(value)?)
        .with_context(|| format!("write {}", file.display()))?;
    Ok(file.display().to_string())
}
