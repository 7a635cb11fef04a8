//! What the site is made of, found out from the kernel's own files; never guessed: what cannot be found out is 0 or absent.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nave_proto::v1;
use nave_runtime::drain::Drain;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    accelerators,
    activate::{FILES, HOOK},
    config::Config,
    observed::{Condition, Observed, Site},
    store::{Space, Store},
};

/// Disks fill slowly and accelerators break rarely; a look costs a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Free space is told when it changed by this much: a fleet that pulls must not write its hub full of numbers.
const SPACE_STEP: u64 = 256 << 20;

/// Where the kernel's files are; another root in tests.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), dev: "/dev".into() }
    }
}

/// Looks once.
pub fn look(config: &Config, store: &Store, roots: &Roots) -> Site {
    let accelerators = accelerators::detect(roots);
    let room = store.room().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot ask the store's room");
        Space { total: 0, available: 0 }
    });
    let capacity = v1::Capacity {
        architecture: architecture().to_owned(),
        cpu: cpus(roots),
        memory_bytes: memory(roots),
        storage_total_bytes: room.total,
        storage_available_bytes: room.available,
        runtimes: runtimes(config),
        accelerators,
    };
    let mut facts = found_facts(roots);
    // What the site says of itself stands over what was found.
    facts.extend(config.facts.clone());
    let peer_address = config.peer.as_ref().and_then(|peer| peer.advertise.clone()).unwrap_or_default();
    Site { accelerators: judge(&capacity.accelerators), capacity, facts, peer_address }
}

/// Looks again and again, and publishes what changed.
pub async fn keep_looking(
    config: Arc<Config>,
    store: Store,
    site: watch::Sender<Arc<Site>>,
    observed: watch::Receiver<Arc<Observed>>,
    drain: Drain,
) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.started() => return,
            _ = ticks.tick() => {}
        }
        let (config, store) = (Arc::clone(&config), store.clone());
        let looked = tokio::task::spawn_blocking(move || look(&config, &store, &Roots::default())).await;
        let Ok(mut next) = looked else { continue };
        for runtime in &mut next.capacity.runtimes {
            runtime.ready &=
                runtime.name == FILES || !matches!(observed.borrow().serving, Condition::Unhealthy(_));
        }
        site.send_if_modified(|current| {
            settle_space(&current.capacity, &mut next.capacity);
            let changed = **current != next;
            if changed {
                *current = Arc::new(next);
            }
            changed
        });
    }
}

/// A small change of free space is none.
fn settle_space(last: &v1::Capacity, next: &mut v1::Capacity) {
    if last.storage_available_bytes.abs_diff(next.storage_available_bytes) < SPACE_STEP {
        next.storage_available_bytes = last.storage_available_bytes;
    }
}

/// As OCI spells it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Processors that this process may use: fewer than the machine has, where its cgroup says so.
fn cpus(roots: &Roots) -> u32 {
    let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let online = read(&roots.proc.join("cpuinfo"))
        .map(|text| text.lines().filter(|line| line.starts_with("processor")).count())
        .filter(|count| *count > 0);
    u32::try_from(online.map_or(usable, |online| online.min(usable))).unwrap_or(u32::MAX)
}

/// Memory of the machine, or the cgroup's limit where that is less.
fn memory(roots: &Roots) -> u64 {
    let machine = read(&roots.proc.join("meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let machine = machine.map_or(0, |kib| kib.saturating_mul(1024));
    let group = read(&roots.proc.join("self/cgroup")).and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?.trim().to_owned();
        let base = roots.sys.join("fs/cgroup");
        let inner = base.join(path.trim_start_matches('/')).join("memory.max");
        [inner, base.join("memory.max"), base.join("memory/memory.limit_in_bytes")]
            .iter()
            .find_map(|file| read(file)?.trim().parse::<u64>().ok())
    });
    group.filter(|limit| *limit < machine).unwrap_or(machine)
}

fn runtimes(config: &Config) -> Vec<v1::Runtime> {
    let runtime = |name: &str| v1::Runtime { name: name.to_owned(), version: String::new(), ready: true };
    let files = config.files.then(|| runtime(FILES));
    let hook = config.hook.as_ref().map(|_| runtime(HOOK));
    files.into_iter().chain(hook).collect()
}

fn found_facts(roots: &Roots) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()) {
            facts.insert(name.to_owned(), value);
        }
    };
    add("os", Some(std::env::consts::OS.to_owned()));
    add("kernel", read(&roots.proc.join("sys/kernel/osrelease")));
    add("hostname", read(&roots.proc.join("sys/kernel/hostname")));
    add("product", read(&roots.sys.join("class/dmi/id/product_name")));
    add("board", read(&roots.proc.join("device-tree/model")).map(|text| text.replace('\0', "")));
    facts
}

/// Healthy = all that are there can be used; unknown where there is none.
fn judge(accelerators: &[v1::Accelerator]) -> Condition {
    let unusable: Vec<String> = accelerators
        .iter()
        .filter(|accelerator| !accelerator.usable)
        .map(|accelerator| format!("{} {}: {}", accelerator.vendor, accelerator.model, accelerator.reason))
        .collect();
    match (accelerators.is_empty(), unusable.is_empty()) {
        (true, _) => Condition::Unknown,
        (false, true) => Condition::Healthy,
        (false, false) => Condition::Unhealthy(unusable.join("; ")),
    }
}

pub(crate) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}
