//! The command line of `nave-operator`. Every flag of `run` is also an environment variable `NAVE_*`; the pod's name
//! and namespace come from the downward API's `POD_NAME` and `POD_NAMESPACE`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use nave_runtime::telemetry::LogFormat;

/// The hub of a Nave fleet.
#[derive(Clone, Debug, Parser)]
#[command(name = "nave-operator", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // There is one, for the life of the process.
pub enum Command {
    /// Run a replica of the hub: it serves spokes, and one replica plans.
    Run(RunArgs),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

/// How a replica runs.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Where spokes connect (gRPC over mutual TLS).
    #[arg(long, env = "NAVE_GRPC_LISTEN", default_value = "0.0.0.0:7443")]
    pub grpc_listen: SocketAddr,

    /// Where /livez, /readyz, /metrics and the read-only API are served (plain HTTP).
    #[arg(long, env = "NAVE_HTTP_LISTEN", default_value = "0.0.0.0:8080")]
    pub http_listen: SocketAddr,

    /// Namespace of the CA's Secret, the join tokens and the Leases.
    #[arg(long, env = "POD_NAMESPACE", default_value = "nave-system")]
    pub namespace: String,

    /// Name of this replica, unique among the replicas; default: the host's name.
    #[arg(long, env = "POD_NAME")]
    pub name: Option<String>,

    /// DNS name or IP address in the server's certificate, as spokes dial it; may be repeated. Default: localhost,
    /// 127.0.0.1 and the Service nave-operator of the namespace.
    #[arg(long, env = "NAVE_SERVER_NAME", value_delimiter = ',')]
    pub server_name: Vec<String>,

    /// Secret that holds the CA; created if there is none.
    #[arg(long, env = "NAVE_CA_SECRET", default_value = "nave-ca")]
    pub ca_secret: String,

    /// How often a spoke and the hub say that they are there.
    #[arg(long, env = "NAVE_HEARTBEAT", default_value = "15s", value_parser = duration)]
    pub heartbeat: Duration,

    /// How long a silent spoke still counts as connected.
    #[arg(long, env = "NAVE_GRACE_PERIOD", default_value = "40s", value_parser = duration)]
    pub grace_period: Duration,

    /// Life of a spoke's certificate; it is renewed at two thirds of it.
    #[arg(long, env = "NAVE_CERTIFICATE_TTL", default_value = "720h", value_parser = duration)]
    pub certificate_ttl: Duration,

    /// Life of the presigned URLs that spokes pull weights by.
    #[arg(long, env = "NAVE_URL_TTL", default_value = "15m", value_parser = duration)]
    pub url_ttl: Duration,

    /// After this long without a renewal another replica plans. At least 3s.
    #[arg(long, env = "NAVE_LEASE_DURATION", default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: Duration,

    /// How often the objects of a resolved ModelVersion are compared to its manifest again.
    #[arg(long, env = "NAVE_SOURCE_RECHECK", default_value = "10m", value_parser = duration)]
    pub source_recheck: Duration,

    /// `text` or `json`.
    #[arg(long, env = "NAVE_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,

    /// File that gets the bound addresses as JSON once they are bound: {"grpc": "ip:port", "http": "ip:port"}.
    #[arg(long, env = "NAVE_ADDRESS_FILE")]
    pub address_file: Option<PathBuf>,
}

impl RunArgs {
    /// The names for the server's certificate, defaults filled in.
    pub fn server_names(&self) -> Vec<String> {
        if self.server_name.is_empty() {
            let service = format!("nave-operator.{}.svc", self.namespace);
            return vec!["localhost".into(), "127.0.0.1".into(), service];
        }
        self.server_name.clone()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration such as 15s, 10m or 1h30m"))?;
    match Duration::try_from(parsed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err(format!("{text:?} is not longer than nothing")),
    }
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    // A Lease counts whole seconds, and three renewals have to fit.
    match duration(text)? {
        enough if enough >= Duration::from_secs(3) => Ok(enough),
        _ => Err(format!("{text:?} is shorter than 3s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_the_api() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("720h"), Ok(Duration::from_secs(2_592_000)));
        for bad in ["", "15", "0s", "-5s", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(lease_duration("2s").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
