//! kube-apiserver and etcd out of `KUBEBUILDER_ASSETS`, for machines without Go. There is no controller manager in it:
//! nothing is garbage-collected, and no ServiceAccount comes by itself.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rand::RngExt as _;

use crate::{
    daemon::{Daemon, without_callers_settings},
    ports::free_port,
};

/// The two programs.
#[derive(Debug)]
pub(super) struct Envtest {
    api_server: Daemon,
    etcd: Daemon,
    start: Start,
}

/// What a second start has to have from the first.
#[derive(Debug)]
struct Start {
    assets: PathBuf,
    folder: PathBuf,
    /// etcd's for its clients and for its peers.
    etcd: (u16, u16),
    api_server: u16,
}

impl Envtest {
    pub(super) fn start(assets: &Path, folder: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let start = Start {
            assets: assets.to_owned(),
            folder: folder.to_owned(),
            etcd: (free_port()?, free_port()?),
            api_server: free_port()?,
        };
        let token = hex::encode(rand::rng().random::<[u8; 16]>());
        write(&folder.join("tokens.csv"), &format!("{token},nave:admin,nave:admin,system:masters\n"))?;
        let key = rcgen::KeyPair::generate().context("making the service account key")?;
        write(&folder.join("service-account.key"), &key.serialize_pem())?;
        // It reads no public key out of a PKCS #8 file.
        write(&folder.join("service-account.pub"), &key.public_key_pem())?;
        let etcd = start.etcd()?;
        let api_server = start.api_server()?;
        write(kubeconfig, &administrators(folder, start.api_server, &token))?;
        Ok(Self { api_server, etcd, start })
    }

    pub(super) fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.etcd.ensure_running()?;
        self.api_server.ensure_running()
    }

    pub(super) fn kill(&mut self) {
        self.api_server.kill();
        self.etcd.kill();
    }

    /// After `kill`: same data, same ports, same keys.
    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        self.etcd = self.start.etcd()?;
        self.api_server = self.start.api_server()?;
        Ok(())
    }
}

impl Start {
    fn etcd(&self) -> anyhow::Result<Daemon> {
        let Self { assets, folder, etcd: (clients, peers), .. } = self;
        let configure = |command: &mut std::process::Command| {
            without_callers_settings(command);
            command.arg("--data-dir").arg(folder.join("etcd"));
            command.arg(format!("--listen-client-urls=http://127.0.0.1:{clients}"));
            command.arg(format!("--advertise-client-urls=http://127.0.0.1:{clients}"));
            command.arg(format!("--listen-peer-urls=http://127.0.0.1:{peers}"));
            command.args(["--unsafe-no-fsync", "--log-level=error"]);
        };
        Daemon::start("etcd", &assets.join("etcd"), configure, &folder.join("etcd.log"))
    }

    fn api_server(&self) -> anyhow::Result<Daemon> {
        let Self { assets, folder, etcd: (etcd, _), api_server } = self;
        let configure = |command: &mut std::process::Command| {
            without_callers_settings(command);
            let file = |name: &str| folder.join(name).display().to_string();
            command.args([
                format!("--etcd-servers=http://127.0.0.1:{etcd}"),
                format!("--secure-port={api_server}"),
                format!("--cert-dir={}", file("certificates")),
                format!("--token-auth-file={}", file("tokens.csv")),
                format!("--service-account-key-file={}", file("service-account.pub")),
                format!("--service-account-signing-key-file={}", file("service-account.key")),
            ]);
            command.args([
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--authorization-mode=RBAC",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--allow-privileged=true",
                // No controller manager makes the default ServiceAccount that this plugin insists on.
                "--disable-admission-plugins=ServiceAccount",
            ]);
        };
        Daemon::start(
            "kube-apiserver",
            &assets.join("kube-apiserver"),
            configure,
            &folder.join("kube-apiserver.log"),
        )
    }
}

/// The certificate that kube-apiserver makes for itself is its own CA; the file is there before it answers.
fn administrators(folder: &Path, port: u16, token: &str) -> String {
    let authority = folder.join("certificates/apiserver.crt");
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: nave\n\
         clusters: [{{name: nave, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: admin, user: {{token: '{token}'}}}}]\n\
         contexts: [{{name: nave, context: {{cluster: nave, user: admin}}}}]\n",
        authority.display()
    )
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
