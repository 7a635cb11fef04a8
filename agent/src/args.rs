//! The command line. Every flag of `run` can also come from the environment, and stands over the file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nave_runtime::telemetry::LogFormat;

use crate::commands::{ImportArgs, PullArgs, StoreArgs, VerifyArgs};
use crate::config::{Config, ConfigError, ConfigFile, Overrides};

/// The spoke of a Nave fleet: pulls models, verifies them, gives them to the local runtime, and reports.
#[derive(Debug, Parser)]
#[command(name = "nave-agent", version = nave_runtime::build::VERSION, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be the spoke: join, keep a session with the hub, and do what it tells.
    Run(Box<RunArgs>),
    Pull(PullArgs),
    Import(ImportArgs),
    Store(StoreArgs),
    Verify(VerifyArgs),
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// YAML file with the configuration.
    #[arg(long, env = "NAVE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the hub is.
    #[arg(long, env = "NAVE_HUB", value_name = "HOST:PORT")]
    hub: Option<String>,
    /// Name of this spoke's EdgeCluster; the join token's unless given.
    #[arg(long, env = "NAVE_CLUSTER", value_name = "NAME")]
    cluster: Option<String>,
    /// Everything that the agent writes lies below this folder.
    #[arg(long, env = "NAVE_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// File with the join token; NAVE_JOIN_TOKEN may hold the token itself.
    #[arg(long, env = "NAVE_JOIN_TOKEN_FILE", value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Hash of the hub's CA, as kubectl nave token create printed it.
    #[arg(long, env = "NAVE_CA_HASH", value_name = "sha256:HEX")]
    ca_hash: Option<String>,
    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one.
    #[arg(long, env = "NAVE_HTTP_LISTEN", value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Write the bound addresses to this file, as JSON.
    #[arg(long, env = "NAVE_ADDRESS_FILE", value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// How log lines look: text or json.
    #[arg(long, env = "NAVE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl RunArgs {
    /// The configuration file with these flags over it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn config(&self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        let over = Overrides {
            hub: self.hub.clone(),
            cluster: self.cluster.clone(),
            state_dir: self.state_dir.clone(),
            join_token_file: self.join_token_file.clone(),
            // No flag: a command line is readable by everyone on the machine.
            join_token: std::env::var("NAVE_JOIN_TOKEN").ok(),
            ca_hash: self.ca_hash.clone(),
            http_listen: self.http_listen.clone(),
        };
        Config::new(file, over)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
