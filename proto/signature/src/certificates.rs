//! The certificate method: the signature brings its certificate, and a chain from there to a trusted authority counts.
//! As with the reference implementation, everything is judged at the moment at which the certificate began to be valid:
//! a model does not go bad when its signer's certificate ends, and no clock is asked.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject as _};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath,
    anchor_from_trusted_cert,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{SignatureError, trust::PublicKey, wire::Chain};

/// Certificates that a signature may bring; chains have three.
const MAX_CHAIN: usize = 16;

/// Authorities whose certificates may sign.
#[derive(Clone, Debug)]
pub(crate) struct Authorities {
    roots: Vec<CertificateDer<'static>>,
    /// Certificates that were given beside the roots; they only help to build a chain.
    between: Vec<CertificateDer<'static>>,
    only_code_signing: bool,
}

/// Which purposes a certificate states is looked at afterwards, for the leaf alone.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

impl Authorities {
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, SignatureError> {
        let fail = SignatureError::Key;
        let (mut roots, mut between) = (Vec::new(), Vec::new());
        for certificate in CertificateDer::pem_slice_iter(text) {
            let certificate = certificate.map_err(|error| fail(format!("certificates: {error}")))?;
            let parsed = parse(&certificate).map_err(|problem| fail(format!("certificates: {problem}")))?;
            let is_root = parsed.subject() == parsed.issuer();
            if is_root { &mut roots } else { &mut between }.push(certificate);
        }
        if roots.is_empty() {
            return Err(fail("none of the certificates is a self-signed authority".to_owned()));
        }
        Ok(Self { roots, between, only_code_signing: false })
    }

    pub(crate) const fn only_code_signing(mut self) -> Self {
        self.only_code_signing = true;
        self
    }

    /// The key of a chain's first certificate, if that comes from a trusted authority and may sign; and its subject.
    pub(crate) fn key_of(&self, chain: &Chain) -> Result<(PublicKey, String), SignatureError> {
        let malformed = |what: String| SignatureError::Malformed(what);
        if chain.certificates.len() > MAX_CHAIN {
            return Err(malformed(format!("it brings {} certificates", chain.certificates.len())));
        }
        let decode = |raw: &crate::wire::RawCertificate| STANDARD.decode(&raw.raw_bytes);
        let brought = chain.certificates.iter().map(|raw| decode(raw).map(CertificateDer::from));
        let brought: Vec<_> =
            brought.collect::<Result<_, _>>().map_err(|error| malformed(error.to_string()))?;
        let [leaf, rest @ ..] = &brought[..] else {
            return Err(malformed("it brings no certificate".to_owned()));
        };
        let parsed = parse(leaf).map_err(|problem| malformed(format!("certificate: {problem}")))?;
        let subject = parsed.subject().to_string();
        self.judge(leaf, &parsed, rest)
            .map_err(|problem| SignatureError::Certificate { subject: subject.clone(), problem })?;
        let key = PublicKey::from_der(parsed.public_key().raw)?;
        Ok((key, format!("certificate {subject}")))
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        parsed: &X509Certificate<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<(), String> {
        let began = parsed.validity().not_before.timestamp();
        let began_at = u64::try_from(began).map_err(|_| "it began before 1970".to_owned())?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(began_at));
        let roots: Vec<_> = self.roots.iter().filter(|root| is_authority(root, began)).collect();
        let anchors: Result<Vec<TrustAnchor<'_>>, _> =
            roots.iter().map(|root| anchor_from_trusted_cert(root)).collect();
        let anchors = anchors.map_err(|error| format!("a trusted authority cannot be used: {error}"))?;
        let between: Vec<_> = rest.iter().chain(&self.between).cloned().collect();
        let entity = EndEntityCert::try_from(leaf).map_err(|error| error.to_string())?;
        let issuers_may_issue = |path: &VerifiedPath<'_>| {
            let mut issuers = path.intermediate_certificates();
            let may = issuers.all(|issuer| parse(&issuer.der()).is_ok_and(|issuer| may_issue(&issuer)));
            if may { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        entity
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                &between,
                time,
                AnyPurpose,
                None,
                Some(&issuers_may_issue),
            )
            .map_err(|error| format!("no chain to a trusted authority: {error}"))?;
        self.check_purpose(parsed)
    }

    fn check_purpose(&self, leaf: &X509Certificate<'_>) -> Result<(), String> {
        let broken = |_| "its extensions are malformed".to_owned();
        let for_signatures =
            leaf.key_usage().map_err(broken)?.is_some_and(|usage| usage.value.digital_signature());
        let for_code =
            leaf.extended_key_usage().map_err(broken)?.is_some_and(|usage| usage.value.code_signing);
        match (for_code, for_signatures && !self.only_code_signing) {
            (false, false) => Err("it is not for signing".to_owned()),
            (true, _) | (_, true) => Ok(()),
        }
    }
}

/// Whether this may stand at the end of a chain at that time.
fn is_authority(root: &CertificateDer<'_>, at: i64) -> bool {
    let Ok(parsed) = parse(root) else { return false };
    let validity = parsed.validity();
    let is_ca = parsed
        .basic_constraints()
        .is_ok_and(|constraints| constraints.is_some_and(|constraints| constraints.value.ca));
    is_ca
        && may_issue(&parsed)
        && validity.not_before.timestamp() <= at
        && at <= validity.not_after.timestamp()
}

/// A certificate that says what its key is for has to say: for signing certificates.
fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|error| error.to_string())
}
