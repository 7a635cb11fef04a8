//! Checks a version's signature, before any of its weights: the manifest says which files the version has, the signature
//! has to say the same of them. Offline where the store has both already.

use nave_manifest::Manifest;
use nave_names::{Digest, RelativePath};
use nave_signature::{MAX_SIGNATURE_BYTES, SIGNATURE_FILE, SignatureError, Trust};

use super::{
    PullError, PullRequest, Puller,
    fetch::Part,
    manifest_fetch::{fetch_bytes, fetch_manifest},
    recovery::Recovery,
    run::blocking,
    trouble::{Failure, Streak, Trouble},
};
use crate::store::{Staging, Store};

/// How often a signature that does not count is fetched anew: one wrong answer may come from a cache in between.
const MAX_WRONG: u32 = 3;

impl Puller {
    /// Returns when the version's signature was checked against `trust`. The signature is kept in the store.
    ///
    /// # Errors
    /// [`PullError::SignatureMissing`] and [`PullError::SignatureRefused`] say no; anything else is trouble on the way.
    pub async fn verify_signature(&self, request: PullRequest, trust: Trust) -> Result<(), PullError> {
        let digest = request.manifest_digest;
        let cancel = request.cancel.clone();
        let verify = async {
            let turn = self.turn(digest);
            let _alone = turn.lock().await;
            check(self.store(), &self.recovery(request), &digest, &trust).await
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(PullError::Cancelled),
            done = verify => done,
        }
    }
}

async fn check(store: &Store, recovery: &Recovery, digest: &Digest, trust: &Trust) -> Result<(), PullError> {
    let manifest = manifest_of(store, recovery, digest).await?;
    let kept = {
        let (store, digest) = (store.clone(), *digest);
        blocking(move || store.signature(&digest)).await?
    };
    if kept.is_some_and(|kept| judge(&kept, trust, &manifest).is_ok()) {
        return Ok(());
    }
    let signature = fetch(recovery, trust, &manifest).await?;
    let (store, digest) = (store.clone(), *digest);
    blocking(move || store.keep_signature(&digest, &signature)).await
}

/// The version's manifest, which is kept for the pull that follows.
async fn manifest_of(store: &Store, recovery: &Recovery, digest: &Digest) -> Result<Manifest, PullError> {
    let earlier = {
        let (store, digest) = (store.clone(), *digest);
        let look = move || match store.has(&digest) {
            true => store.manifest(&digest).map(Some),
            false => Ok(Staging::earlier_manifest(&store, &digest)),
        };
        blocking(look).await?
    };
    if let Some(manifest) = earlier {
        return Ok(manifest);
    }
    let manifest = fetch_manifest(recovery, Some(digest)).await?;
    let (store, kept) = (store.clone(), std::sync::Arc::new(manifest.clone()));
    blocking(move || Staging::open(&store, kept).begin()).await?;
    Ok(manifest)
}

async fn fetch(recovery: &Recovery, trust: &Trust, manifest: &Manifest) -> Result<Vec<u8>, PullError> {
    let path = RelativePath::new(SIGNATURE_FILE)
        .map_err(|error| PullError::Client(format!("path of the signature: {error}")))?;
    let mut streak = Streak::default();
    let mut wrong = 0;
    loop {
        recovery.wait_for_window().await;
        let client = recovery.client(wrong > 0)?;
        let part = Part::AtMost(MAX_SIGNATURE_BYTES);
        let fetched = fetch_bytes(&recovery.fetcher(), client, &path, part, MAX_SIGNATURE_BYTES).await;
        let failure = match fetched {
            Ok(bytes) => match judge(&bytes, trust, manifest) {
                Ok(()) => return Ok(bytes),
                Err(error) => {
                    wrong += 1;
                    if wrong >= MAX_WRONG {
                        return Err(PullError::SignatureRefused(error));
                    }
                    Failure::Retry(Trouble::Corrupt)
                }
            },
            Err(Failure::Stop(PullError::Missing { status, message, .. })) => {
                let what = format!("is not there (status {status} {message})");
                return Err(PullError::SignatureMissing { what });
            }
            Err(Failure::Stop(PullError::VersionBroken { what, .. })) => {
                return Err(PullError::SignatureMissing { what });
            }
            Err(failure) => failure,
        };
        recovery.recover(&path, failure, &mut streak).await?;
    }
}

/// Whether the signature counts, and is of exactly the files of the manifest.
pub(crate) fn judge(signature: &[u8], trust: &Trust, manifest: &Manifest) -> Result<(), SignatureError> {
    let files = manifest.files().iter().map(|file| (&file.path, &file.sha256));
    trust.verify(signature)?.check_covers(files)
}
