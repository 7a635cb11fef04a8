//! containerd with runc and the bridge CNI plugin: its configuration, and images put into it by hand.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    Image,
    command::run,
    layout::{Layout, POD_RANGE, RUN},
    requirements::CNI_PLUGINS,
};

/// What every pod's first container runs; there is no registry to fetch the usual one from.
pub(super) const PAUSE_IMAGE: &str = "nave.test/pause:1";

/// Writes containerd's and CNI's configuration and returns containerd's command.
pub(super) fn configure(layout: &Layout) -> Result<Vec<String>> {
    let file = layout.file("containerd.toml");
    std::fs::write(&file, containerd(layout)).with_context(|| format!("write {}", file.display()))?;
    let network = layout.cni().join("10-nave.conflist");
    std::fs::write(&network, serde_json::to_vec_pretty(&bridge(layout))?)
        .with_context(|| format!("write {}", network.display()))?;
    Ok(vec!["containerd".to_owned(), "--config".to_owned(), file.display().to_string()])
}

/// Whether it answers.
pub(super) fn answers() -> bool {
    run(&["ctr", "--address", &Layout::socket(), "version"]).is_ok()
}

/// Builds the image and puts it where the kubelet looks.
pub(super) fn import(layout: &Layout, image: &Image) -> Result<()> {
    let archive = layout.file("image.tar");
    image.write(&archive)?;
    ctr(&["image", "import", &archive.display().to_string()])
        .with_context(|| format!("import {}", image.reference))?;
    std::fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))
}

/// Ends every container at once.
pub(super) fn end_tasks() -> Result<()> {
    for task in ctr(&["task", "list", "--quiet"])?.lines() {
        ctr(&["task", "remove", "--force", task])?;
    }
    Ok(())
}

fn ctr(words: &[&str]) -> Result<String> {
    let socket = Layout::socket();
    let mut all = vec!["ctr", "--address", &socket, "--namespace", "k8s.io"];
    all.extend(words);
    run(&all)
}

fn containerd(layout: &Layout) -> String {
    // restrict_oom_score_adj: the machine does not let us lower it. AppArmor is not there.
    format!(
        r#"version = 2
root = "{data}/containerd"
state = "{RUN}/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{data}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#,
        data = layout.data().display(),
        socket = Layout::socket(),
        cni = layout.cni().display(),
    )
}

fn bridge(layout: &Layout) -> serde_json::Value {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "nave",
        "plugins": [{
            "type": "bridge",
            "bridge": "nave0",
            "isGateway": true,
            "ipMasq": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": Path::new(layout.data()).join("addresses"),
                "ranges": [[{"subnet": POD_RANGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}
