//! `nave-agent verify DIR`: whether a folder holds exactly what a manifest says, file by file and byte by byte.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use nave_manifest::{FileEntry, FileHasher, MANIFEST_FILE, Manifest, is_reserved};
use nave_names::{Digest, RelativePath};
use serde::Serialize;

use super::exit::{Exit, Failure, Output, finish};

/// Check a folder against a manifest: every file, every byte, and nothing else in it.
///
/// Exit codes: 0 it is what the manifest says, 2 bad arguments, 3 it is not, 6 the disk, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The folder
    dir: PathBuf,
    /// The manifest, where it is not the folder's own manifest.json
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// What the manifest's SHA-256 has to be
    #[arg(long, value_name = "sha256:HEX")]
    digest: Option<Digest>,
    /// How to print the result
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    digest: Digest,
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
                verified.digest,
                verified.problems.len()
            ));
            lines.join("\n")
        })
    }

    fn verify(&self) -> Result<(Exit, Verified), Failure> {
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

        let mut problems = Vec::new();
        let mut present = BTreeSet::new();
        walk(&self.dir, "", &mut present, &mut problems)?;
        for file in manifest.files() {
            if !present.remove(file.path.as_str()) {
                problems.push(Problem { path: file.path.to_string(), problem: "missing".to_owned() });
            } else if let Some(problem) = check(&self.dir.join(file.path.as_str()), file)? {
                problems.push(Problem { path: file.path.to_string(), problem });
            }
        }
        let extra = present
            .into_iter()
            .filter(|path| !RelativePath::new(path.as_str()).is_ok_and(|p| is_reserved(&p)));
        problems.extend(extra.map(|path| Problem { path, problem: "not in the manifest".to_owned() }));
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let exit = if problems.is_empty() { Exit::Done } else { Exit::Refused };
        let (files, bytes) = (manifest.files().len(), manifest.total_size());
        Ok((exit, Verified { digest, files, bytes, problems }))
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

fn check(path: &Path, expected: &FileEntry) -> Result<Option<String>, Failure> {
    let mut file = File::open(path).map_err(|error| disk(path, &error))?;
    let mut hasher = FileHasher::new(expected.path.clone());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(|error| disk(path, &error))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let found = hasher.finish();
    Ok(if found.size != expected.size {
        Some(format!("has {} bytes instead of {}", found.size, expected.size))
    } else if found.sha256 != expected.sha256 {
        Some(format!("has the SHA-256 {} instead of {}", found.sha256, expected.sha256))
    } else {
        (found.blake3 != expected.blake3).then(|| "has another BLAKE3 than the manifest says".to_owned())
    })
}

fn disk(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Disk, "DiskError", format!("cannot read {}: {error}", path.display()))
}
