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
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::exit::{Exit, Failure, Output, finish};
use crate::signature::{MAX_SIGNATURE_BYTES, SIGNATURE_FILE, TrustedKey};

/// Check a folder against a manifest or a signature: every file, every byte, and nothing else in it.
///
/// With --key, the signature is an OpenSSF Model Signing v1.0 bundle (key method, P-256 or P-384), and only files that it
/// signs may be there. Exit codes: 0 it is as it should be, 2 bad arguments, 3 it is not, 6 the disk, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The folder
    dir: PathBuf,
    /// The manifest, where it is not the folder's own manifest.json
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    manifest: Option<PathBuf>,
    /// What the manifest's SHA-256 has to be
    #[arg(long, value_name = "sha256:HEX", conflicts_with = "key")]
    digest: Option<Digest>,
    /// PEM of the public key that has to have signed the files
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The signature, where it is not the folder's own model.sig
    #[arg(long, value_name = "FILE", requires = "key")]
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
    /// A file that may be there beside them.
    aside: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    against: Digest,
    files: usize,
    bytes: u64,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    path: String,
    problem: String,
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
        let expected = match &self.key {
            Some(key) => self.signed(key)?,
            None => self.listed()?,
        };
        let mut problems = Vec::new();
        let mut present = BTreeSet::new();
        walk(&self.dir, "", &mut present, &mut problems)?;
        let mut bytes = 0;
        for (path, sha256) in &expected.files {
            let problem = if present.remove(path.as_str()) {
                let (found, size) = hash(&self.dir.join(path.as_str()))?;
                bytes += size;
                (found != *sha256).then(|| format!("has the SHA-256 {found} instead of {sha256}"))
            } else {
                Some("missing".to_owned())
            };
            problems.extend(problem.map(|problem| Problem { path: path.to_string(), problem }));
        }
        for path in present {
            let aside = expected.aside.as_ref() == Some(&self.dir.join(&path));
            let reserved =
                self.key.is_none() && RelativePath::new(path.as_str()).is_ok_and(|p| is_reserved(&p));
            if !aside && !reserved {
                let list = if self.key.is_some() { "signature" } else { "manifest" };
                problems.push(Problem { path, problem: format!("not in the {list}") });
            }
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let exit = if problems.is_empty() { Exit::Done } else { Exit::Refused };
        Ok((exit, Verified { against: expected.digest, files: expected.files.len(), bytes, problems }))
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
        Ok(Expected { digest, files, aside: None })
    }

    /// What the signature signs.
    fn signed(&self, key: &Path) -> Result<Expected, Failure> {
        let refused = |path: &Path, error: &crate::signature::SignatureError| {
            Failure::new(Exit::Refused, error.name(), format!("{}: {error}", path.display()))
        };
        let pem = fs::read(key).map_err(|error| disk(key, &error))?;
        let trusted = TrustedKey::from_pem(&pem).map_err(|error| refused(key, &error))?;
        let path = self.signature.clone().unwrap_or_else(|| self.dir.join(SIGNATURE_FILE));
        let size = fs::metadata(&path).map_err(|error| disk(&path, &error))?.len();
        if size > MAX_SIGNATURE_BYTES {
            let message = format!("{} has {size} bytes, too many for a signature", path.display());
            return Err(Failure::new(Exit::Refused, "SignatureMalformed", message));
        }
        let bytes = fs::read(&path).map_err(|error| disk(&path, &error))?;
        let files = trusted.verify(&bytes).map_err(|error| refused(&path, &error))?;
        Ok(Expected { digest: Digest::of(&bytes), files, aside: Some(path) })
    }
}

/// Collects files by their path; links and devices are problems, for they are not what was published.
fn walk(
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
            problems.push(Problem { path, problem: "neither a file nor a folder".to_owned() });
        }
    }
    Ok(())
}

fn hash(path: &Path) -> Result<(Digest, u64), Failure> {
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

fn disk(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Disk, "DiskError", format!("cannot read {}: {error}", path.display()))
}
