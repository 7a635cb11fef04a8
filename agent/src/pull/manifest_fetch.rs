//! Gets the manifest: from an interrupted pull, or from S3, and in either case only the one that was assigned.

use nave_manifest::{MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest};
use nave_names::{Digest, RelativePath};

use super::{
    PullError,
    fetch::{Fetcher, Part},
    recovery::Recovery,
    trouble::{Failure, Streak, Trouble},
};

/// How often another manifest than the assigned one, or none that can be read, is fetched before it is believed: one
/// wrong answer may come from a cache in between.
const MAX_WRONG: u32 = 3;

/// Fetches and checks the manifest with this digest; without one, the manifest that lies there, whichever it is.
pub(super) async fn fetch_manifest(
    recovery: &Recovery,
    expected: Option<&Digest>,
) -> Result<Manifest, PullError> {
    let path = RelativePath::new(MANIFEST_FILE)
        .map_err(|error| PullError::Client(format!("path of the manifest: {error}")))?;
    let mut streak = Streak::default();
    let mut wrong = 0;
    loop {
        recovery.wait_for_window().await;
        let failure = match fetch(recovery, wrong > 0, &path).await {
            Ok(bytes) => match check(&bytes, expected) {
                Ok(manifest) => return Ok(manifest),
                // What was assigned and is refused is so however often it is fetched.
                Err(refused @ PullError::ManifestRefused { .. }) if expected.is_some() => {
                    return Err(refused);
                }
                Err(error) => {
                    wrong += 1;
                    if wrong >= MAX_WRONG {
                        return Err(error);
                    }
                    Failure::Retry(Trouble::Corrupt)
                }
            },
            Err(failure) => failure,
        };
        recovery.recover(&path, failure, &mut streak).await?;
    }
}

fn check(bytes: &[u8], expected: Option<&Digest>) -> Result<Manifest, PullError> {
    let found = Digest::of(bytes);
    if let Some(expected) = expected.filter(|expected| **expected != found) {
        return Err(PullError::ManifestMismatch { expected: *expected, found });
    }
    Manifest::parse(bytes).map_err(|source| PullError::ManifestRefused { digest: found, source })
}

async fn fetch(recovery: &Recovery, fresh: bool, path: &RelativePath) -> Result<Vec<u8>, Failure> {
    let limit = MAX_MANIFEST_BYTES as u64;
    fetch_bytes(&recovery.fetcher(), recovery.client(fresh)?, path, Part::AtMost(limit), limit).await
}

/// Fetches a small object, or a small part of one, into memory.
pub(super) async fn fetch_bytes(
    fetcher: &Fetcher<'_>,
    client: &reqwest::Client,
    path: &RelativePath,
    part: Part,
    limit: u64,
) -> Result<Vec<u8>, Failure> {
    let _slot = fetcher.limiter.slot(fetcher.rank).await;
    let mut body = fetcher.get(client, path, part).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        if (bytes.len() + piece.len()) as u64 > limit {
            let what = format!("has more than the {limit} bytes that it may have");
            return Err(PullError::VersionBroken { object: path.to_string(), what }.into());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
