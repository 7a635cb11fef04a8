//! The signature of a publication: made here with a key, or elsewhere with another tool; and what the ModelVersion asks.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use nave_crds::{SecretKeyReference, Signature};
use nave_manifest::{MANIFEST_FILE, Manifest, NAVE_FOLDER};
use nave_names::{Digest, RelativePath};
use nave_signature::{MAX_SIGNATURE_BYTES, SIGNATURE_FILE, SigningKey, check_covers, listed_files};

/// Paths that lie beside the files in S3 and are not content. The signature says so, so that other tools verify a copy
/// of the whole prefix without further words.
const BESIDE: [&str; 3] = [SIGNATURE_FILE, MANIFEST_FILE, NAVE_FOLDER];

/// Who signs, and who has to have signed.
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// PEM of a P-256 or P-384 private key: signs every file (OpenSSF Model Signing v1.0) and puts model.sig beside them
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// PEM of that key's certificate, then those between it and its authority: signs by the certificate method
    #[arg(long, value_name = "FILE", requires = "sign")]
    signing_certificate: Vec<PathBuf>,
    /// A signature of this folder that another tool made, in place of --sign
    #[arg(long, value_name = "FILE", conflicts_with = "sign")]
    signature: Option<PathBuf>,
    /// Secret and its key with the PEM that the hub and every spoke check the signature with: the public key, or the
    /// authority's certificate. The version is served nowhere unless it is signed so
    #[arg(long, value_name = "NAME/KEY")]
    public_key_secret: Option<String>,
}

impl Signing {
    /// What the ModelVersion says.
    pub(super) fn asked(&self) -> anyhow::Result<Option<Signature>> {
        let Some(written) = &self.public_key_secret else { return Ok(None) };
        let Some((name, key)) =
            written.split_once('/').filter(|(name, key)| !name.is_empty() && !key.is_empty())
        else {
            bail!("--public-key-secret {written:?}: expected NAME/KEY, such as release-keys/models.pub");
        };
        if self.sign.is_none() && self.signature.is_none() {
            bail!(
                "--public-key-secret asks for a signature: sign with --sign KEY, or bring one with --signature FILE"
            );
        }
        let public_key_secret = SecretKeyReference { name: name.to_owned(), key: key.to_owned() };
        Ok(Some(Signature { public_key_secret }))
    }

    /// The key, so that a wrong one is told before anything is hashed.
    pub(super) fn key(&self) -> anyhow::Result<Option<SigningKey>> {
        let Some(path) = &self.sign else { return Ok(None) };
        read_key(path, &self.signing_certificate).map(Some)
    }

    /// The text of `model.sig`, where there shall be one. `name` is for people.
    pub(super) fn make(
        &self,
        key: Option<&SigningKey>,
        name: &str,
        manifest: &Manifest,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let files = manifest.files().iter();
        let files: BTreeMap<RelativePath, Digest> =
            files.map(|file| (file.path.clone(), file.sha256)).collect();
        if let Some(key) = key {
            return Ok(Some(key.sign(name, &files, &BESIDE).context("signing")?));
        }
        let Some(path) = &self.signature else { return Ok(None) };
        let reading = || format!("reading the signature {}", path.display());
        if std::fs::metadata(path).with_context(reading)?.len() > MAX_SIGNATURE_BYTES {
            bail!("{} is too long for a signature", path.display());
        }
        let bytes = std::fs::read(path).with_context(reading)?;
        listed_files(&bytes)
            .and_then(|listed| check_covers(&listed, &files))
            .with_context(|| format!("{} is no signature of this folder", path.display()))?;
        Ok(Some(bytes))
    }
}

/// A private key with its certificates, if any.
pub(crate) fn read_key(path: &PathBuf, certificates: &[PathBuf]) -> anyhow::Result<SigningKey> {
    let pem = std::fs::read(path).with_context(|| format!("reading the key {}", path.display()))?;
    let key = SigningKey::from_pem(&pem).with_context(|| format!("--sign {}", path.display()))?;
    let mut chain = Vec::new();
    for path in certificates {
        chain.extend(std::fs::read(path).with_context(|| format!("reading {}", path.display()))?);
        chain.push(b'\n');
    }
    if chain.is_empty() {
        return Ok(key);
    }
    key.with_certificates(&chain).context("--signing-certificate")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        signing: Signing,
    }

    #[test]
    fn a_version_that_asks_for_a_signature_has_one() {
        let parse =
            |words: &[&str]| Flags::try_parse_from([&["x"], words].concat()).map(|flags| flags.signing);
        let asked = |words: &[&str]| parse(words).unwrap().asked().map_err(|error| error.to_string());
        assert_eq!(asked(&[]), Ok(None));
        let both = asked(&["--sign", "k", "--public-key-secret", "keys/models.pub"]).unwrap().unwrap();
        assert_eq!((&*both.public_key_secret.name, &*both.public_key_secret.key), ("keys", "models.pub"));
        assert!(asked(&["--public-key-secret", "keys/models.pub"]).unwrap_err().contains("--sign KEY"));
        assert!(asked(&["--sign", "k", "--public-key-secret", "keys"]).unwrap_err().contains("NAME/KEY"));
        assert!(parse(&["--sign", "k", "--signature", "f"]).is_err());
        assert!(parse(&["--signing-certificate", "f"]).is_err());
    }
}
