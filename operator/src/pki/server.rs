//! The hub's side of TLS: its own certificate, made in memory and made anew before it ends, and the check of the
//! spokes' ones. A spoke without a certificate gets as far as enrolment.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::PrivateKeyDer,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::authority::{Authority, PkiError};

/// Life of the hub's own certificate. It is in no store, so it can be short, and half of it is left when it is replaced.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// TLS for the gateway: HTTP/2 only, client certificates optional but checked, no resumption (a resumed session would
/// skip the check of the certificate's end).
///
/// # Errors
/// [`PkiError`]: a name that cannot stand in a certificate, or a CA that cannot be a root.
pub fn server_config(authority: &Authority, names: &[String]) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()?), provider.clone())
            .allow_unauthenticated()
            .build()?;
    let own = Own::new(authority.clone(), names.to_vec())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Own {
    authority: Authority,
    names: Vec<String>,
    current: Mutex<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    replace_at: Timestamp,
}

impl Own {
    fn new(authority: Authority, names: Vec<String>) -> Result<Self, PkiError> {
        let current = issue(&authority, &names)?;
        Ok(Self { authority, names, current: Mutex::new(current) })
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Timestamp::now() >= current.replace_at {
            match issue(&self.authority, &self.names) {
                Ok(fresh) => *current = fresh,
                Err(error) => tracing::error!(%error, "cannot replace the hub's own certificate"),
            }
        }
        Some(current.key.clone())
    }
}

fn issue(authority: &Authority, names: &[String]) -> Result<Current, PkiError> {
    let now = Timestamp::now();
    let (chain, key) = authority.issue_server(names, LIFE, now)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = ring::sign::any_supported_type(&key)?;
    Ok(Current { key: Arc::new(CertifiedKey::new(chain, key)), replace_at: now + LIFE / 2 })
}
