//! From a prefix in S3 to a manifest: read where it is published, else computed once from the objects and written
//! there; and the check that the objects still are what the manifest says. Streams: memory does not grow with weights.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};
use nave_manifest::{
    ExternalData, FileEntry, FileHasher, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, ManifestError,
    is_reserved,
};
use nave_names::{Digest, RelativePath};
use nave_signature::{MAX_SIGNATURE_BYTES, SIGNATURE_FILE};
use object_store::{
    GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, path::Path,
};
use tokio::sync::mpsc;

use super::{error::ResolveError, source::SourceError};

/// Objects hashed at once: enough to hide S3's latency, few enough to leave the gateway a core.
const HASHED_AT_ONCE: usize = 2;
/// Pieces of an object's body between the network and the hasher, of some tens of KiB each.
const PIECES_AHEAD: usize = 16;

/// A state of objects: key to ETag.
type Etags = BTreeMap<String, String>;

/// What one attempt leaves for the next one of the same version, so that no byte is hashed twice in vain.
#[derive(Debug, Default)]
pub struct Memory {
    /// The state of the objects that is known to match the manifest.
    matching: Etags,
    /// A manifest that was computed and could not be written, and the state that it is of.
    unwritten: Option<(Etags, Manifest)>,
}

/// A version's manifest.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The manifest's digest: the version's identity.
    pub digest: Digest,
    /// Sum of the files' sizes.
    pub size: u64,
    /// How many files.
    pub files: usize,
    /// The hub made the manifest just now, because there was none.
    pub computed: bool,
}

/// A prefix in a bucket.
#[derive(Debug)]
pub struct Prefix<'a> {
    /// The bucket.
    pub store: &'a dyn ObjectStore,
    /// For messages.
    pub bucket: &'a str,
    /// Without slashes at its ends.
    pub prefix: Path,
}

impl Prefix<'_> {
    /// Reads or makes the manifest and checks the objects against it.
    ///
    /// # Errors
    /// [`ResolveError`] names the object and the rule.
    pub async fn resolve(&self, memory: &mut Memory) -> Result<(Resolved, Manifest), ResolveError> {
        let objects = self.list().await?;
        if let Some(published) = objects.manifest.clone() {
            return self.read(&objects, &published, memory).await;
        }
        let manifest = match memory.unwritten.take() {
            Some((state, manifest)) if state == objects.etags() => manifest,
            Some(_) | None => self.compute(&objects).await?,
        };
        match self.write(&manifest).await {
            Err(error) => {
                memory.unwritten = Some((objects.etags(), manifest));
                Err(error)
            }
            Ok(Written::Ours) => {
                memory.matching = objects.etags();
                Ok((resolved(&manifest, true), manifest))
            }
            // Someone published in the meantime: that manifest counts, as for everyone who looks.
            Ok(Written::AlreadyThere) => {
                let objects = self.list().await?;
                let gone = || ResolveError::ObjectMissing { key: self.manifest_key().to_string() };
                let published = objects.manifest.clone().ok_or_else(gone)?;
                self.read(&objects, &published, memory).await
            }
        }
    }

    async fn list(&self) -> Result<Objects, ResolveError> {
        let failed = |error: &object_store::Error| SourceError::from_s3("list", self.place(""), error);
        let mut all: Vec<ObjectMeta> =
            self.store.list(Some(&self.prefix)).try_collect().await.map_err(|error| failed(&error))?;
        all.sort_by(|a, b| a.location.cmp(&b.location));
        let mut objects = Objects::default();
        for (at, object) in all.iter().enumerate() {
            let Some(below) = object.location.prefix_match(&self.prefix) else { continue };
            let relative = below.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            // Consoles make "folders" as empty objects whose key ends in a slash; they are not files.
            let is_folder_mark = object.size == 0
                && all.get(at + 1).is_some_and(|next| {
                    next.location.prefix_matches(&object.location) && next.location != object.location
                });
            if relative.is_empty() || is_folder_mark {
                continue;
            }
            let path = RelativePath::new(relative).map_err(|error| ResolveError::BadObjectKey {
                key: object.location.to_string(),
                problem: error.to_string(),
            })?;
            if path.as_str() == MANIFEST_FILE {
                objects.manifest = Some(object.clone());
            } else if !is_reserved(&path) {
                objects.files.insert(path, object.clone());
            }
        }
        if objects.files.is_empty() && objects.manifest.is_none() {
            return Err(ResolveError::EmptyPrefix { place: self.place("") });
        }
        Ok(objects)
    }

    async fn read(
        &self,
        objects: &Objects,
        published: &ObjectMeta,
        memory: &mut Memory,
    ) -> Result<(Resolved, Manifest), ResolveError> {
        let malformed = |source| ResolveError::ManifestMalformed { place: self.place(MANIFEST_FILE), source };
        let size = usize::try_from(published.size).unwrap_or(usize::MAX);
        if size > MAX_MANIFEST_BYTES {
            return Err(malformed(ManifestError::TooLarge { size }));
        }
        let failed =
            |error: &object_store::Error| SourceError::from_s3("read", self.place(MANIFEST_FILE), error);
        let body = self.store.get(&published.location).await.map_err(|error| failed(&error))?;
        let bytes = body.bytes().await.map_err(|error| failed(&error))?;
        let manifest = Manifest::parse(&bytes).map_err(malformed)?;
        self.check(&manifest, objects, published, &memory.matching).await?;
        memory.matching = objects.etags();
        Ok((resolved(&manifest, false), manifest))
    }

    /// The objects are the manifest's files. Sizes are compared; an object that was written after the manifest is
    /// hashed again, unless this very state of it is known to match.
    async fn check(
        &self,
        manifest: &Manifest,
        objects: &Objects,
        published: &ObjectMeta,
        matching: &Etags,
    ) -> Result<(), ResolveError> {
        for file in manifest.files() {
            let Some(object) = objects.files.get(&file.path) else {
                return Err(ResolveError::ObjectMissing { key: self.key(&file.path) });
            };
            let key = object.location.to_string();
            if object.size != file.size {
                let problem = format!("has {} bytes, {} in the manifest", object.size, file.size);
                return Err(ResolveError::ObjectChanged { key, problem });
            }
            let is_known = object.e_tag.is_some() && matching.get(&key) == object.e_tag.as_ref();
            if is_known || object.last_modified <= published.last_modified {
                continue;
            }
            let (now, _) = self.hash(&file.path, object, Arc::default()).await?;
            if now.sha256 != file.sha256 {
                let problem =
                    format!("was changed: its SHA-256 is {}, {} in the manifest", now.sha256, file.sha256);
                return Err(ResolveError::ObjectChanged { key, problem });
            }
        }
        Ok(())
    }

    async fn compute(&self, objects: &Objects) -> Result<Manifest, ResolveError> {
        let bytes: u64 = objects.files.values().map(|object| object.size).sum();
        tracing::info!(
            place = self.place(""),
            files = objects.files.len(),
            bytes,
            "no manifest; hashing the objects"
        );
        // Files that say where others' tensors lie come first.
        let (first, rest): (Vec<_>, Vec<_>) =
            objects.files.iter().partition(|(path, _)| ExternalData::refers(path));
        let mut external = ExternalData::default();
        let mut entries = Vec::with_capacity(objects.files.len());
        for files in [first, rest] {
            let known = Arc::new(std::mem::take(&mut external));
            let mut waiting = files.into_iter();
            let mut hashing = FuturesUnordered::new();
            loop {
                while hashing.len() < HASHED_AT_ONCE
                    && let Some((path, object)) = waiting.next()
                {
                    hashing.push(self.hash(path, object, Arc::clone(&known)));
                }
                let Some(hashed) = hashing.next().await else { break };
                let (entry, learned) = hashed?;
                entries.push(entry);
                external.extend(learned);
            }
        }
        Manifest::new(entries)
            .map_err(|source| ResolveError::ManifestMalformed { place: self.place(MANIFEST_FILE), source })
    }

    #[allow(clippy::wildcard_enum_match_arm)] // Not our enum: it may grow.
    async fn hash(
        &self,
        path: &RelativePath,
        object: &ObjectMeta,
        known: Arc<ExternalData>,
    ) -> Result<(FileEntry, ExternalData), ResolveError> {
        let key = object.location.to_string();
        let changed =
            |problem: &str| ResolveError::ObjectChanged { key: key.clone(), problem: problem.to_owned() };
        let failed = |error: object_store::Error| match error {
            object_store::Error::Precondition { .. } => changed("was changed while it was read"),
            other => SourceError::from_s3("read", format!("s3://{}/{key}", self.bucket), &other).into(),
        };
        let only_this_state = GetOptions { if_match: object.e_tag.clone(), ..GetOptions::default() };
        let body = self.store.get_opts(&object.location, only_this_state).await.map_err(failed)?;
        let mut body = body.into_stream();
        let (pieces, mut received) = mpsc::channel::<bytes::Bytes>(PIECES_AHEAD);
        let path = path.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hasher = FileHasher::knowing(path, &known);
            while let Some(piece) = received.blocking_recv() {
                hasher.update(&piece);
            }
            let mut learned = ExternalData::default();
            (hasher.finish_into(&mut learned), learned)
        });
        while let Some(piece) = body.try_next().await.map_err(failed)? {
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let hashed = hashing.await.map_err(|_| ResolveError::Interrupted { key: key.clone() })?;
        if hashed.0.size == object.size {
            Ok(hashed)
        } else {
            Err(changed("changed its size while it was read"))
        }
    }

    /// The signature beside the files; `None` where there is none, or something far too large for one.
    pub async fn read_signature(&self) -> Result<Option<Vec<u8>>, ResolveError> {
        let failed =
            |error: &object_store::Error| SourceError::from_s3("read", self.place(SIGNATURE_FILE), error);
        let found = match self.store.get(&self.prefix.clone().join(SIGNATURE_FILE)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(&error).into()),
        };
        if found.meta.size > MAX_SIGNATURE_BYTES {
            return Ok(None);
        }
        Ok(Some(found.bytes().await.map_err(|error| failed(&error))?.to_vec()))
    }

    async fn write(&self, manifest: &Manifest) -> Result<Written, ResolveError> {
        let only_new = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put =
            self.store.put_opts(&self.manifest_key(), manifest.to_canonical_bytes().into(), only_new).await;
        match put {
            Ok(_) => Ok(Written::Ours),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Written::AlreadyThere)
            }
            Err(error) => {
                let action = "write (allow s3:PutObject, or publish with `kubectl nave publish`)";
                Err(SourceError::from_s3(action, self.place(MANIFEST_FILE), &error).into())
            }
        }
    }

    fn manifest_key(&self) -> Path {
        self.prefix.clone().join(MANIFEST_FILE)
    }

    fn key(&self, path: &RelativePath) -> String {
        format!("{}/{path}", self.prefix)
    }

    fn place(&self, below: &str) -> String {
        format!("s3://{}/{}/{below}", self.bucket, self.prefix)
    }
}

enum Written {
    Ours,
    AlreadyThere,
}

#[derive(Default)]
struct Objects {
    manifest: Option<ObjectMeta>,
    files: BTreeMap<RelativePath, ObjectMeta>,
}

impl Objects {
    fn etags(&self) -> Etags {
        let known = |object: &ObjectMeta| Some((object.location.to_string(), object.e_tag.clone()?));
        self.files.values().filter_map(known).collect()
    }
}

fn resolved(manifest: &Manifest, computed: bool) -> Resolved {
    Resolved {
        digest: manifest.digest(),
        size: manifest.total_size(),
        files: manifest.files().len(),
        computed,
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
