//! Accelerators, found on the PCI bus first: a device that is there but cannot be used is said with the reason, and never
//! left out. NVIDIA and AMD on PCI, and the Jetsons' built-in GPU.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nave_proto::v1::Accelerator;

use crate::facts::{Roots, read};

/// PCI ids of vendors.
const NVIDIA: &str = "0x10de";
const AMD: &str = "0x1002";

/// Every accelerator, in the order of the bus.
pub(crate) fn detect(roots: &Roots) -> Vec<Accelerator> {
    let mut found = Vec::new();
    let mut nvidia = 0;
    for device in pci_devices(roots) {
        let id = |name: &str| read(&device.join(name)).unwrap_or_default().trim().to_owned();
        // VGA, 3D controllers, display controllers, processing accelerators.
        let class = id("class");
        if !["0x0300", "0x0302", "0x0380", "0x1200"].iter().any(|wanted| class.starts_with(wanted)) {
            continue;
        }
        match id("vendor").as_str() {
            NVIDIA => {
                found.push(nvidia_card(roots, &device, nvidia));
                nvidia += 1;
            }
            AMD => found.push(amd_card(roots, &device)),
            _ => {}
        }
    }
    found.extend(jetson(roots));
    found
}

fn pci_devices(roots: &Roots) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(roots.sys.join("bus/pci/devices")) else { return Vec::new() };
    let mut devices: Vec<PathBuf> = list.filter_map(|entry| Some(entry.ok()?.path())).collect();
    devices.sort_unstable();
    devices
}

fn nvidia_card(roots: &Roots, device: &Path, index: usize) -> Accelerator {
    let address = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let information = read(&roots.proc.join("driver/nvidia/gpus").join(&address).join("information"));
    let model = information.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(line.trim().to_owned())
    });
    let driver = read(&roots.sys.join("module/nvidia/version")).unwrap_or_default().trim().to_owned();
    let loaded = roots.proc.join("driver/nvidia/version").exists();
    let reason = if !loaded {
        Some("the nvidia kernel module is not loaded".to_owned())
    } else if information.is_none() {
        Some(format!("the driver does not drive the device at {address}"))
    } else {
        [roots.dev.join("nvidiactl"), roots.dev.join(format!("nvidia{index}"))]
            .iter()
            .find_map(|node| why_unusable(node))
    };
    Accelerator {
        vendor: "nvidia".to_owned(),
        model: model.unwrap_or_else(|| pci_name(device)),
        memory_bytes: 0,
        driver,
        usable: reason.is_none(),
        reason: reason.unwrap_or_default(),
    }
}

fn amd_card(roots: &Roots, device: &Path) -> Accelerator {
    let number = |name: &str| read(&device.join(name)).and_then(|text| text.trim().parse().ok());
    let driver = fs::read_link(device.join("driver")).ok();
    let driver =
        driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned())).unwrap_or_default();
    let reason = if driver == "amdgpu" {
        why_unusable(&roots.dev.join("kfd"))
    } else {
        Some("the amdgpu kernel module does not drive it".to_owned())
    };
    Accelerator {
        vendor: "amd".to_owned(),
        model: read(&device.join("product_name"))
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| pci_name(device)),
        memory_bytes: number("mem_info_vram_total").unwrap_or(0),
        driver,
        usable: reason.is_none(),
        reason: reason.unwrap_or_default(),
    }
}

/// NVIDIA's boards with the GPU on the chip have no PCI device for it; the device tree names them.
fn jetson(roots: &Roots) -> Option<Accelerator> {
    let compatible = read(&roots.proc.join("device-tree/compatible"))?;
    if !compatible.contains("nvidia,tegra") {
        return None;
    }
    let model = read(&roots.proc.join("device-tree/model")).unwrap_or_default().replace('\0', "");
    let reason = why_unusable(&roots.dev.join("nvhost-gpu")).and_then(|first| {
        // Newer kernels name the node otherwise.
        why_unusable(&roots.dev.join("nvgpu/igpu0/ctrl")).map(|_| first)
    });
    Some(Accelerator {
        vendor: "nvidia".to_owned(),
        model,
        memory_bytes: 0,
        driver: "nvgpu".to_owned(),
        usable: reason.is_none(),
        reason: reason.unwrap_or_default(),
    })
}

fn why_unusable(node: &Path) -> Option<String> {
    match fs::OpenOptions::new().read(true).write(true).open(node) {
        Ok(_) => None,
        Err(error) => Some(format!("{}: {error}", node.display())),
    }
}

fn pci_name(device: &Path) -> String {
    let id =
        |name: &str| read(&device.join(name)).unwrap_or_default().trim().trim_start_matches("0x").to_owned();
    format!("pci {}:{}", id("vendor"), id("device"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        dir: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn write(&self, path: &str, text: &str) -> &Self {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn card(&self, vendor: &str) -> &Self {
            let device = "sys/bus/pci/devices/0000:01:00.0";
            self.write(&format!("{device}/class"), "0x030200\n")
                .write(&format!("{device}/vendor"), &format!("{vendor}\n"))
                .write(&format!("{device}/device"), "0x20b0\n")
        }

        fn detect(&self) -> Vec<Accelerator> {
            let root = self.dir.path();
            detect(&Roots { proc: root.join("proc"), sys: root.join("sys"), dev: root.join("dev") })
        }
    }

    #[test]
    fn nothing_on_the_bus_is_nothing() {
        let machine = Machine::new();
        machine.write("sys/bus/pci/devices/0000:00:1f.0/class", "0x060100\n");
        assert!(machine.detect().is_empty());
    }

    #[test]
    fn a_card_without_its_driver_is_said_and_not_left_out() {
        let machine = Machine::new();
        machine.card(NVIDIA);
        let found = machine.detect();
        assert_eq!((found[0].model.as_str(), found[0].usable), ("pci 10de:20b0", false));
        assert_eq!(found[0].reason, "the nvidia kernel module is not loaded");
    }

    #[test]
    fn a_driver_without_device_nodes_is_no_use_and_with_them_it_is() {
        let machine = Machine::new();
        machine
            .card(NVIDIA)
            .write("proc/driver/nvidia/version", "NVRM version")
            .write("sys/module/nvidia/version", "550.54\n")
            .write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA A100\nIRQ: 1\n");
        let found = machine.detect();
        assert!(!found[0].usable && found[0].reason.contains("nvidiactl"), "{found:?}");
        machine.write("dev/nvidiactl", "").write("dev/nvidia0", "");
        let found = machine.detect();
        assert_eq!(
            (found[0].model.as_str(), found[0].driver.as_str(), found[0].usable),
            ("NVIDIA A100", "550.54", true)
        );
    }

    #[test]
    fn an_amd_card_tells_its_memory() {
        let machine = Machine::new();
        machine.card(AMD).write("sys/bus/pci/devices/0000:01:00.0/mem_info_vram_total", "17163091968\n");
        let found = machine.detect();
        assert_eq!((found[0].memory_bytes, found[0].usable), (17_163_091_968, false));
    }
}
