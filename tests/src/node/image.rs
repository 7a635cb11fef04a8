//! Builds images without a container engine: a docker archive that `ctr image import` takes, with the layout that the
//! Dockerfile's targets have (one static binary, CA certificates, who runs it), from the binaries that the tests run.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::tar::Tar;

const CA_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const PASSWD: &[u8] = b"nave:x:65532:65532:nave:/nonexistent:/sbin/nologin\n";
const GROUP: &[u8] = b"nave:x:65532:\n";
const NSSWITCH: &[u8] = b"hosts: files dns\n";

/// An image to build.
#[derive(Clone, Debug)]
pub struct Image {
    /// As a pod names it: `nave-agent:0.1.0`.
    pub reference: String,
    /// The static binary, which becomes `/<file name>` and the entry point.
    pub binary: PathBuf,
}

impl Image {
    /// An image of one static binary.
    pub fn new(reference: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        Self { reference: reference.into(), binary: binary.into() }
    }

    /// Writes the archive to `to`.
    ///
    /// # Errors
    /// When the binary is missing, or a file cannot be written.
    pub fn write(&self, to: &Path) -> Result<()> {
        let layer = to.with_extension("layer");
        let diff_id = self.write_layer(&layer).with_context(|| format!("layer of {}", self.reference))?;
        let config = serde_json::to_vec(&self.config(&diff_id)?)?;
        let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
        let manifest = json!([{"Config": config_name, "RepoTags": [self.canonical_reference()], "Layers": ["layer.tar"]}]);

        let mut archive = Tar::new(BufWriter::new(create(to)?));
        let content = File::open(&layer)?;
        archive.file("layer.tar", 0o644, content.metadata()?.len(), content)?;
        archive.bytes(&config_name, 0o644, &config)?;
        archive.bytes("manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
        archive.finish()?;
        std::fs::remove_file(&layer).with_context(|| format!("remove {}", layer.display()))
    }

    /// As containerd spells what a pod calls `nave-agent:0.1.0`.
    pub fn canonical_reference(&self) -> String {
        let first = self.reference.split('/').next().unwrap_or_default();
        if first.contains('.') && self.reference.contains('/') {
            self.reference.clone()
        } else {
            format!("docker.io/library/{}", self.reference)
        }
    }

    fn write_layer(&self, to: &Path) -> Result<String> {
        let binary = File::open(&self.binary)
            .with_context(|| format!("open {} (cargo build --workspace makes it)", self.binary.display()))?;
        let size = binary.metadata()?.len();
        let certificates = std::fs::read(CA_CERTIFICATES)
            .with_context(|| format!("read {CA_CERTIFICATES} (Debian: ca-certificates)"))?;
        let mut layer = Tar::new(Hashed { out: BufWriter::new(create(to)?), hasher: Sha256::new() });
        for folder in ["etc/", "etc/ssl/", "etc/ssl/certs/"] {
            layer.folder(folder, 0o755)?;
        }
        layer.bytes("etc/ssl/certs/ca-certificates.crt", 0o644, &certificates)?;
        layer.bytes("etc/passwd", 0o644, PASSWD)?;
        layer.bytes("etc/group", 0o644, GROUP)?;
        layer.bytes("etc/nsswitch.conf", 0o644, NSSWITCH)?;
        layer.file(&self.binary_name()?, 0o755, size, binary)?;
        Ok(format!("sha256:{}", hex::encode(layer.finish()?.hasher.finalize())))
    }

    fn config(&self, diff_id: &str) -> Result<serde_json::Value> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": "65532:65532",
                "Entrypoint": [format!("/{}", self.binary_name()?)],
                "Env": ["PATH=/"],
                "Labels": {"org.opencontainers.image.licenses": "Apache-2.0"},
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "nave-tests"}],
        }))
    }

    fn binary_name(&self) -> Result<String> {
        let name = self.binary.file_name().and_then(|name| name.to_str());
        ensure!(name.is_some(), "{} has no file name", self.binary.display());
        Ok(name.unwrap_or_default().to_owned())
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("create {}", path.display()))
}

/// Hashes what passes.
struct Hashed<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_dockerfiles() {
        let dockerfile = include_str!("../../../Dockerfile");
        for (content, file) in [(PASSWD, "passwd"), (GROUP, "group"), (NSSWITCH, "nsswitch.conf")] {
            let line = std::str::from_utf8(content).unwrap().trim_end();
            let made = format!("echo '{line}' > /rootfs/etc/{file}");
            assert!(dockerfile.contains(&made), "the Dockerfile has no {made}");
        }
        assert!(
            dockerfile.contains("FROM scratch AS nave-operator")
                && dockerfile.contains("FROM scratch AS nave-agent")
        );
        assert_eq!(dockerfile.matches("USER 65532:65532").count(), 2);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(dockerfile.matches(&format!("image.version=\"{version}\"")).count(), 2);
    }

    #[test]
    fn the_same_binary_gives_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("tool");
        std::fs::write(&binary, [7; 1000]).unwrap();
        let image = Image::new("tool:1", &binary);
        let archives = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
        for archive in &archives {
            image.write(archive).unwrap();
        }
        let [one, other] = archives.map(|archive| std::fs::read(archive).unwrap());
        assert!(one == other);
        assert_eq!(one.len() % 512, 0);
        assert_eq!(image.canonical_reference(), "docker.io/library/tool:1");
        assert_eq!(Image::new("nave.test/pause:1", &binary).canonical_reference(), "nave.test/pause:1");
    }
}
