//! The node's network: a namespace of its own, and one veth pair to this machine. Nothing of it leaves the machine.

use std::path::Path;

use anyhow::Result;

use super::{
    command::run,
    layout::{HOST_ADDRESS, NAME, NODE_ADDRESS},
};

const HOST_END: &str = "nave-node0";
const NODE_END: &str = "nave-node1";

/// What is put before a command so that it runs on the node's network. Not `ip netns exec`: that one mounts /sys anew,
/// and the kubelet then finds no cgroups.
pub(super) fn inside() -> [String; 2] {
    ["nsenter".to_owned(), format!("--net=/run/netns/{NAME}")]
}

/// Makes the namespace and the pair.
pub(super) fn create() -> Result<()> {
    run(&["ip", "netns", "add", NAME])?;
    run(&["ip", "link", "add", HOST_END, "type", "veth", "peer", "name", NODE_END, "netns", NAME])?;
    run(&["ip", "address", "add", &format!("{HOST_ADDRESS}/30"), "dev", HOST_END])?;
    run(&["ip", "link", "set", HOST_END, "up"])?;
    run(&["ip", "-n", NAME, "address", "add", &format!("{NODE_ADDRESS}/30"), "dev", NODE_END])?;
    run(&["ip", "-n", NAME, "link", "set", NODE_END, "up"])?;
    run(&["ip", "-n", NAME, "link", "set", "lo", "up"])?;
    run(&["ip", "-n", NAME, "route", "add", "default", "via", HOST_ADDRESS])?;
    let [nsenter, namespace] = inside();
    // Pods are behind a bridge: the node routes for them.
    run(&[&nsenter, &namespace, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    Ok(())
}

/// Takes both away, where they are.
pub(super) fn remove() -> Result<()> {
    if Path::new("/sys/class/net").join(HOST_END).exists() {
        run(&["ip", "link", "delete", HOST_END])?;
    }
    if Path::new("/run/netns").join(NAME).exists() {
        run(&["ip", "netns", "delete", NAME])?;
    }
    Ok(())
}
