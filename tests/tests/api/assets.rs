//! `KUBEBUILDER_ASSETS`: kube-apiserver and etcd of their own, with nothing beside them, do as a control plane too.

use std::{env, os::unix::fs::symlink, process::Command};

use anyhow::{Context as _, Result, ensure};
use nave_tests::Tools;

/// The command that the test environment is started for: a new ServiceAccount's token is taken by the server that made it.
const COMMAND: &str = r#"set -eu
admin() { "$KUBECTL" --kubeconfig "$NAVE_TEST_KUBECONFIG" "$@"; }
admin get --raw /readyz
admin get edgeclusters,placementpolicies,modelversions
admin create serviceaccount somebody
as=$(admin create token somebody)
"$KUBECTL" --kubeconfig /dev/null --server "$(admin config view -o jsonpath='{.clusters[0].cluster.server}')" \
  --insecure-skip-tls-verify --token "$as" auth whoami -o jsonpath='{.status.userInfo.username}'
"#;

#[test]
fn api_the_harness_runs_on_kubebuilder_assets() -> Result<()> {
    let tools = Tools::load()?;
    let folder = tempfile::tempdir()?;
    let assets = match env::var_os("KUBEBUILDER_ASSETS") {
        Some(assets) => assets.into(),
        None if env::var_os("NAVE_KUBECONFIG").is_some() => return Ok(()),
        None => {
            let assets = folder.path().join("assets");
            std::fs::create_dir(&assets)?;
            for name in ["kube-apiserver", "etcd"] {
                symlink(tools.fetched("controlplane")?, assets.join(name))?;
            }
            assets
        }
    };
    let output = Command::new(tools.ours("nave-testenv")?)
        .args(["--", "sh", "-c", COMMAND])
        .env("KUBEBUILDER_ASSETS", assets)
        .env("KUBECTL", tools.fetched("kubectl")?)
        .env("TMPDIR", folder.path())
        .output()
        .context("running nave-testenv")?;
    let (said, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}:\n{said}\n{errors}", output.status);
    ensure!(
        said.starts_with("ok") && said.ends_with("system:serviceaccount:default:somebody"),
        "{said}\n{errors}"
    );
    Ok(())
}
