//! `nave-agent verify DIR`: whether a folder holds exactly what a manifest says, or what a signature signs, file by file
//! and byte by byte.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use nave_manifest::{MANIFEST_FILE, Manifest, is_reserved};
use nave_names::{Digest, RelativePath};
use nave_signature::{MAX_SIGNATURE_BYTES, SIGNATURE_FILE, SignatureError, Signed, Trust};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::exit::{Exit, Failure, Output, finish};

/// Check a folder against a manifest or a signature: every file, every byte, and nothing else in it.
///
/// With --key or --certificate-chain, the signature is an OpenSSF Model Signing v1.0 bundle (key method, P-256 or P-384, or
/// certificate method; both offline), and only files that it signs may be there, whatever it says may be ignored. A
/// manifest.json that says the same as the signature may lie beside them. Exit codes: 0 it is as it should be, 2 bad
/// arguments, 3 it is not, 6 the disk, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The folder
    dir: PathBuf,
    /// The manifest, where it is not the folder's own manifest.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "certificate_chain"])]
    manifest: Option<PathBuf>,
    /// What the manifest's SHA-256 has to be
    #[arg(long, value_name = "sha256:HEX", conflicts_with_all = ["key", "certificate_chain"])]
    digest: Option<Digest>,
    /// PEM of the public key that has to have signed the files
    #[arg(long, value_name = "FILE", conflicts_with = "certificate_chain")]
    key: Option<PathBuf>,
    /// PEM of the authorities that the signer's certificate has to come from; may be given several times
    #[arg(long, value_name = "FILE")]
    certificate_chain: Vec<PathBuf>,
    /// The signature, where it is not the folder's own model.sig
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manifest", "digest"])]
    signature: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, default_value = "text")]
    output: Output,
}

/// What has to be in the folder.
struct Expected {
    /// Of the manifest or of the signature: what the files were compared with.
    digest: Digest,
    files: BTreeMap<RelativePath, Digest>,
    /// What they were compared with.
    list: List,
}

enum List {
    Manifest,
    Signature {
        /// It may lie beside the files.
        at: PathBuf,
        signed: Signed,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    against: Digest,
    /// The key's hash, or the certificate's subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    files: usize,
    bytes: u64,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Problem {
    pub(super) path: String,
    /// One CamelCase word.
    reason: &'static str,
    pub(super) problem: String,
}

impl Problem {
    fn new(path: &str, reason: &'static str, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason, problem: problem.into() }
    }
}

impl VerifyArgs {
    /// Checks, prints, and says how it went.
    pub fn run(self) -> ExitCode {
        finish(self.output, &self.verify(), |verified| {
            let mut lines: Vec<_> = verified
                .problems
                .iter()
                .map(|problem| format!("{}: {}", problem.path, problem.problem))
                .collect();
            lines.push(format!(
                "{} files, {} bytes against {}: {} problems",
                verified.files,
                verified.bytes,
                verified.against,
                verified.problems.len()
            ));
            lines.join("\n")
        })
    }

    fn verify(&self) -> Result<(Exit, Verified), Failure> {
        let expected = if self.key.is_some() || !self.certificate_chain.is_empty() {
            self.signed()?
        } else if self.signature.is_some() {
            let message = "--signature needs --key or --certificate-chain: whose signature should it be?";
            return Err(Failure::new(Exit::Usage, "TrustMissing", message));
        } else {
            self.listed()?
        };
        let mut problems = Vec::new();
        let mut present = BTreeSet::new();
        walk(&self.dir, "", &mut present, &mut problems)?;
        let mut bytes = 0;
        for (path, sha256) in &expected.files {
            if !present.remove(path.as_str()) {
                problems.push(Problem::new(path.as_str(), "Missing", "missing"));
                continue;
            }
            let (found, size) = hash(&self.dir.join(path.as_str()))?;
            bytes += size;
            if found != *sha256 {
                let problem = format!("has the SHA-256 {found} instead of {sha256}");
                problems.push(Problem::new(path.as_str(), "Changed", problem));
            }
        }
        for path in present {
            problems.extend(self.judge_surplus(&path, &expected.list)?);
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let exit = if problems.is_empty() { Exit::Done } else { Exit::Refused };
        let signer = match expected.list {
            List::Manifest => None,
            List::Signature { signed, .. } => Some(signed.signer),
        };
        Ok((
            exit,
            Verified { against: expected.digest, signer, files: expected.files.len(), bytes, problems },
        ))
    }

    /// What is wrong about a file that is on no list.
    fn judge_surplus(&self, path: &str, list: &List) -> Result<Option<Problem>, Failure> {
        let on_disk = self.dir.join(path);
        let List::Signature { at, signed } = list else {
            let reserved = RelativePath::new(path).is_ok_and(|path| is_reserved(&path));
            return Ok((!reserved).then(|| Problem::new(path, "NotListed", "not in the manifest")));
        };
        if *at == on_disk {
            return Ok(None);
        }
        if path != MANIFEST_FILE {
            return Ok(Some(Problem::new(path, "NotSigned", "not in the signature")));
        }
        let bytes = fs::read(&on_disk).map_err(|error| disk(&on_disk, &error))?;
        let differs = match Manifest::parse(&bytes) {
            Ok(manifest) => {
                let files = manifest.files().iter().map(|file| (&file.path, &file.sha256));
                signed.check_covers(files).err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        Ok(differs.map(|why| {
            Problem::new(path, "NotSigned", format!("not in the signature, and does not say the same: {why}"))
        }))
    }

    /// What the manifest says.
    fn listed(&self) -> Result<Expected, Failure> {
        let path = self.manifest.clone().unwrap_or_else(|| self.dir.join(MANIFEST_FILE));
        let bytes = fs::read(&path).map_err(|error| disk(&path, &error))?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = self.digest.filter(|expected| *expected != digest) {
            let message = format!("{} has the digest {digest}, not {expected}", path.display());
            return Err(Failure::new(Exit::Refused, "ManifestMismatch", message));
        }
        let manifest = Manifest::parse(&bytes).map_err(|error| {
            Failure::new(Exit::Refused, error.name(), format!("{}: {error}", path.display()))
        })?;
        let files = manifest.files().iter().map(|file| (file.path.clone(), file.sha256)).collect();
        Ok(Expected { digest, files, list: List::Manifest })
    }

    /// What the signature signs.
    fn signed(&self) -> Result<Expected, Failure> {
        let refused = |path: &Path, error: &SignatureError| {
            Failure::new(Exit::Refused, error.name(), format!("{}: {error}", path.display()))
        };
        let mut pem = Vec::new();
        for path in self.key.iter().chain(&self.certificate_chain) {
            pem.extend(fs::read(path).map_err(|error| disk(path, &error))?);
            pem.push(b'\n');
        }
        let given = self.key.as_ref().or(self.certificate_chain.first()).unwrap_or(&self.dir);
        let trust = Trust::from_pem(&pem).map_err(|error| refused(given, &error))?;
        let at = self.signature.clone().unwrap_or_else(|| self.dir.join(SIGNATURE_FILE));
        let bytes = read_signature(&at)?;
        let signed = trust.verify(&bytes).map_err(|error| refused(&at, &error))?;
        let list = List::Signature { at, signed: signed.clone() };
        Ok(Expected { digest: Digest::of(&bytes), files: signed.files, list })
    }
}

/// A signature that is not there is a refusal, not a trouble of the disk: nothing says that the files are right.
fn read_signature(path: &Path) -> Result<Vec<u8>, Failure> {
    let missing = |error: std::io::Error| {
        if error.kind() != std::io::ErrorKind::NotFound {
            return disk(path, &error);
        }
        Failure::new(
            Exit::Refused,
            "SignatureMissing",
            format!("there is no signature at {}", path.display()),
        )
    };
    let size = fs::metadata(path).map_err(missing)?.len();
    if size > MAX_SIGNATURE_BYTES {
        let message = format!("{} has {size} bytes, too many for a signature", path.display());
        return Err(Failure::new(Exit::Refused, "SignatureMalformed", message));
    }
    fs::read(path).map_err(|error| disk(path, &error))
}

/// Collects files by their path; links and devices are problems, for they are not what was published.
pub(super) fn walk(
    dir: &Path,
    prefix: &str,
    files: &mut BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Result<(), Failure> {
    for entry in fs::read_dir(dir).map_err(|error| disk(dir, &error))? {
        let entry = entry.map_err(|error| disk(dir, &error))?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(|error| disk(&entry.path(), &error))?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files, problems)?;
        } else if kind.is_file() {
            files.insert(path);
        } else {
            problems.push(Problem::new(&path, "NotAFile", "neither a file nor a folder"));
        }
    }
    Ok(())
}

/// The SHA-256 of a file, and its size.
pub(super) fn hash(path: &Path) -> Result<(Digest, u64), Failure> {
    let mut file = File::open(path).map_err(|error| disk(path, &error))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer).map_err(|error| disk(path, &error))?;
        if read == 0 {
            return Ok((Digest::from_bytes(hasher.finalize().into()), size));
        }
        size += read as u64;
        hasher.update(&buffer[..read]);
    }
}

pub(super) fn disk(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Disk, "DiskError", format!("cannot read {}: {error}", path.display()))
}
