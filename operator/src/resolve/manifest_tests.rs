//! Tests of `manifest`.

use object_store::memory::InMemory;

use super::*;

async fn bucket(objects: &[(&str, &str)]) -> InMemory {
    let store = InMemory::new();
    for (key, body) in objects {
        put(&store, key, body).await;
    }
    store
}

async fn put(store: &InMemory, key: &str, body: &str) {
    store.put(&Path::from(key), body.to_owned().into()).await.unwrap();
}

async fn resolve(store: &InMemory, memory: &mut Memory) -> Result<Resolved, String> {
    let prefix = Prefix { store, bucket: "w", prefix: Path::from("m/1") };
    prefix
        .resolve(memory)
        .await
        .map(|(resolved, _)| resolved)
        .map_err(|error| format!("{}: {error}", error.reason()))
}

#[tokio::test]
async fn a_manifest_is_computed_once_and_then_read() {
    let store =
        bucket(&[("m/1/model.onnx", "weights"), ("m/1/sub/labels.txt", "a"), ("m/10/other", "x")]).await;
    put(&store, "m/1/model.sig", "not a file of the version").await;
    let first = resolve(&store, &mut Memory::default()).await.unwrap();
    assert_eq!((first.files, first.size, first.computed), (2, 8, true));
    let second = resolve(&store, &mut Memory::default()).await.unwrap();
    assert_eq!((second.digest, second.computed), (first.digest, false));
    let written = store.get(&Path::from("m/1/manifest.json")).await.unwrap().bytes().await.unwrap();
    assert_eq!(Digest::of(&written), first.digest);
}

#[tokio::test]
async fn an_object_that_changed_is_named_even_at_the_same_size() {
    let store = bucket(&[("m/1/a.bin", "aaaa"), ("m/1/b.bin", "bbbb")]).await;
    let mut memory = Memory::default();
    resolve(&store, &mut memory).await.unwrap();
    put(&store, "m/1/b.bin", "bbbb").await;
    resolve(&store, &mut memory).await.expect("uploaded again, the same bytes");
    put(&store, "m/1/b.bin", "bbbX").await;
    for memory in [&mut memory, &mut Memory::default()] {
        let error = resolve(&store, memory).await.unwrap_err();
        assert!(error.starts_with("ObjectChanged: object m/1/b.bin was changed"), "{error}");
    }
    put(&store, "m/1/b.bin", "longer").await;
    let error = resolve(&store, &mut memory).await.unwrap_err();
    assert_eq!(error, "ObjectChanged: object m/1/b.bin has 6 bytes, 4 in the manifest");
    store.delete(&Path::from("m/1/b.bin")).await.unwrap();
    let error = resolve(&store, &mut memory).await.unwrap_err();
    assert!(error.starts_with("ObjectMissing: object m/1/b.bin"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_a_version_is_refused_by_name() {
    let error = resolve(&bucket(&[("m/2/a", "a")]).await, &mut Memory::default()).await.unwrap_err();
    assert_eq!(error, "EmptyPrefix: there is no object below s3://w/m/1/");
    let foreign = bucket(&[("m/1/a", "a"), ("m/1/manifest.json", "{}")]).await;
    let error = resolve(&foreign, &mut Memory::default()).await.unwrap_err();
    assert!(error.starts_with("ManifestMalformed: s3://w/m/1/manifest.json"), "{error}");
}

#[tokio::test]
async fn folders_that_consoles_make_are_not_files() {
    let store = bucket(&[("m/1", ""), ("m/1/sub", ""), ("m/1/sub/a", "a"), ("m/1/empty.txt", "")]).await;
    assert_eq!(resolve(&store, &mut Memory::default()).await.unwrap().files, 2);
}

#[tokio::test]
async fn a_manifest_that_could_not_be_written_is_not_computed_again() {
    let store = bucket(&[("m/1/a", "a")]).await;
    let prefix = Prefix { store: &store, bucket: "w", prefix: Path::from("m/1") };
    let objects = prefix.list().await.unwrap();
    let entry = FileHasher::new(RelativePath::new("from-memory").unwrap()).finish();
    let from_memory = Manifest::new(vec![entry]).unwrap();
    let mut memory = Memory { unwritten: Some((objects.etags(), from_memory.clone())), ..Memory::default() };
    assert_eq!(prefix.resolve(&mut memory).await.unwrap().0.digest, from_memory.digest());
}
