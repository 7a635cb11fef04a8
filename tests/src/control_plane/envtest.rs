//! kube-apiserver and etcd out of `KUBEBUILDER_ASSETS`, for machines without Go. There is no controller manager in it:
//! nothing is garbage-collected, and no ServiceAccount comes by itself.

use std::path::Path;

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
}

impl Envtest {
    pub(super) fn start(assets: &Path, folder: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let (clients, peers, port) = (free_port()?, free_port()?, free_port()?);
        let etcd = start_etcd(assets, folder, clients, peers)?;
        let token = hex::encode(rand::rng().random::<[u8; 16]>());
        write(&folder.join("tokens.csv"), &format!("{token},nave:admin,nave:admin,system:masters\n"))?;
        let key = rcgen::KeyPair::generate().context("making the service account key")?;
        write(&folder.join("service-account.key"), &key.serialize_pem())?;
        let api_server = start_api_server(assets, folder, clients, port)?;
        write(kubeconfig, &administrators(folder, port, &token))?;
        Ok(Self { api_server, etcd })
    }

    pub(super) fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.etcd.ensure_running()?;
        self.api_server.ensure_running()
    }

    pub(super) fn kill(&mut self) {
        self.api_server.kill();
        self.etcd.kill();
    }
}

fn start_etcd(assets: &Path, folder: &Path, clients: u16, peers: u16) -> anyhow::Result<Daemon> {
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

fn start_api_server(assets: &Path, folder: &Path, etcd: u16, port: u16) -> anyhow::Result<Daemon> {
    let configure = |command: &mut std::process::Command| {
        without_callers_settings(command);
        let file = |name: &str| folder.join(name).display().to_string();
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", file("certificates")),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--service-account-key-file={}", file("service-account.key")),
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
