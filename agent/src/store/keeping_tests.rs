//! Tests of what stays in the store and what goes, of the order in which things are done, and of the room that is set aside.

use std::{
    fs::{File, FileTimes},
    sync::Arc,
    time::{Duration, SystemTime},
};

use nave_manifest::{FileEntry, FileHasher, Manifest};
use nave_names::RelativePath;

use super::*;
use crate::store::{Part, Roots, Staging, part::OpenFiles};

const MIB: u64 = 1 << 20;

struct Kept {
    folder: tempfile::TempDir,
    store: Store,
}

/// A file of so many MiB of one byte each.
fn file(path: &str, byte: u8, mib: usize) -> (FileEntry, Vec<u8>) {
    let bytes = vec![byte; mib << 20];
    let mut hasher = FileHasher::new(RelativePath::new(path).unwrap());
    hasher.update(&bytes);
    (hasher.finish(), bytes)
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        store.set_quota(64 * MIB);
        Self { folder, store }
    }

    /// A version of these files that is on its way.
    fn begin(&self, files: &[(FileEntry, Vec<u8>)]) -> (Staging, Digest) {
        let manifest = Manifest::new(files.iter().map(|(entry, _)| entry.clone()).collect()).unwrap();
        let digest = manifest.digest();
        let staging = Staging::open(&self.store, Arc::new(manifest));
        staging.begin().unwrap();
        for (entry, bytes) in files {
            staging.part(entry).unwrap().0.write(0, &[bytes]).unwrap();
            staging.mark_verified(entry.sha256);
        }
        (staging, digest)
    }

    /// A version of these files that is here.
    fn hold(&self, files: &[(FileEntry, Vec<u8>)]) -> Digest {
        let (staging, digest) = self.begin(files);
        staging.publish().unwrap();
        digest
    }

    fn needs(&self, versions: &[Digest]) {
        let roots = versions.iter().map(|version| (*version, "served".to_owned())).collect();
        self.store.set_roots(&Roots(roots)).unwrap();
    }

    fn whole(&self, version: &Digest) -> bool {
        self.store.has(version) && self.store.is_whole(version)
    }
}

#[test]
fn what_a_pull_works_on_stays_with_all_that_it_needs() {
    let kept = Kept::new();
    let (shared, own) = (file("a", 1, 2), file("b", 2, 2));
    let old = kept.hold(std::slice::from_ref(&shared));
    kept.needs(&[]);
    let (staging, new) = kept.begin(&[shared.clone(), own]);
    let gone = kept.store.gc().unwrap();
    assert_eq!((gone.versions, gone.blobs, gone.stagings), (vec![old], 0, 0));
    assert!(kept.store.has_blob(&shared.0.sha256, shared.0.size), "it is the next version's too");
    staging.publish().unwrap();
    assert_eq!(kept.store.gc().unwrap(), GcReport::default(), "nobody has said yet that it is needed");
    drop(staging);
    assert_eq!(kept.store.gc().unwrap().versions, [new]);
    assert!(!kept.store.has_blob(&shared.0.sha256, shared.0.size));
}

#[test]
fn what_was_begun_and_signed_stays_for_those_who_need_it_alone() {
    let kept = Kept::new();
    let (needed, other) = ([file("a", 1, 2)], [file("b", 2, 2)]);
    let begun = [kept.begin(&needed).1, kept.begin(&other).1];
    begun.iter().for_each(|version| kept.store.keep_signature(version, b"signature").unwrap());
    kept.needs(&begun[..1]);
    assert_eq!(kept.store.gc().unwrap().stagings, 1);
    assert_eq!(kept.store.unfinished().unwrap(), begun[..1]);
    let signatures = begun.map(|version| kept.store.signature(&version).unwrap());
    assert_eq!(signatures, [Some(b"signature".to_vec()), None]);
}

#[test]
fn room_is_promised_once_and_what_does_not_help_does_not_go() {
    let kept = Kept::new();
    let version = kept.hold(&[file("a", 1, 4)]);
    let free = |kept: &Kept| kept.store.room().unwrap().available / MIB;
    let refused = |bytes: u64| kept.store.promise(bytes).unwrap_err().to_string();
    // 60 are left, of which 4 stay free.
    assert_eq!(free(&kept), 59);
    assert!(refused(57 * MIB).contains("disk full") && kept.store.has(&version), "nobody said what may go");
    kept.needs(&[version]);
    assert!(refused(57 * MIB).contains("disk full") && kept.store.has(&version));
    kept.needs(&[]);
    assert_eq!(free(&kept), 63);
    assert!(refused(61 * MIB).contains("disk full") && kept.store.has(&version), "it would not help");

    let mut first = kept.store.promise(40 * MIB).unwrap();
    let words = refused(30 * MIB);
    assert!(words.contains(&(40 * MIB).to_string()) && kept.store.has(&version), "{words}");
    first.settle(20 * MIB);
    let second = kept.store.promise(30 * MIB).unwrap();
    drop((first, second));
    drop(kept.store.promise(55 * MIB).unwrap());
    assert!(kept.store.has(&version));

    let pinned = Staging::open(&kept.store, Arc::new(kept.store.manifest(&version).unwrap()));
    assert_eq!(free(&kept), 59, "a pull works on it");
    assert!(refused(57 * MIB).contains("disk full") && kept.store.has(&version));
    drop(pinned);
    drop(kept.store.promise(57 * MIB).unwrap());
    assert!(!kept.store.has(&version), "it made room");
}

#[test]
fn a_version_is_there_after_its_files_and_gone_before_them() {
    let kept = Kept::new();
    let (entry, bytes) = file("a", 1, 2);
    let files = [(entry.clone(), bytes)];
    let (staging, version) = kept.begin(&files);
    // What stands in the way of its only file.
    let blob = kept.store.hot_blob(&entry.sha256);
    let shelf = blob.parent().unwrap().to_owned();
    fs::write(&shelf, b"in the way").unwrap();
    staging.publish().unwrap_err();
    assert!(!kept.store.has(&version));
    fs::remove_file(&shelf).unwrap();
    staging.publish().unwrap();
    assert!(kept.whole(&version));

    drop(staging);
    fs::remove_file(&blob).unwrap();
    fs::create_dir(&blob).unwrap();
    kept.needs(&[]);
    kept.store.gc().unwrap_err();
    assert!(!kept.store.has(&version), "its files are going");
}

#[test]
fn a_runtimes_folder_is_known_by_what_it_holds() {
    let kept = Kept::new();
    let (entry, bytes) = file("a", 1, 2);
    let version = kept.hold(&[(entry.clone(), bytes.clone())]);
    let target = kept.folder.path().join("served");
    kept.store.materialise(&version, &target).unwrap();
    assert!(kept.store.is_laid_out(&version, &target).unwrap());
    // Another file of the same size, from before.
    let served = target.join("a");
    fs::remove_file(&served).unwrap();
    fs::write(&served, vec![2; bytes.len()]).unwrap();
    let before = SystemTime::now() - Duration::from_secs(3_600);
    File::options()
        .write(true)
        .open(&served)
        .unwrap()
        .set_times(FileTimes::new().set_modified(before))
        .unwrap();
    assert!(!kept.store.is_laid_out(&version, &target).unwrap());
    kept.store.materialise(&version, &target).unwrap();
    assert!(fs::read(&served).unwrap() == bytes);

    // A file of the store that became shorter is given to nobody.
    fs::remove_dir_all(&target).unwrap();
    let blob = kept.store.hot_blob(&entry.sha256);
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, &bytes[1..]).unwrap();
    assert_eq!(kept.store.materialise(&version, &target).unwrap_err().reason(), "StoreDamaged");
    assert!(!target.exists());
}

#[test]
fn a_journal_is_gone_on_with_behind_its_last_good_record_and_forgotten_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (sha256, size) = (Digest::of(b"part"), 5 * MIB);
    let open = || Part::open(folder.path(), &sha256, size, 5, &Arc::<OpenFiles>::default()).unwrap();
    let (part, named) = open();
    assert_eq!(named, [0_u32; 0]);
    part.reserve(size).unwrap();
    assert_eq!(Part::allocated(folder.path(), &sha256, size), size, "the room is taken");
    part.record(3).unwrap();
    // A record that did not get to the disk as a whole.
    let journal = folder.path().join(format!("{}.journal", sha256.to_hex()));
    let torn = [fs::read(&journal).unwrap(), vec![1, 0, 0]].concat();
    fs::write(&journal, torn).unwrap();
    let (part, named) = open();
    assert_eq!(named, [3]);
    part.record(1).unwrap();
    let (part, named) = open();
    assert_eq!(named, [1, 3]);
    part.forget().unwrap();
    part.record(2).unwrap();
    assert_eq!(open().1, [2]);
}

#[test]
fn what_lies_under_a_name_is_compared_with_it_and_what_has_no_name_is_found() {
    let kept = Kept::new();
    let [one, other] = [1, 2].map(|byte| kept.hold(&[file("a", byte, 2)]));
    let path = kept.store.manifest_path(&one);
    fs::remove_file(&path).unwrap();
    fs::copy(kept.store.manifest_path(&other), &path).unwrap();
    assert_eq!(kept.store.manifest(&one).unwrap_err().reason(), "StoreDamaged");
    let stranger = kept.store.dir().join("blobs/00/stranger");
    fs::create_dir_all(stranger.parent().unwrap()).unwrap();
    fs::write(&stranger, b"whose?").unwrap();
    let found = kept.store.verify(false).unwrap().findings;
    let found: Vec<_> = found.iter().map(|finding| (finding.file.as_str(), finding.problem)).collect();
    assert_eq!(
        found,
        [(path.to_str().unwrap(), "wrong digest"), (stranger.to_str().unwrap(), "unknown name")]
    );
}
