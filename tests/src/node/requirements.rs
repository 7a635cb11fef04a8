//! What a machine must have to be a node, and what to say where it has not.

use std::path::Path;

/// Programs that must be on PATH, and the Debian package that brings each.
const PROGRAMS: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nsenter", "util-linux"),
];

/// Where Debian puts the CNI plugins.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Why this machine cannot be a node; `None` when it can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a node needs root: network namespaces, cgroups and mounts".to_owned());
    }
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if !Path::new(CNI_PLUGINS).join("bridge").exists() {
        packages.push("containernetworking-plugins");
    }
    packages.dedup();
    if packages.is_empty() {
        return None;
    }
    Some(format!("a node needs: apt-get install -y --no-install-recommends {}", packages.join(" ")))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
