//! The HTTP clients: one that keeps connections, and one that never uses a connection twice, for fetching again what
//! came wrong over one.

use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Certificate, Client, ClientBuilder, redirect};

use super::PullError;

/// A connection that is not up by then is tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are closed by most S3 servers after some seconds anyway.
const IDLE: Duration = Duration::from_secs(20);

/// Both clients of a spoke. The second is rarely needed, and reading the system's certificates takes time.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pooled: Client,
    fresh: Arc<OnceLock<Client>>,
    extra: Arc<[Certificate]>,
}

impl Clients {
    /// Clients that trust the system's certificate authorities, or, in an image that has none, Mozilla's; and those
    /// of `extra_ca` (PEM) as well.
    pub(super) fn new(extra_ca: Option<&Path>) -> Result<Self, PullError> {
        let extra = extra_ca.map(read_certificates).transpose()?.unwrap_or_default();
        Ok(Self { pooled: build(&extra, 64)?, fresh: Arc::default(), extra: extra.into() })
    }

    /// The client to use; `fresh` = over a connection that nothing wrong came over.
    pub(super) fn get(&self, fresh: bool) -> Result<&Client, PullError> {
        match (fresh, self.fresh.get()) {
            (false, _) => Ok(&self.pooled),
            (true, Some(client)) => Ok(client),
            (true, None) => {
                let client = build(&self.extra, 0)?;
                Ok(self.fresh.get_or_init(|| client))
            }
        }
    }
}

fn build(extra: &[Certificate], idle: usize) -> Result<Client, PullError> {
    let client = |roots: fn(ClientBuilder, Vec<Certificate>) -> ClientBuilder, certificates| {
        let builder = Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(idle)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .redirect(redirect::Policy::limited(3))
            .user_agent(concat!("nave-agent/", env!("CARGO_PKG_VERSION")));
        roots(builder, certificates).build()
    };
    let system = if extra.is_empty() {
        client(|builder, _| builder, Vec::new())
    } else {
        client(ClientBuilder::tls_certs_merge, extra.to_vec())
    };
    system
        .or_else(|_no_system_roots| {
            let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
            let mut roots = bundled.map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
            roots.extend_from_slice(extra);
            client(ClientBuilder::tls_certs_only, roots)
        })
        .map_err(|error| PullError::Client(error.to_string()))
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, PullError> {
    let fail = |why: String| PullError::Client(format!("CA file {}: {why}", path.display()));
    let pem = fs::read(path).map_err(|error| fail(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| fail(error.to_string()))?;
    if certificates.is_empty() { Err(fail("no certificate in it".to_owned())) } else { Ok(certificates) }
}
