//! Manifests that an attacker, a broken tool or a torn upload could leave in a bucket: each is refused, by name.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use nave_manifest::{Blake3, FORMAT_V1, MAX_MANIFEST_BYTES, Manifest};
use nave_names::Digest;

const EMPTY_SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const EMPTY_BLAKE: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A file of four bytes in one chunk, whose fields can be replaced.
#[derive(Clone)]
struct File {
    path: String,
    size: String,
    sha256: String,
    blake3: String,
    lengths: String,
    hashes: String,
}

impl File {
    fn new(path: &str) -> Self {
        let blake3 = Blake3::of(b"data");
        Self {
            path: path.to_owned(),
            size: "4".to_owned(),
            sha256: Digest::of(b"data").to_hex(),
            blake3: blake3.to_string(),
            lengths: "[[4,1]]".to_owned(),
            hashes: base64(blake3.as_bytes()),
        }
    }

    fn json(&self) -> String {
        let path = serde_json::to_string(&self.path).unwrap();
        let Self { size, sha256, blake3, lengths, hashes, .. } = self;
        format!(
            r#"{{"path":{path},"size":{size},"sha256":"{sha256}","blake3":"{blake3}","chunks":{{"lengths":{lengths},"blake3":"{hashes}"}}}}"#
        )
    }
}

fn manifest(files: &[File]) -> String {
    let files: Vec<_> = files.iter().map(File::json).collect();
    format!(r#"{{"format":"{FORMAT_V1}","files":[{}]}}"#, files.join(","))
}

fn paths(paths: &[&str]) -> String {
    let mut sorted = paths.to_vec();
    sorted.sort_unstable();
    manifest(&sorted.iter().map(|path| File::new(path)).collect::<Vec<_>>())
}

fn with(change: impl FnOnce(&mut File)) -> String {
    let mut file = File::new("a");
    change(&mut file);
    manifest(&[file])
}

fn hashes(count: usize) -> String {
    base64(&vec![7; 32 * count])
}

#[track_caller]
fn refused(cases: Vec<(&str, String)>) {
    for (name, text) in cases {
        match Manifest::parse(text.as_bytes()) {
            Ok(_) => panic!("accepted, expected {name}: {text}"),
            Err(error) => assert_eq!(error.name(), name, "{error}: {}", &text[..text.len().min(400)]),
        }
    }
}

#[test]
fn the_template_itself_passes() {
    for good in [paths(&["a"]), paths(&["a", "b/c", "b/d", ".hidden", "größe", "B c"])] {
        let manifest = Manifest::parse(good.as_bytes()).unwrap();
        assert_eq!(manifest.to_canonical_bytes(), good.as_bytes());
        assert_eq!(manifest.digest(), Digest::of(good.as_bytes()));
    }
}

#[test]
fn paths_that_escape() {
    let one = |path: &str| ("BadPath", paths(&[path]));
    refused(vec![
        one(""),
        one("/etc/passwd"),
        one("//etc/passwd"),
        one("../evil"),
        one(".."),
        one("."),
        one("a/../../evil"),
        one("a/.."),
        one("./a"),
        one("a/./b"),
        one("a//b"),
        one("a/"),
        one("a\\..\\b"),
        one("C:\\evil"),
        one("a\u{0}b"),
        one("a\nb"),
        one("a\u{7f}"),
        one("a\u{9b}31m"),
        one(&"x/".repeat(500)),
        one(&"x".repeat(256)),
        one(&format!("{}y", "x/".repeat(384))),
        // Two dots, a slash or a backslash once a tool normalises them.
        one("\u{2025}/evil"),
        one("\u{ff0e}\u{ff0e}/evil"),
        one("a/\u{2024}\u{2024}/b"),
        one("\u{ff0f}etc"),
        one("a\u{ff3c}b"),
    ]);
}

#[test]
fn paths_that_deceive() {
    let invisible = |path: &str| ("InvisibleCharacter", paths(&[path]));
    refused(vec![
        invisible("model\u{200b}.bin"),
        invisible("model\u{202e}nib.exe"),
        invisible("\u{feff}model.bin"),
        invisible("mod\u{ad}el"),
        invisible("a\u{2066}b\u{2069}"),
        invisible("a\u{e0041}"),
        invisible("a\u{3164}b"),
        invisible("a\u{2028}b"),
        ("ReservedPath", paths(&["manifest.json"])),
        ("ReservedPath", paths(&["MANIFEST.json"])),
        ("ReservedPath", paths(&["model.sig"])),
        ("ReservedPath", paths(&["a/b.sig"])),
        ("ReservedPath", paths(&[".nave/delta"])),
        ("ReservedPath", paths(&[".NAVE/delta"])),
    ]);
}

#[test]
fn paths_that_collide() {
    refused(vec![
        ("DuplicatePath", paths(&["a", "a"])),
        ("LookAlikePath", paths(&["Model.bin", "model.bin"])),
        ("LookAlikePath", paths(&["A/x", "a/x"])),
        ("LookAlikePath", paths(&["\u{e9}", "e\u{301}"])),
        ("LookAlikePath", paths(&["\u{fb01}le", "file"])),
        ("LookAlikePath", paths(&["stra\u{df}e", "STRASSE"])),
        ("LookAlikePath", paths(&["\u{212a}elvin", "kelvin"])),
        ("LookAlikePath", paths(&["\u{ff41}", "a"])),
        ("LookAlikePath", paths(&["\u{3a3}", "\u{3c2}"])),
        ("FileIsFolder", paths(&["a", "a/b"])),
        ("FileIsFolder", paths(&["A", "a/b"])),
        ("FileIsFolder", paths(&["a/b", "a/b/c/d"])),
    ]);
}

#[test]
fn sizes_and_chunks_that_lie() {
    let lengths =
        |text: &str, count| with(|file| (file.lengths, file.hashes) = (text.to_owned(), hashes(count)));
    refused(vec![
        ("Malformed", with(|file| file.size = "-1".into())),
        ("Malformed", with(|file| file.size = "4.0".into())),
        ("Malformed", with(|file| file.size = "1e30".into())),
        ("Malformed", with(|file| file.size = "18446744073709551616".into())),
        ("Malformed", with(|file| file.size = "\"4\"".into())),
        ("FileTooLarge", with(|file| file.size = u64::MAX.to_string())),
        ("FileTooLarge", with(|file| file.size = (1u64 << 53).to_string())),
        ("ChunksDoNotCover", with(|file| file.size = "5".into())),
        ("ChunksDoNotCover", with(|file| file.size = "3".into())),
        ("ChunksDoNotCover", with(|file| file.size = "0".into())),
        ("ChunksDoNotCover", with(|file| (file.lengths, file.hashes) = ("[]".into(), String::new()))),
        ("ChunksDoNotCover", lengths("[[4,1],[1,1]]", 2)),
        ("ChunksDoNotCover", lengths("[[1,3]]", 3)),
        ("ChunkCount", lengths("[[1,4]]", 3)),
        ("ChunkCount", lengths("[[4,1]]", 2)),
        ("ChunkCount", lengths("[[4,1]]", 0)),
        // A few bytes that claim billions of chunks must cost a few bytes of work.
        ("ChunkCount", lengths("[[1,4294967295],[2,4294967295],[1,4294967295]]", 1)),
        ("EmptyChunk", lengths("[[0,1],[4,1]]", 2)),
        ("EmptyChunk", lengths("[[4,1],[9,0]]", 1)),
        ("ChunkTooLarge", lengths("[[16777217,1]]", 1)),
        ("Malformed", lengths("[[4294967296,1]]", 1)),
        ("Malformed", lengths("[[-4,1]]", 1)),
        ("Malformed", lengths("[[4]]", 1)),
        ("Malformed", lengths("[[4,1,1]]", 1)),
        ("Malformed", lengths("4", 1)),
    ]);
}

#[test]
fn digests_that_are_none_or_contradict() {
    let empty = |sha256: &str, blake3: &str| {
        with(|file| {
            (file.size, file.lengths, file.hashes) = ("0".into(), "[]".into(), String::new());
            (file.sha256, file.blake3) = (sha256.to_owned(), blake3.to_owned());
        })
    };
    assert!(Manifest::parse(empty(EMPTY_SHA, EMPTY_BLAKE).as_bytes()).is_ok());
    refused(vec![
        ("BadDigest", with(|file| file.sha256 = String::new())),
        ("BadDigest", with(|file| file.sha256 = "0".repeat(63))),
        ("BadDigest", with(|file| file.sha256 = "0".repeat(66))),
        ("BadDigest", with(|file| file.sha256 = "g".repeat(64))),
        ("BadDigest", with(|file| file.sha256.make_ascii_uppercase())),
        ("BadDigest", with(|file| file.sha256.insert_str(0, "sha256:"))),
        ("BadDigest", with(|file| file.blake3.make_ascii_uppercase())),
        ("BadDigest", with(|file| file.blake3 = "\u{ff10}".repeat(64))),
        ("BadDigest", with(|file| file.hashes = "!".into())),
        ("BadDigest", with(|file| file.hashes = base64(&[7; 31]))),
        ("BadDigest", with(|file| file.hashes = base64(&[7; 33]))),
        ("BadDigest", with(|file| file.hashes = file.hashes.trim_end_matches('=').into())),
        ("ContradictoryDigest", with(|file| file.hashes = hashes(1))),
        ("ContradictoryDigest", empty(EMPTY_SHA, &"0".repeat(64))),
        ("ContradictoryDigest", empty(&"0".repeat(64), EMPTY_BLAKE)),
    ]);
}

#[test]
fn documents_that_are_none() {
    let good = paths(&["a", "b"]);
    let (first, second) = (File::new("a").json(), File::new("b").json());
    refused(vec![
        ("Malformed", String::new()),
        ("Malformed", "null".into()),
        ("Malformed", "[]".into()),
        ("Malformed", "{}".into()),
        ("Malformed", good[..good.len() - 1].into()),
        ("Malformed", format!("{good}{{}}")),
        ("Malformed", "[".repeat(100_000)),
        ("Malformed", good.replace(r#","size":4"#, "")),
        ("Malformed", good.replace(r#""size":4"#, r#""size":4,"size":5"#)),
        ("Malformed", good.replace(r#""size":4"#, r#""size":4,"mode":493"#)),
        ("Malformed", good.replace(r#""size":4"#, r#""size":4,"link":"/etc/passwd""#)),
        ("Malformed", good.replace(r#""files""#, r#""url":"http://evil","files""#)),
        ("Malformed", format!(r#"{{"format":"{FORMAT_V1}","format":"{FORMAT_V1}","files":[{first}]}}"#)),
        ("UnknownFormat", good.replace(FORMAT_V1, "nave.dev/manifest/v2")),
        ("UnknownFormat", r#"{"format":"nave.dev/manifest/v9","tensors":{}}"#.into()),
        ("UnknownFormat", good.replace(FORMAT_V1, "")),
        ("NoFiles", manifest(&[])),
        ("NotCanonical", good.replace(',', ", ")),
        ("NotCanonical", format!("{good}\n")),
        ("NotCanonical", format!(r#"{{"format":"{FORMAT_V1}","files":[{second},{first}]}}"#)),
        ("NotCanonical", format!(r#"{{"files":[{first}],"format":"{FORMAT_V1}"}}"#)),
        ("NotCanonical", good.replace(r#""path":"a""#, r#""path":"\u0061""#)),
        ("Malformed", format!("\u{feff}{good}")),
    ]);
    let split = with(|file| {
        file.size = "8".into();
        (file.lengths, file.hashes) = ("[[4,1],[4,1]]".into(), hashes(2));
    });
    refused(vec![("NotCanonical", split)]);
    let mut invalid = good.into_bytes();
    invalid[60] = 0xff;
    assert_eq!(Manifest::parse(&invalid).unwrap_err().name(), "Malformed");
}

#[test]
fn too_much_of_anything() {
    let huge = vec![b' '; MAX_MANIFEST_BYTES + 1];
    assert_eq!(Manifest::parse(&huge).unwrap_err().name(), "TooLarge");
    let entry = Manifest::parse(paths(&["a"]).as_bytes()).unwrap().files()[0].clone();
    let many = vec![entry; nave_manifest::MAX_FILES + 1];
    assert_eq!(Manifest::new(many).unwrap_err().name(), "TooManyFiles");
}
