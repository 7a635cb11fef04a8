//! Who is at the other end: what a spoke's certificate says, after TLS has checked that it is one of ours.

use jiff::Timestamp;
use nave_names::{CLUSTER_URI, ClusterName, Digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A spoke, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The only cluster it may read or write anything of.
    pub cluster: ClusterName,
    /// When its certificate ends.
    pub not_after: Timestamp,
    /// SHA-256 of the SubjectPublicKeyInfo, DER.
    pub public_key_digest: Digest,
}

/// The certificate is not a spoke's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate does not name a cluster ({0}); was it issued by this hub?")]
pub struct PeerError(&'static str);

/// Reads a certificate of the form that [`super::Authority::issue_client`] makes.
///
/// # Errors
/// [`PeerError`] where the names are missing or do not agree.
pub fn peer_of(certificate: &CertificateDer<'_>) -> Result<Peer, PeerError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerError("not X.509"))?;
    let names = parsed.subject_alternative_name().map_err(|_| PeerError("malformed names"))?;
    let names = names.ok_or(PeerError("no subject alternative name"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| {
        if let GeneralName::URI(uri) = name { uri.strip_prefix(CLUSTER_URI) } else { None }
    });
    let (Some(name), None) = (uris.next(), uris.next()) else {
        return Err(PeerError("not exactly one cluster URI"));
    };
    let common = parsed.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
    if common != Some(name) {
        return Err(PeerError("common name and URI differ"));
    }
    let cluster = ClusterName::new(name).map_err(|_| PeerError("not a cluster name"))?;
    let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|_| PeerError("its end is out of range"))?;
    Ok(Peer { cluster, not_after, public_key_digest: Digest::of(parsed.public_key().raw) })
}
