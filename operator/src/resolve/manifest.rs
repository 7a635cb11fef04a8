//! From a prefix in S3 to a manifest: read where it is published, else computed once from the objects and written
//! there; and the check that the objects still are what the manifest says. Streams: memory does not grow with weights.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};
use nave_manifest::{
    FileEntry, FileHasher, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, ManifestError, is_reserved,
};
use nave_names::{Digest, RelativePath};
use object_store::{
    GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, path::Path,
};
use tokio::sync::mpsc;

use super::source::SourceError;

/// Objects hashed at once: enough to hide S3's latency, few enough to leave the gateway a core.
const HASHED_AT_ONCE: usize = 2;
/// Pieces of an object's body between the network and the hasher, of some tens of KiB each.
const PIECES_AHEAD: usize = 16;

/// Why a version has no usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// S3, or the way to it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nothing is there.
    #[error("there is no object below {place}")]
    EmptyPrefix {
        /// `s3://bucket/prefix`.
        place: String,
    },
    /// A key that cannot become a file on a spoke.
    #[error("object {key} cannot become a file: {problem}")]
    BadObjectKey {
        /// The object's key.
        key: String,
        /// Which rule it breaks.
        problem: String,
    },
    /// What is in `manifest.json` is not a manifest, or the objects do not make one.
    #[error("{place}: {source}")]
    ManifestMalformed {
        /// `s3://bucket/prefix/manifest.json`.
        place: String,
        /// Which rule it breaks.
        #[source]
        source: ManifestError,
    },
    /// The spec pins another digest.
    #[error("the manifest has the digest {found}, but spec.manifestDigest pins {pinned}")]
    DigestMismatch {
        /// What the spec says.
        pinned: String,
        /// What is there.
        found: Digest,
    },
    /// The manifest is another than when the version was resolved.
    #[error("manifest.json was changed after the version was resolved: it was {resolved}, now it is {found}")]
    ManifestChanged {
        /// What status.manifestDigest says.
        resolved: String,
        /// What is there.
        found: Digest,
    },
    /// An object is another than when its manifest was made.
    #[error("object {key} {problem}")]
    ObjectChanged {
        /// The object's key.
        key: String,
        /// In what way.
        problem: String,
    },
    /// An object that the manifest names is gone.
    #[error("object {key} is named by the manifest but does not exist")]
    ObjectMissing {
        /// The object's key.
        key: String,
    },
    /// Another ModelVersion stands for the same version of the same model.
    #[error("ModelVersion {winner} was there first for version {version} of model {model}")]
    DuplicateVersion {
        /// The model.
        model: String,
        /// The version.
        version: String,
        /// The object that counts.
        winner: String,
    },
    /// The process is ending.
    #[error("hashing of {key} was interrupted")]
    Interrupted {
        /// The object's key.
        key: String,
    },
}

impl ResolveError {
    /// One CamelCase word, for conditions.
    pub fn reason(&self) -> &str {
        match self {
            Self::Source(error) => error.reason(),
            Self::EmptyPrefix { .. } => "EmptyPrefix",
            Self::BadObjectKey { .. } => "BadObjectKey",
            Self::ManifestMalformed { .. } => "ManifestMalformed",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::ManifestChanged { .. } => "ManifestChanged",
            Self::ObjectChanged { .. } => "ObjectChanged",
            Self::ObjectMissing { .. } => "ObjectMissing",
            Self::DuplicateVersion { .. } => "DuplicateVersion",
            Self::Interrupted { .. } => "Interrupted",
        }
    }

    /// Whether time alone is likely to mend it: then a version that was resolved before stays Ready meanwhile.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Source(error) => error.is_transient(),
            Self::Interrupted { .. } => true,
            Self::EmptyPrefix { .. }
            | Self::BadObjectKey { .. }
            | Self::ManifestMalformed { .. }
            | Self::DigestMismatch { .. }
            | Self::ManifestChanged { .. }
            | Self::ObjectChanged { .. }
            | Self::ObjectMissing { .. }
            | Self::DuplicateVersion { .. } => false,
        }
    }
}

/// Which state of each object is known to match the manifest: key to ETag.
pub type KnownObjects = BTreeMap<String, String>;

/// A version's manifest, and which objects were seen to match it.
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
    /// What the next check need not look into.
    pub known: KnownObjects,
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
    pub async fn resolve(&self, known: &KnownObjects) -> Result<Resolved, ResolveError> {
        let objects = self.list().await?;
        if let Some(published) = objects.manifest.clone() {
            return self.read(objects, &published, known).await;
        }
        let manifest = self.compute(&objects).await?;
        match self.write(&manifest).await? {
            Written::Ours => Ok(resolved(&manifest, true, objects.etags())),
            // Someone published in the meantime: that manifest counts, as for everyone who looks.
            Written::AlreadyThere => {
                let objects = self.list().await?;
                let gone = || ResolveError::ObjectMissing { key: self.manifest_key().to_string() };
                let published = objects.manifest.clone().ok_or_else(gone)?;
                self.read(objects, &published, known).await
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
        objects: Objects,
        published: &ObjectMeta,
        known: &KnownObjects,
    ) -> Result<Resolved, ResolveError> {
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
        self.check(&manifest, &objects, published, known).await?;
        Ok(resolved(&manifest, false, objects.etags()))
    }

    /// The objects are the manifest's files. Sizes are compared; an object that was written after the manifest is
    /// hashed again, unless this very state of it is known to match.
    async fn check(
        &self,
        manifest: &Manifest,
        objects: &Objects,
        published: &ObjectMeta,
        known: &KnownObjects,
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
            let is_known = object.e_tag.is_some() && known.get(&key) == object.e_tag.as_ref();
            if is_known || object.last_modified <= published.last_modified {
                continue;
            }
            let now = self.hash(&file.path, object).await?;
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
        let mut waiting = objects.files.iter();
        let mut hashing = FuturesUnordered::new();
        let mut entries = Vec::with_capacity(objects.files.len());
        loop {
            while hashing.len() < HASHED_AT_ONCE
                && let Some((path, object)) = waiting.next()
            {
                hashing.push(self.hash(path, object));
            }
            let Some(entry) = hashing.next().await else { break };
            entries.push(entry?);
        }
        Manifest::new(entries)
            .map_err(|source| ResolveError::ManifestMalformed { place: self.place(MANIFEST_FILE), source })
    }

    async fn hash(&self, path: &RelativePath, object: &ObjectMeta) -> Result<FileEntry, ResolveError> {
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
            let mut hasher = FileHasher::new(path);
            while let Some(piece) = received.blocking_recv() {
                hasher.update(&piece);
            }
            hasher.finish()
        });
        while let Some(piece) = body.try_next().await.map_err(failed)? {
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let entry = hashing.await.map_err(|_| ResolveError::Interrupted { key: key.clone() })?;
        if entry.size == object.size { Ok(entry) } else { Err(changed("changed its size while it was read")) }
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
    fn etags(&self) -> KnownObjects {
        let known = |object: &ObjectMeta| Some((object.location.to_string(), object.e_tag.clone()?));
        self.files.values().filter_map(known).collect()
    }
}

fn resolved(manifest: &Manifest, computed: bool, known: KnownObjects) -> Resolved {
    Resolved {
        digest: manifest.digest(),
        size: manifest.total_size(),
        files: manifest.files().len(),
        computed,
        known,
    }
}
