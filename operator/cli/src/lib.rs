//! `kubectl nave`: the fleet from a terminal. One verb per file; a verb is a clap struct with `run`, its table and its
//! JSON side by side. It talks to the API server with the user's kubeconfig, and to S3 for `publish` and `bundle`; never to spokes.

mod accept;
mod bundle;
mod ca;
mod connection;
mod explain;
mod failure;
mod output;
mod plan;
mod publish;
mod revoke;
mod rollout;
mod status;
mod text_table;
mod time;
mod token;

use std::io::Write;

use clap::{Parser, Subcommand};

use crate::connection::Connection;

/// Orchestrates a fleet of edge clusters: who joins, which model versions there are, how they roll out.
#[derive(Debug, Parser)]
#[command(name = "kubectl-nave", bin_name = "kubectl nave", version)]
pub struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make, list and delete the tokens by which spokes join.
    #[command(subcommand)]
    Token(token::TokenVerb),
    Accept(accept::Accept),
    Revoke(revoke::Revoke),
    Publish(Box<publish::Publish>),
    /// Carry model versions to sites without a network.
    #[command(subcommand)]
    Bundle(bundle::BundleVerb),
    Status(status::Status),
    Plan(plan::PlanVerb),
    /// Explain what the hub decided.
    #[command(subcommand)]
    Explain(explain::ExplainVerb),
    /// See and steer a policy's rollout.
    #[command(subcommand)]
    Rollout(rollout::RolloutVerb),
}

/// Runs one verb; what it has to say goes to `out`.
///
/// # Errors
/// What was attempted, on which object, and what to do about it where that is known.
pub async fn run(cli: Cli, out: &mut dyn Write) -> anyhow::Result<()> {
    let Cli { connection, verb } = cli;
    match verb {
        Verb::Token(verb) => verb.run(&connection, out).await,
        Verb::Accept(verb) => verb.run(&connection, out).await,
        Verb::Revoke(verb) => verb.run(&connection, out).await,
        Verb::Publish(verb) => verb.run(&connection, out).await,
        Verb::Bundle(verb) => verb.run(&connection, out).await,
        Verb::Status(verb) => verb.run(&connection, out).await,
        Verb::Plan(verb) => verb.run(&connection, out).await,
        Verb::Explain(verb) => verb.run(&connection, out).await,
        Verb::Rollout(verb) => verb.run(&connection, out).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
