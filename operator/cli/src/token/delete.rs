//! `token delete`: a token that can no longer be used.

use std::io::Write;

use anyhow::{Context as _, anyhow};
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use nave_crds::join_token;

use crate::{connection::Connection, failure};

/// Delete tokens: nobody can join with them any more; whoever joined stays
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Ids of tokens, as `token list` shows them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Delete {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let hub = connection.connect().await?;
        let namespace = hub.hub_namespace();
        let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
        let mut failures = Vec::new();
        for id in &self.ids {
            match delete(&secrets, id).await {
                Ok(()) => writeln!(out, "token {id} deleted")?,
                Err(error) => {
                    failures.push(format!("deleting token {id} in namespace {namespace}: {error:#}"))
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(anyhow!(failures.join("\n       "))) }
    }
}

/// Deletes only what is a token: a mistyped name must not cost another Secret.
async fn delete(secrets: &Api<Secret>, id: &str) -> anyhow::Result<()> {
    // Whole tokens are pasted too; the part after the dot is not needed and not sent.
    let id = id.split_once('.').map_or(id, |(id, _)| id);
    let name = format!("{}{id}", join_token::SECRET_NAME_PREFIX);
    let secret = secrets.get(&name).await.map_err(failure::said)?;
    if secret.type_.as_deref() != Some(join_token::SECRET_TYPE) {
        return Err(anyhow!("Secret {name} is not of type {}", join_token::SECRET_TYPE));
    }
    secrets
        .delete(&name, &DeleteParams::default())
        .await
        .map_err(failure::said)
        .context("deleting its Secret")?;
    Ok(())
}
