//! From an address to a channel: DNS, TCP, TLS, HTTP/2, each failure with the words of its own. Our own connector, since
//! what a transport library says of all of these is "transport error".

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::config::HubAddress;

/// A hub that does not answer in this time is as good as away; a satellite link needs two or three seconds.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// Noticed by the kernel when a path dies silently; the heartbeats notice it sooner.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Why there is no channel to the hub.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("cannot resolve the hub's name {0}: is it spelled right, and is there a DNS server?")]
    Resolve(String, #[source] io::Error),
    /// Nobody listens, or no way there.
    #[error("cannot reach the hub at {0}: is it running, and does a firewall let TCP out to it?")]
    Unreachable(HubAddress, #[source] io::Error),
    /// No answer.
    #[error("the hub at {0} did not answer within {seconds} s: a firewall may drop the packets", seconds = DIAL_TIMEOUT.as_secs())]
    Timeout(HubAddress),
    /// The hub showed another CA's certificate than the pinned one.
    #[error("{0}")]
    WrongCa(String),
    /// The hub's certificate is from a CA that this spoke does not trust.
    #[error(
        "the hub at {0} has a certificate of a CA that this spoke did not join: if the hub was set up anew, give the new \
         caHash and a new join token"
    )]
    UnknownCa(HubAddress),
    /// The hub's certificate is for other names.
    #[error("the hub's certificate is not for {host}: {found}; add it to the hub with --server-name {host}")]
    WrongName {
        /// As configured.
        host: String,
        /// What it is for.
        found: String,
    },
    /// One of the two clocks is wrong, or the hub's certificate is too old.
    #[error("the hub's certificate is not valid now ({0}): is this spoke's clock right?")]
    Clock(String),
    /// The hub does not take the spoke's certificate.
    #[error("the hub refuses this spoke's certificate ({0})")]
    CertificateRefused(String),
    /// Any other failure of TLS.
    #[error("TLS with the hub at {address} failed: {problem}; is something else listening there?")]
    Tls {
        /// Where.
        address: HubAddress,
        /// What the library says.
        problem: String,
    },
    /// HTTP/2 did not start.
    #[error("the hub at {0} does not speak gRPC")]
    Http(HubAddress, #[source] tonic::transport::Error),
}

/// Connects once. The channel does not reconnect: what comes after its end is the session loop's to decide.
pub(super) async fn dial(address: &HubAddress, tls: Arc<ClientConfig>) -> Result<Channel, DialError> {
    timeout(DIAL_TIMEOUT, dial_slowly(address, tls))
        .await
        .unwrap_or_else(|_| Err(DialError::Timeout(address.clone())))
}

async fn dial_slowly(address: &HubAddress, tls: Arc<ClientConfig>) -> Result<Channel, DialError> {
    let targets: Vec<_> = tokio::net::lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| DialError::Resolve(address.host.clone(), error))?
        .collect();
    let unreachable = |error| DialError::Unreachable(address.clone(), error);
    let tcp = TcpStream::connect(&targets[..]).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    rustix::net::sockopt::set_socket_keepalive(&tcp, true).map_err(|e| unreachable(e.into()))?;
    rustix::net::sockopt::set_tcp_keepidle(&tcp, TCP_KEEPALIVE).map_err(|e| unreachable(e.into()))?;
    let name = ServerName::try_from(address.host.clone()).map_err(|_| DialError::WrongName {
        host: address.host.clone(),
        found: "this is no name that a certificate could have".to_owned(),
    })?;
    let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| {
        explain(&error, address).unwrap_or(DialError::Unreachable(address.clone(), error))
    })?;

    // Handed out once: when this stream ends, the channel ends.
    let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = Arc::clone(&stream);
        async move {
            let stream = stream.lock().await.take();
            stream
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection to the hub ended"))
        }
    });
    let http = |error| DialError::Http(address.clone(), error);
    // The library would set up TLS of its own for https; requests are https all the same.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(http)?;
    let origin =
        http::Uri::builder().scheme("https").authority(address.to_string()).path_and_query("/").build();
    let endpoint = match origin {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    };
    endpoint.connect_with_connector(connector).await.map_err(http)
}

/// Finds the TLS error in an error's chain and says what it most likely means; `None` if there is none.
#[allow(clippy::wildcard_enum_match_arm, reason = "rustls has dozens of cases; the rest share one text")]
pub(super) fn explain(error: &(dyn StdError + 'static), address: &HubAddress) -> Option<DialError> {
    let tls = find_tls(error)?;
    let problem = tls.to_string();
    Some(match tls {
        rustls::Error::InvalidCertificate(certificate) => explain_certificate(certificate, address),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateRequired
            | AlertDescription::AccessDenied,
        ) => DialError::CertificateRefused(problem),
        _ => DialError::Tls { address: address.clone(), problem },
    })
}

#[allow(clippy::wildcard_enum_match_arm, reason = "rustls has dozens of cases; the rest share one text")]
fn explain_certificate(error: &CertificateError, address: &HubAddress) -> DialError {
    match error {
        CertificateError::Other(other) => DialError::WrongCa(other.to_string()),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            DialError::UnknownCa(address.clone())
        }
        CertificateError::NotValidForNameContext { presented, .. } => DialError::WrongName {
            host: address.host.clone(),
            found: format!("it is for {}", presented.join(", ")),
        },
        CertificateError::NotValidForName => {
            DialError::WrongName { host: address.host.clone(), found: "it is for another".to_owned() }
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => DialError::Clock(error.to_string()),
        _ => DialError::Tls { address: address.clone(), problem: error.to_string() },
    }
}

fn find_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // An io::Error's source() skips the error that it wraps.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}
