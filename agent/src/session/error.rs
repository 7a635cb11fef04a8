//! Why a session did not come about, or ended, and how soon the next one is tried.

use std::time::Duration;

use tonic::{Code, Status};

use super::dial::DialError;
use crate::{
    config::{ConfigError, HubAddress},
    identity::{IdentityError, TlsSetupError},
};

/// Why there is no session now. The texts are read by the person who installed the agent.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No channel.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The identity on disk.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS could not be set up from what is on disk.
    #[error(transparent)]
    TlsSetup(#[from] TlsSetupError),
    /// The join token.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing to join with.
    #[error(
        "this spoke has not joined yet and has no join token: make one with `kubectl nave token create` and give it as \
         joinTokenFile or NAVE_JOIN_TOKEN"
    )]
    NoToken,
    /// The hub does not let the spoke in.
    #[error("the hub refuses to let this spoke join: {0}")]
    JoinRefused(String),
    /// The identity is another cluster's than the configuration says.
    #[error(
        "this spoke joined as {joined}, but the configuration says cluster: {configured}; a spoke cannot be renamed: remove \
         the identity folder and join with a new token"
    )]
    Renamed {
        /// In the certificate.
        joined: String,
        /// In the configuration.
        configured: String,
    },
    /// The hub knows the spoke and gives it nothing any more.
    #[error("the hub revoked this spoke: {0}")]
    Revoked(String),
    /// The hub does not take the certificate for this session.
    #[error("the hub does not take this spoke's certificate: {0}")]
    Unauthenticated(String),
    /// The hub ended the call with an error.
    #[error("the hub answered {code:?}: {message}")]
    Refused {
        /// gRPC's.
        code: Code,
        /// The hub's.
        message: String,
    },
    /// The connection broke.
    #[error("the connection to the hub broke: {0}")]
    Broken(String),
    /// Nothing was heard.
    #[error("nothing was heard from the hub for {} s", .0.as_secs())]
    Silent(Duration),
    /// The hub speaks no protocol version that this agent speaks.
    #[error("the hub speaks protocol {hub}, this agent {ours}: upgrade the older of the two")]
    Protocol {
        /// The hub's.
        hub: u32,
        /// Ours.
        ours: u32,
    },
    /// The hub did something that the protocol does not have.
    #[error("the hub broke the protocol: {0}")]
    Unexpected(String),
    /// The agent's own worker is gone: only at the end.
    #[error("the agent is ending")]
    Ending,
}

/// How soon to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// There was a session and it ended: another gateway may be there at once.
    Lost,
    /// The hub or the way to it is away.
    Away,
    /// Trying again changes nothing until a person did something, here or at the hub.
    Denied,
}

impl SessionError {
    /// What a gRPC status means. Transport errors come as statuses too.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the list of codes is gRPC's")]
    pub(super) fn of_status(status: &Status, address: &HubAddress) -> Self {
        if let Some(explained) = super::dial::explain(status, address) {
            return Self::Dial(explained);
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated => Self::Unauthenticated(message),
            // What hyper and h2 say when a connection ends under a call.
            Code::Unknown | Code::Internal | Code::Cancelled | Code::Unavailable => Self::Broken(message),
            code => Self::Refused { code, message },
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Broken(_) | Self::Silent(_) | Self::Ending => Class::Lost,
            Self::Dial(
                DialError::Resolve(..)
                | DialError::Unreachable(..)
                | DialError::Timeout(_)
                | DialError::Http(..)
                | DialError::Tls { .. }
                | DialError::CertificateRefused(_),
            )
            | Self::Unauthenticated(_) => Class::Away,
            Self::Refused {
                code: Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted, ..
            } => Class::Away,
            Self::Dial(
                DialError::WrongCa(_)
                | DialError::UnknownCa(_)
                | DialError::WrongName { .. }
                | DialError::Clock(_),
            )
            | Self::Identity(_)
            | Self::TlsSetup(_)
            | Self::Config(_)
            | Self::NoToken
            | Self::JoinRefused(_)
            | Self::Renamed { .. }
            | Self::Revoked(_)
            | Self::Refused { .. }
            | Self::Protocol { .. }
            | Self::Unexpected(_) => Class::Denied,
        }
    }

    /// Whether a new certificate for the same key may help.
    pub(super) const fn asks_for_new_certificate(&self) -> bool {
        matches!(self, Self::Unauthenticated(_) | Self::Dial(DialError::CertificateRefused(_)))
    }

    /// One word for metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Dial(_) => "dial",
            Self::Identity(_) | Self::TlsSetup(_) | Self::Config(_) | Self::Renamed { .. } => "setup",
            Self::NoToken | Self::JoinRefused(_) => "join",
            Self::Revoked(_) => "revoked",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Refused { .. } => "refused",
            Self::Broken(_) => "broken",
            Self::Silent(_) => "silent",
            Self::Protocol { .. } | Self::Unexpected(_) => "protocol",
            Self::Ending => "ending",
        }
    }
}
