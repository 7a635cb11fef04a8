//! `token`: the tokens by which spokes join.

mod create;
mod delete;
mod join;
mod list;

use std::io::Write;

use clap::Subcommand;
use k8s_openapi::api::core::v1::Secret;
use nave_crds::join_token;

use crate::connection::Connection;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    Create(create::Create),
    List(list::List),
    Delete(delete::Delete),
}

impl TokenVerb {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Create(verb) => verb.run(connection, out).await,
            Self::List(verb) => verb.run(connection, out).await,
            Self::Delete(verb) => verb.run(connection, out).await,
        }
    }
}

/// The selector of token Secrets.
fn selector() -> String {
    format!("{}=true", join_token::LABEL)
}

/// One text of a Secret's data; None where it is absent, empty, or not text.
fn datum<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let bytes = secret.data.as_ref()?.get(key)?;
    std::str::from_utf8(&bytes.0).ok().filter(|text| !text.is_empty())
}
