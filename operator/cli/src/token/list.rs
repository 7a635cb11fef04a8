//! `token list`: which tokens there are, and what they still allow.

use std::io::Write;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _, api::ListParams};
use nave_crds::join_token;
use serde::Serialize;

use super::{datum, selector};
use crate::{
    connection::Connection,
    failure,
    output::{self, Format},
    text_table::TextTable,
};

/// List the tokens by which spokes can join
#[derive(Debug, Args)]
pub(crate) struct List {
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// None = any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
    auto_accept: bool,
    expires_at: String,
    usable: bool,
}

impl List {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let hub = connection.connect().await?;
        let namespace = hub.hub_namespace();
        let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
        let found = secrets
            .list(&ListParams::default().labels(&selector()))
            .await
            .map_err(failure::said)
            .with_context(|| format!("listing token Secrets in namespace {namespace}"))?;
        let rows: Vec<Row> = found.items.iter().map(|secret| row(secret, Timestamp::now())).collect();
        match self.output {
            Format::Json => output::json(out, &rows),
            Format::Table => Ok(write(&rows, namespace, out)?),
        }
    }
}

fn row(secret: &Secret, now: Timestamp) -> Row {
    let name = secret.name_any();
    let expires_at = datum(secret, join_token::EXPIRES_AT_KEY).unwrap_or_default();
    let uses = datum(secret, join_token::USES_KEY).map(|uses| uses.parse().unwrap_or(0));
    let ends: Option<Timestamp> = expires_at.parse().ok();
    Row {
        id: name.strip_prefix(join_token::SECRET_NAME_PREFIX).unwrap_or(&name).to_owned(),
        cluster: datum(secret, join_token::CLUSTER_KEY).map(str::to_owned),
        uses,
        auto_accept: datum(secret, join_token::AUTO_ACCEPT_KEY) == Some("true"),
        expires_at: expires_at.to_owned(),
        usable: ends.is_some_and(|ends| now < ends) && uses != Some(0),
    }
}

fn write(rows: &[Row], namespace: &str, out: &mut dyn Write) -> std::io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "No tokens in namespace {namespace}. Make one: kubectl nave token create");
    }
    let mut table = TextTable::new(["ID", "CLUSTER", "USES LEFT", "AUTO-ACCEPT", "UNTIL", "USABLE"]);
    for row in rows {
        table.row([
            row.id.clone(),
            row.cluster.clone().unwrap_or_else(|| "any".to_owned()),
            row.uses.map_or_else(|| "any".to_owned(), |uses| uses.to_string()),
            row.auto_accept.to_string(),
            row.expires_at.clone(),
            row.usable.to_string(),
        ]);
    }
    table.write(out, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(id: &str, data: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(format!("nave-token-{id}"));
        secret.data = Some(
            data.iter()
                .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
                .collect(),
        );
        secret
    }

    #[test]
    fn used_up_and_ended_tokens_are_not_usable() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let rows = [
            secret(
                "fresh000",
                &[("uses", "1"), ("expiresAt", "2026-11-25T12:00:00Z"), ("autoAccept", "true")],
            ),
            secret("endless0", &[("uses", ""), ("expiresAt", "2026-11-25T12:00:00Z"), ("cluster", "a12")]),
            secret("usedup00", &[("uses", "0"), ("expiresAt", "2026-11-25T12:00:00Z")]),
            secret("ended000", &[("uses", "1"), ("expiresAt", "2026-11-23T12:00:00Z")]),
            secret("broken00", &[]),
        ]
        .map(|secret| row(&secret, now));
        let mut out = Vec::new();
        write(&rows, "nave-system", &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        ID         CLUSTER   USES LEFT   AUTO-ACCEPT   UNTIL                  USABLE
        fresh000   any       1           true          2026-11-25T12:00:00Z   true
        endless0   a12       any         false         2026-11-25T12:00:00Z   true
        usedup00   any       0           false         2026-11-25T12:00:00Z   false
        ended000   any       1           false         2026-11-23T12:00:00Z   false
        broken00   any       any         false         -                      false
        ");
    }
}
