//! A site behind one thin uplink: a gateway and its nodes, each in a network namespace of its own, on one LAN. The uplink is shaped
//! and may lose packets; what goes over it is counted. Nothing of it leaves the machine, and nothing of it is left behind: all names
//! have one prefix, and the next lab takes away what a killed one left.

mod relay;

use std::{fs, fs::File, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

pub use relay::{DelayRelay, Delivered};

/// What all namespaces and interfaces are called by.
const PREFIX: &str = "nave-net";
/// This machine's end of the uplink.
const OUTSIDE: &str = "nave-net0";
const INSIDE: &str = "nave-net1";
/// This machine, as the site sees it.
pub const OUTSIDE_ADDRESS: &str = "10.214.0.1";
const INSIDE_ADDRESS: &str = "10.214.0.2";
const LAN: &str = "10.214.1";

/// The uplink.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    /// Both ways, as tc has it: `2mbit`.
    pub rate: &'static str,
    /// Of a hundred packets, in each direction.
    pub loss: u32,
}

/// The site; gone when dropped.
#[derive(Debug)]
pub struct Lab {
    /// One lab at a time.
    _lock: File,
}

/// Why this machine cannot have one; `None` when it can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let needed = [("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")];
    let lacking: Vec<_> =
        needed.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    (!lacking.is_empty()).then(|| {
        format!("network namespaces need: apt-get install -y --no-install-recommends {}", lacking.join(" "))
    })
}

impl Lab {
    /// Makes a site with so many nodes, numbered from 0.
    ///
    /// # Errors
    /// A command failed; the error says which and what it said.
    pub fn start(nodes: usize, uplink: Uplink) -> Result<Self> {
        let path = format!("/run/{PREFIX}.lock");
        let lock = File::create(&path).with_context(|| format!("create {path}"))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {path}"))?;
        sweep()?;
        let lab = Self { _lock: lock };
        lab.make_gateway(uplink)?;
        (0..nodes).try_for_each(|node| lab.make_node(node))?;
        Ok(lab)
    }

    fn make_gateway(&self, uplink: Uplink) -> Result<()> {
        let gateway = &gateway();
        run(&["ip", "netns", "add", gateway])?;
        run(&["ip", "link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", gateway])?;
        run(&["ip", "address", "add", &format!("{OUTSIDE_ADDRESS}/30"), "dev", OUTSIDE])?;
        run(&["ip", "link", "set", OUTSIDE, "up"])?;
        run(&["ip", "-n", gateway, "address", "add", &format!("{INSIDE_ADDRESS}/30"), "dev", INSIDE])?;
        run(&["ip", "-n", gateway, "link", "set", INSIDE, "up"])?;
        run(&["ip", "-n", gateway, "route", "add", "default", "via", OUTSIDE_ADDRESS])?;
        run(&["ip", "-n", gateway, "link", "add", "lan", "type", "bridge"])?;
        run(&["ip", "-n", gateway, "address", "add", &format!("{LAN}.1/24"), "dev", "lan"])?;
        run(&["ip", "-n", gateway, "link", "set", "lan", "up"])?;
        run(&["ip", "route", "add", &format!("{LAN}.0/24"), "via", INSIDE_ADDRESS])?;
        inside(gateway, "echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        let shape = format!("root tbf rate {} burst 64kb latency 300ms", uplink.rate);
        run(&["sh", "-c", &format!("tc qdisc add dev {OUTSIDE} {shape}")])?;
        inside(gateway, &format!("tc qdisc add dev {INSIDE} {shape}"))?;
        if uplink.loss > 0 {
            inside(
                gateway,
                &format!(
                    "nft 'table inet lossy {{ chain forward {{ type filter hook forward priority 0; \
                 meta iifname {INSIDE} numgen random mod 100 < {loss} drop; meta oifname {INSIDE} numgen random mod 100 < {loss} drop; }}; }}'",
                    loss = uplink.loss
                ),
            )?;
        }
        Ok(())
    }

    fn make_node(&self, node: usize) -> Result<()> {
        let (name, port, gateway) = (&Self::namespace(node), &format!("n{node}"), &gateway());
        run(&["ip", "netns", "add", name])?;
        run(&[
            "ip", "-n", gateway, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name,
        ])?;
        run(&["ip", "-n", gateway, "link", "set", port, "master", "lan", "up"])?;
        run(&["ip", "-n", name, "address", "add", &format!("{}/24", Self::address(node)), "dev", "eth0"])?;
        run(&["ip", "-n", name, "link", "set", "eth0", "up"])?;
        run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
        run(&["ip", "-n", name, "route", "add", "default", "via", &format!("{LAN}.1")])?;
        Ok(())
    }

    /// The namespace of a node.
    pub fn namespace(node: usize) -> String {
        format!("{PREFIX}-{node}")
    }

    /// The address of a node on the LAN.
    pub fn address(node: usize) -> String {
        format!("{LAN}.{}", 10 + node)
    }

    /// Bytes that came down the uplink so far, headers included.
    ///
    /// # Errors
    /// The uplink is gone.
    pub fn downloaded(&self) -> Result<u64> {
        let path = format!("/sys/class/net/{OUTSIDE}/statistics/tx_bytes");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        text.trim().parse().with_context(|| format!("read {path}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = sweep() {
            tracing::warn!(error = format!("{error:#}"), "something of the lab is left");
        }
    }
}

fn gateway() -> String {
    format!("{PREFIX}-gateway")
}

/// Takes away whatever has the prefix. Interfaces, qdiscs and tables of a namespace go with it.
fn sweep() -> Result<()> {
    if Path::new("/sys/class/net").join(OUTSIDE).exists() {
        run(&["ip", "link", "delete", OUTSIDE])?;
    }
    let Ok(namespaces) = fs::read_dir("/run/netns") else { return Ok(()) };
    for namespace in namespaces.flatten() {
        let name = namespace.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            run(&["ip", "netns", "delete", &name])?;
        }
    }
    Ok(())
}

fn inside(namespace: &str, line: &str) -> Result<()> {
    run(&["nsenter", &format!("--net=/run/netns/{namespace}"), "sh", "-c", line])
}

fn run(words: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = words else { bail!("no command to run") };
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("run {}", words.join(" ")))?;
    if !output.status.success() {
        bail!("{} failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
