//! Makes bundles without the CLI, so that a test can make them wrong; and a site that imports them.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nave_agent::{
    import::{Alone, ImportError, ImportProgress, Imported, Importer, Trusted},
    store::Store,
};
use nave_bundle::{Base, Bundle, Contents, Had, Part, Runs, Source, Version, part_name};
use nave_manifest::{FileHasher, Manifest};
use nave_names::{Digest, Generation, RelativePath};
use nave_signature::SigningKey;
use rcgen::KeyPair;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const MIB: usize = 1 << 20;
/// Small, so that chunks lie across the borders of parts.
const SPLIT: usize = 700_000;

/// Bytes that no other seed and no other place has.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The content of one version.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) version: &'static str,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Model {
    pub(crate) fn new(version: &'static str, files: &[(&str, Vec<u8>)]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        Self { version, files }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let entry = |(name, bytes): (&String, &Vec<u8>)| {
            let mut hasher = FileHasher::new(RelativePath::new(name.as_str()).unwrap());
            hasher.update(bytes);
            hasher.finish()
        };
        Manifest::new(self.files.iter().map(entry).collect()).unwrap()
    }
}

/// A bundle on its way into a folder.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) bundle: Bundle,
    pub(crate) stream: Vec<u8>,
    had: Had,
}

/// One version on its way into a bundle, right or wrong.
pub(crate) struct Load {
    pub(crate) version: &'static str,
    pub(crate) manifest: Vec<u8>,
    pub(crate) size: u64,
    /// Its `model.sig`; empty = none.
    pub(crate) signature: Vec<u8>,
    pub(crate) base: Option<Base>,
    /// The object.
    pub(crate) delta: Vec<u8>,
    /// Bytes at its end.
    pub(crate) index: usize,
    pub(crate) chunks: BTreeMap<RelativePath, Runs>,
    /// Of the chunks.
    pub(crate) bytes: Vec<u8>,
}

impl Load {
    /// The version with these of its chunks.
    pub(crate) fn of(model: &Model, base: Option<&Model>, chunks: BTreeMap<RelativePath, Runs>) -> Self {
        let manifest = model.manifest();
        let named = |base: &Model| Base {
            version: base.version.parse().unwrap(),
            manifest_digest: base.manifest().digest(),
        };
        Self {
            version: model.version,
            manifest: manifest.to_canonical_bytes(),
            size: manifest.total_size(),
            signature: Vec::new(),
            base: base.map(named),
            delta: Vec::new(),
            index: 0,
            bytes: chunks
                .iter()
                .map(|(path, runs)| carried(model, &manifest, path, runs))
                .collect::<Vec<_>>()
                .concat(),
            chunks,
        }
    }
}

impl Maker {
    pub(crate) fn new(generation: u64) -> Self {
        let bundle = Bundle {
            source: Source::PlacementPolicy {
                namespace: "default".parse().unwrap(),
                name: "bridges".parse().unwrap(),
            },
            generation: Generation(generation),
            created_at: "2026-11-25T20:00:00Z".to_owned(),
            created_by: "a test".to_owned(),
            parts: Vec::new(),
            versions: Vec::new(),
        };
        Self { bundle, stream: Vec::new(), had: Had::default() }
    }

    /// The site has this version.
    pub(crate) fn upon(mut self, base: &Model) -> Self {
        self.had.add(&base.manifest());
        self
    }

    /// Carries a version, built upon what the site has.
    pub(crate) fn carry(mut self, model: &Model, base: Option<&Model>) -> Self {
        let manifest = model.manifest();
        let chunks = self.had.lacks(&manifest, &HashSet::new());
        self.had.add(&manifest);
        self.load(Load::of(model, base, chunks))
    }

    /// Carries exactly this.
    pub(crate) fn load(mut self, load: Load) -> Self {
        let Load { version, manifest, size, signature, base, delta, index, chunks, bytes } = load;
        self.bundle.versions.push(Version {
            namespace: "default".parse().unwrap(),
            model: "vit".parse().unwrap(),
            version: version.parse().unwrap(),
            manifest_digest: Digest::of(&manifest),
            size_bytes: size,
            base,
            contents: Contents {
                manifest_bytes: manifest.len() as u64,
                signature_bytes: signature.len() as u64,
                signature_digest: (!signature.is_empty()).then(|| Digest::of(&signature)),
                delta_bytes: delta.len() as u64,
                delta_index_bytes: index as u64,
                chunk_bytes: bytes.len() as u64,
                chunks,
            },
        });
        self.stream.extend([manifest, signature, delta, bytes].concat());
        self
    }

    /// Writes the folder, signed by this key. `change` may spoil bundle.json before.
    pub(crate) fn write(self, to: &Path, key: &Key, change: impl FnOnce(&mut Bundle)) -> PathBuf {
        self.write_as(to, key, change, |text| text)
    }

    /// The same, where `text` may spoil what bundle.json says in words that no [`Bundle`] has.
    pub(crate) fn write_as(
        mut self,
        to: &Path,
        key: &Key,
        change: impl FnOnce(&mut Bundle),
        text: impl FnOnce(String) -> String,
    ) -> PathBuf {
        fs::create_dir_all(to).unwrap();
        for (at, bytes) in self.stream.chunks(SPLIT).enumerate() {
            let name = part_name(at + 1);
            fs::write(to.join(&name), bytes).unwrap();
            self.bundle.parts.push(Part { name, size: bytes.len() as u64, sha256: Digest::of(bytes) });
        }
        fs::write(to.join("README.txt"), "for people\n").unwrap();
        change(&mut self.bundle);
        let json = text(String::from_utf8(self.bundle.to_bytes()).unwrap());
        fs::write(to.join("bundle.json"), &json).unwrap();
        let mut files = vec![("README.txt".to_owned(), Digest::of(b"for people\n"))];
        files.push(("bundle.json".to_owned(), Digest::of(json.as_bytes())));
        // A part whose name is none can be in no signature: then the one is signed that lies there.
        for (at, part) in self.bundle.parts.iter().enumerate() {
            let name = if RelativePath::new(part.name.as_str()).is_ok() {
                part.name.clone()
            } else {
                part_name(at + 1)
            };
            files.push((name, part.sha256));
        }
        key.sign(to, &files);
        to.to_owned()
    }
}

fn carried(model: &Model, manifest: &Manifest, path: &RelativePath, runs: &Runs) -> Vec<u8> {
    let (bytes, chunks) = (&model.files[path.as_str()], &manifest.file(path).unwrap().chunks);
    let all: Vec<_> = chunks.iter().collect();
    let run = |(first, last)| {
        bytes[all[first as usize].offset as usize..all[last as usize].end() as usize].to_vec()
    };
    runs.iter().map(run).collect::<Vec<_>>().concat()
}

/// Who signs.
pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(KeyPair::generate().unwrap())
    }

    pub(crate) fn sign(&self, folder: &Path, files: &[(String, Digest)]) {
        let files = files.iter().map(|(name, digest)| (RelativePath::new(name.as_str()).unwrap(), *digest));
        let key = SigningKey::from_pem(self.0.serialize_pem().as_bytes()).unwrap();
        let signature = key.sign("bundle", &files.collect(), &["model.sig"]).unwrap();
        fs::write(folder.join("model.sig"), signature).unwrap();
    }
}

/// What lies in a folder, signed as it is, and more.
pub(crate) fn sign_folder(key: &Key, folder: &Path, more: &[(&str, &[u8])]) {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<(String, Digest)> = entries
        .filter(|entry| entry.file_name() != "model.sig")
        .map(|entry| (entry.file_name().into_string().unwrap(), Digest::of(&fs::read(entry.path()).unwrap())))
        .collect();
    for (name, bytes) in more {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        files.push(((*name).to_owned(), Digest::of(bytes)));
    }
    key.sign(folder, &files);
}

/// A site with a state folder of its own.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) key: Key,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), key: Key::new() };
        fs::write(site.folder.path().join("key.pem"), site.key.0.public_key_pem()).unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, bundle: &Path) -> Command {
        let mut command = self.command_without_key(bundle);
        command.arg("--key").arg(self.path("key.pem"));
        command
    }

    pub(crate) fn command_without_key(&self, bundle: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nave-agent"));
        command.arg("import").arg(bundle).args(["-o", "json", "--state-dir"]).arg(self.path("state"));
        command.env_remove("NAVE_CONFIG");
        command
    }

    /// Imports a bundle that is right.
    pub(crate) fn import(&self, bundle: &Path) -> Value {
        let (code, said) = run(&mut self.command(bundle));
        assert_eq!(code, 0, "{said}");
        said
    }

    /// Exit code, reason and message of one that is not; and nothing of it is in the store.
    pub(crate) fn refused(&self, bundle: &Path) -> (i32, String, String) {
        let before = self.held();
        let (code, said) = run(&mut self.command(bundle));
        assert_eq!(self.held(), before, "{said}");
        refusal(code, &said)
    }

    /// The same in this process, which is faster.
    pub(crate) fn import_here(&self, bundle: &Path) -> Result<Imported, ImportError> {
        let state = self.path("state");
        let store = Store::open(state.join("store")).unwrap();
        let trusted = Trusted::find(Some(&self.key.0.public_key_pem()), None, &state)?;
        let custody = Alone::new(&state, store.clone());
        let (cancel, (progress, _)) = (CancellationToken::new(), watch::channel(ImportProgress::default()));
        let importer = Importer {
            store: &store,
            custody: &custody,
            trusted: &trusted,
            cancel: &cancel,
            progress: &progress,
        };
        importer.import(bundle)
    }

    pub(crate) fn held(&self) -> Vec<Digest> {
        let dir = self.path("state/store");
        if dir.exists() { Store::open_read_only(dir).unwrap().digests().unwrap() } else { Vec::new() }
    }

    /// The version is in the store, byte for byte.
    pub(crate) fn assert_holds(&self, model: &Model) {
        let store = Store::open(self.path("state/store")).unwrap();
        let digest = model.manifest().digest();
        assert_eq!(store.verify(false).unwrap().findings, []);
        let target = self.path(&format!("laid-out-{}", model.version));
        store.materialise(&digest, &target).unwrap();
        for (name, bytes) in &model.files {
            assert!(fs::read(target.join(name)).unwrap() == *bytes, "{name}");
        }
    }
}

pub(crate) fn refusal(code: i32, said: &Value) -> (i32, String, String) {
    let text = |field: &str| said["error"][field].as_str().unwrap_or_default().to_owned();
    (code, text("reason"), text("message"))
}

pub(crate) fn run(command: &mut Command) -> (i32, Value) {
    let ended = command.output().unwrap();
    let said = serde_json::from_slice(&ended.stdout);
    let said = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ended.stderr)));
    (ended.status.code().unwrap(), said)
}
