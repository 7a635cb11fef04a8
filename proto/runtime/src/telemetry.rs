//! Logs: one subscriber per process, to stderr. Called once, by each `main`.

use std::{fmt, io, io::IsTerminal as _, str::FromStr};

use tracing_subscriber::EnvFilter;

/// What an operator sees without asking for more: our own crates at INFO, the libraries' warnings.
const DEFAULT_FILTER: &str =
    "warn,nave_agent=info,nave_operator=info,nave_operator_plan=info,nave_runtime=info,kubectl_nave=info";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// A log format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown log format {0:?}: expected json or text")]
pub struct UnknownFormat(String);

impl FromStr for LogFormat {
    type Err = UnknownFormat;
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` is set and cannot be read.
    #[error("RUST_LOG is not a list of tracing directives such as info,nave_agent=debug")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// A second call, or another library was first.
    #[error("a logger is installed already")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// Installs the process's logger: stderr, filtered by `RUST_LOG` where set.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let directives = if directives.trim().is_empty() { DEFAULT_FILTER } else { &directives };
    let filter = EnvFilter::builder().parse(directives).map_err(TelemetryError::Filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(TelemetryError::Installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_round_trip_and_others_are_named() {
        for format in [LogFormat::Json, LogFormat::Text] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!(
            "xml".parse::<LogFormat>().unwrap_err().to_string(),
            "unknown log format \"xml\": expected json or text"
        );
    }
}
