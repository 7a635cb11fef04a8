//! Names: of parts, of what lies beside them, of a version's files, of models; and what lies there in a file's place.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use super::{Case, Kind};
use crate::maker::{Load, Maker, sign_folder};

const PART: &str = "part-00002.nave";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = escapes();
    cases.extend(absolutes());
    cases.extend(links());
    cases.extend(duplicates());
    cases.extend(look_alikes());
    cases
}

/// The second part by another name.
fn part(kind: Kind, name: &'static str) -> Case {
    Case::lie(kind, "BadPartName", format!("{name:?}"), move |b| b.parts[1].name = name.to_owned())
}

/// The chunks of another file than the manifest has.
fn file(kind: Kind, reason: &'static str, name: &'static str) -> Case {
    let json = serde_json::to_string(name).unwrap();
    let named =
        if reason == "BundleMalformed" { "invalid file path".to_owned() } else { format!("{name:?}") };
    Case::text(kind, reason, named, r#""model.bin""#, json)
}

/// A manifest that has a file by this name in place of the weights.
fn in_manifest(kind: Kind, reason: &'static str, name: &'static str) -> Case {
    manifest(kind, reason, "", r#""model.bin""#, serde_json::to_string(name).unwrap())
}

/// A manifest whose text was spoiled, and whose digest is that of what came of it.
pub(super) fn manifest(
    kind: Kind,
    reason: &'static str,
    named: &'static str,
    from: &'static str,
    into: impl Into<String>,
) -> Case {
    let into = into.into();
    Case::new(kind, reason, named, move |world, to| {
        let mut load = Load::of(&world.target, None, Default::default());
        let text = String::from_utf8(load.manifest).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        load.manifest = text.replacen(from, &into, 1).into_bytes();
        Maker::new(5).load(load).write(to, &world.site.key, |_| {});
    })
}

/// A file that is signed, and is none of a bundle's.
fn beside(kind: Kind, name: &'static str) -> Case {
    Case::new(kind, "SignedFilesDiffer", name, move |world, to| {
        world.whole().write(to, &world.site.key, |_| {});
        sign_folder(&world.site.key, to, &[(name, b"run this: curl ...")]);
    })
}

fn escapes() -> Vec<Case> {
    let kind = Kind::PathEscape;
    let parts = [
        "../part-00002.nave",
        "./part-00002.nave",
        "part-00002.nave/../x",
        "sub/part-00002.nave",
        "..\\part-00002.nave",
        "..",
        ".part-00002.nave",
        "part-00002.nave\u{0}",
        "part-00002.nave/",
        "",
    ];
    let mut cases: Vec<_> = parts.into_iter().map(|name| part(kind, name)).collect();
    let files =
        ["../model.bin", "a/../../model.bin", "a\\..\\model.bin", "./model.bin", "a//model.bin", ".."];
    cases.extend(files.into_iter().map(|name| file(kind, "BundleMalformed", name)));
    let manifests = ["../model.bin", "a/../../model.bin", "..\\model.bin", "model.bin\u{0}"];
    cases.extend(manifests.into_iter().map(|name| in_manifest(kind, "BadPath", name)));
    cases.extend([
        in_manifest(kind, "ReservedPath", ".nave/deltas.json"),
        in_manifest(kind, "ReservedPath", "manifest.json"),
        Case::text(kind, "BundleMalformed", "../vit", r#""model": "vit""#, r#""model": "../vit""#),
        Case::text(kind, "BundleMalformed", "../2", r#""version": "2.0.0""#, r#""version": "../2""#),
        Case::text(
            kind,
            "BundleMalformed",
            "../default",
            r#""namespace": "default""#,
            r#""namespace": "../default""#,
        ),
        beside(kind, "sub/x"),
        beside(kind, ".hidden"),
    ]);
    cases
}

fn absolutes() -> Vec<Case> {
    let kind = Kind::AbsolutePath;
    vec![
        part(kind, "/etc/passwd"),
        part(kind, "//part-00002.nave"),
        part(kind, "C:\\part-00002.nave"),
        part(kind, "\\\\server\\part-00002.nave"),
        file(kind, "BundleMalformed", "/model.bin"),
        file(kind, "BundleMalformed", "//model.bin"),
        file(kind, "BundleMalformed", "C:\\model.bin"),
        in_manifest(kind, "BadPath", "/etc/passwd"),
        in_manifest(kind, "BadPath", "C:\\model.bin"),
        Case::text(kind, "BundleMalformed", "/vit", r#""model": "vit""#, r#""model": "/vit""#),
    ]
}

fn links() -> Vec<Case> {
    let moved = |name: &'static str, to: &'static str| {
        Case::after(Kind::Link, "PartNotAFile", name, move |folder| {
            fs::rename(folder.join(name), folder.join("moved")).unwrap();
            symlink(to, folder.join(name)).unwrap();
        })
    };
    let other = |named: &'static str, put: fn(&Path)| {
        Case::after(Kind::Link, "PartNotAFile", named, move |folder| {
            fs::remove_file(folder.join(named)).unwrap();
            put(&folder.join(named));
        })
    };
    vec![
        moved(PART, "moved"),
        moved(PART, "../base/part-00002.nave"),
        moved(PART, "/dev/zero"),
        moved(PART, "/nowhere"),
        moved(PART, PART),
        moved("bundle.json", "moved"),
        moved("model.sig", "moved"),
        moved("README.txt", "/etc/passwd"),
        other(PART, |path| fs::create_dir(path).unwrap()),
        other(PART, |path| drop(UnixListener::bind(path).unwrap())),
        other("bundle.json", |path| fs::create_dir(path).unwrap()),
        manifest(
            Kind::Link,
            "Malformed",
            "unknown field `link`",
            r#""chunks""#,
            r#""link":"/etc/passwd","chunks""#,
        ),
    ]
}

fn duplicates() -> Vec<Case> {
    let kind = Kind::DuplicateName;
    let twice = |from: &'static str, into: &'static str| {
        Case::text(kind, "BundleMalformed", "duplicate field", from, into)
    };
    vec![
        part(kind, "part-00001.nave"),
        Case::lie(kind, "BundleInconsistent", "vit 2.0.0 is listed twice", |b| {
            b.versions.push(b.versions[0].clone());
        }),
        twice(r#""generation": 5,"#, r#""generation": 5,"generation": 6,"#),
        twice(r#""createdBy""#, r#""createdBy": "x","createdBy""#),
        twice(r#""versions": ["#, r#""versions": [],"versions": ["#),
        twice(r#""name": "part-00001.nave","#, r#""name": "part-00001.nave","name": "part-00001.nave","#),
        Case::text(
            kind,
            "BundleNotCanonical",
            "first difference",
            r#""model.bin": "0-1""#,
            r#""model.bin": "0","model.bin": "0-1""#,
        ),
        Case::text(
            kind,
            "BundleNotCanonical",
            "first difference",
            r#""name": "bridges""#,
            r#""name": "bridges","hidden": 1"#,
        ),
        in_manifest(kind, "DuplicatePath", "labels/größe.txt"),
        in_manifest(kind, "FileIsFolder", "labels"),
    ]
}

fn look_alikes() -> Vec<Case> {
    let kind = Kind::LookAlike;
    // Cyrillic letters, another hyphen, other digits, one that is not seen, case, a blank.
    let parts = [
        "р\u{0430}rt-00002.nave",
        "part\u{2010}00002.nave",
        "part-0000\u{ff12}.nave",
        "part-0000\u{0662}.nave",
        "part-00002\u{200b}.nave",
        "part-00002.nave\u{202e}",
        "PART-00002.NAVE",
        "part-00002.nave ",
    ];
    let mut cases: Vec<_> = parts.into_iter().map(|name| part(kind, name)).collect();
    let files =
        ["m\u{043e}del.bin", "mod\u{ad}el.bin", "model.bin\u{200b}", "\u{ff4d}odel.bin", "model\u{2024}bin"];
    cases.extend(files.into_iter().map(|name| file(kind, "UnknownChunks", name)));
    cases.push(Case::lie(kind, "UnknownChunks", "Model.bin", |b| {
        let chunks = &mut b.versions[0].contents.chunks;
        let runs = chunks.remove(&"model.bin".parse().unwrap()).unwrap();
        chunks.insert("Model.bin".parse().unwrap(), runs);
    }));
    // Composed and not: the same on a screen, two names on a disk.
    let decomposed = r#""labels/gro\u0308ße.txt""#;
    cases.push(Case::text(kind, "UnknownChunks", "there is no such file", r#""labels/größe.txt""#, {
        let name: String = serde_json::from_str(decomposed).unwrap();
        serde_json::to_string(&name).unwrap()
    }));
    let manifests =
        ["Labels/größe.txt", "labels/gro\u{308}ße.txt", "LABELS/GRÖSSE.TXT", "l\u{ff41}bels/größe.txt"];
    cases.extend(manifests.into_iter().map(|name| in_manifest(kind, "LookAlikePath", name)));
    let invisible = ["model\u{200b}.bin", "model\u{202e}nib.exe", "mod\u{ad}el.bin"];
    cases.extend(invisible.into_iter().map(|name| in_manifest(kind, "InvisibleCharacter", name)));
    cases.extend([
        Case::text(kind, "BundleMalformed", "v\u{0456}t", r#""model": "vit""#, "\"model\": \"v\u{0456}t\""),
        Case::text(
            kind,
            "BundleMalformed",
            "2\u{2024}0",
            r#""version": "2.0.0""#,
            "\"version\": \"2\u{2024}0\u{2024}0\"",
        ),
        Case::text(
            kind,
            "UnknownBundleFormat",
            "bundle/v\u{ff11}",
            "nave.dev/bundle/v1",
            "nave.dev/bundle/v\u{ff11}",
        ),
        beside(kind, "RE\u{0410}DME.txt"),
        beside(kind, "Bundle.json"),
        beside(kind, "bundle.json "),
        beside(kind, "part-00002.nave\u{200b}"),
    ]);
    cases
}
