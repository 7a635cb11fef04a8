//! What holds for the repository as a whole: the crate graph, purity, no orphans, no giant files.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// architecture.md's table, plus the crates of the formats that the hub, the CLI and the agent share.
const ARROWS: &[(&str, &[&str])] = &[
    ("nave-names", &[]),
    ("nave-runtime", &[]),
    ("nave-manifest", &["nave-names"]),
    ("nave-delta", &["nave-manifest", "nave-names"]),
    ("nave-bundle", &["nave-manifest", "nave-names"]),
    ("nave-signature", &["nave-names"]),
    (
        "nave-fuzz",
        &["nave-agent", "nave-bundle", "nave-delta", "nave-manifest", "nave-names", "nave-signature"],
    ),
    ("nave-proto", &["nave-names"]),
    ("nave-crds", &["nave-names"]),
    ("nave-operator-plan", &["nave-crds", "nave-names"]),
    ("nave-agent-plan", &["nave-names"]),
    (
        "nave-operator",
        &[
            "nave-crds",
            "nave-manifest",
            "nave-names",
            "nave-operator-plan",
            "nave-proto",
            "nave-runtime",
            "nave-signature",
        ],
    ),
    (
        "kubectl-nave",
        &[
            "nave-bundle",
            "nave-crds",
            "nave-delta",
            "nave-manifest",
            "nave-names",
            "nave-operator-plan",
            "nave-signature",
        ],
    ),
    (
        "nave-agent",
        &[
            "nave-agent-plan",
            "nave-bundle",
            "nave-delta",
            "nave-manifest",
            "nave-names",
            "nave-proto",
            "nave-runtime",
            "nave-signature",
        ],
    ),
];

/// Crates that decide and do no I/O.
const PURE: &[&str] = &[
    "nave-names",
    "nave-manifest",
    "nave-bundle",
    "nave-delta",
    "nave-crds",
    "nave-operator-plan",
    "nave-agent-plan",
];
/// What would let them do I/O.
const IMPURE: &[&str] =
    &["tokio", "tonic", "kube-client", "kube-runtime", "object_store", "reqwest", "hyper", "axum", "rustls"];

const GENERATED: &[&str] = &[
    "proto/src/generated/nave.v1.rs",
    "crds/yaml/edgeclusters.nave.dev.yaml",
    "crds/yaml/modelversions.nave.dev.yaml",
    "crds/yaml/placementpolicies.nave.dev.yaml",
    "crds/yaml/clusterassignments.nave.dev.yaml",
    "crds/yaml/finetunejobs.nave.dev.yaml",
];

const MAX_LINES: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Rust files that git knows, relative to the root.
fn rust_files() -> BTreeSet<PathBuf> {
    let list = output_of("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]);
    list.lines().map(PathBuf::from).filter(|path| root().join(path).exists()).collect()
}

fn metadata() -> Value {
    let text = output_of(env!("CARGO"), &["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    serde_json::from_str(&text).unwrap()
}

fn packages(metadata: &Value) -> BTreeMap<String, Value> {
    let list = metadata["packages"].as_array().unwrap().iter();
    list.map(|package| (package["name"].as_str().unwrap().to_owned(), package.clone())).collect()
}

#[test]
fn the_crate_graph_is_the_one_that_was_drawn() {
    let packages = packages(&metadata());
    let ours: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    for (name, package) in &packages {
        let needed = package["dependencies"].as_array().unwrap().iter();
        // What a crate's own tests need is no part of the architecture.
        let normal = needed.filter(|dependency| dependency["kind"].is_null());
        let names: BTreeSet<&str> = normal.map(|dependency| dependency["name"].as_str().unwrap()).collect();
        let actual: Vec<&str> = names.intersection(&ours).copied().collect();
        if name == "nave-tests" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| crate_name == name) else {
            panic!("{name} is not in the table of crates");
        };
        let surplus: Vec<_> = actual.iter().filter(|dependency| !allowed.contains(dependency)).collect();
        assert!(surplus.is_empty(), "{name} depends on {surplus:?}, which it may not");
    }
    for (name, _) in ARROWS {
        assert!(ours.contains(name), "{name} is in the table of crates and does not exist");
    }
}

#[test]
fn pure_crates_reach_nothing_that_does_io() {
    for name in PURE {
        let tree =
            output_of(env!("CARGO"), &["tree", "--offline", "-p", name, "-e", "normal", "--prefix", "none"]);
        let reached: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(reached.len() > 1, "cargo tree of {name} shows nothing");
        let impure: Vec<_> = IMPURE.iter().filter(|one| reached.contains(**one)).collect();
        assert!(impure.is_empty(), "{name} reaches {impure:?}");
    }
}

#[test]
fn every_rust_file_is_declared_somewhere() {
    let mut reached = BTreeSet::new();
    for package in metadata()["packages"].as_array().unwrap() {
        for target in package["targets"].as_array().unwrap() {
            let path = Path::new(target["src_path"].as_str().unwrap());
            follow(path, true, &mut reached);
        }
    }
    let orphans: Vec<_> =
        rust_files().into_iter().filter(|path| !reached.contains(&root().join(path))).collect();
    assert!(orphans.is_empty(), "no module declares {orphans:?}");
}

/// Adds a file and everything that it declares. `owns_folder`: its modules lie beside it (a crate root or mod.rs).
fn follow(file: &Path, owns_folder: bool, reached: &mut BTreeSet<PathBuf>) {
    let Ok(text) = fs::read_to_string(file) else { panic!("{} is declared and not there", file.display()) };
    if !reached.insert(file.to_owned()) {
        return;
    }
    let beside = file.parent().unwrap();
    let below = if owns_folder { beside.to_owned() } else { file.with_extension("") };
    let mut given_path = None;
    for line in text.lines().map(str::trim) {
        if let Some(path) = between(line, "#[path = \"", "\"]") {
            given_path = Some(path.to_owned());
        } else if let Some(path) = between(line, "include!(\"", "\")") {
            reached.insert(beside.join(path));
        } else if let Some(name) = declared_module(line) {
            let candidates = match given_path.take() {
                Some(path) => vec![(beside.join(&path), path.ends_with("mod.rs"))],
                None => {
                    vec![(below.join(format!("{name}.rs")), false), (below.join(name).join("mod.rs"), true)]
                }
            };
            let (file, owns_folder) = candidates
                .into_iter()
                .find(|(file, _)| file.exists())
                .unwrap_or_else(|| panic!("{}: nothing is module {name}", file.display()));
            follow(&file, owns_folder, reached);
        }
    }
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    line.strip_prefix(before)?.split_once(after).map(|(inside, _)| inside)
}

fn declared_module(line: &str) -> Option<&str> {
    let declaration = line.split("//").next()?.trim().strip_suffix(';')?;
    let (visibility, name) = declaration.rsplit_once("mod ")?;
    let is_declaration =
        visibility.is_empty() || (visibility.starts_with("pub") && visibility.ends_with(' '));
    (is_declaration && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

#[test]
fn files_are_rooms_not_halls() {
    let excepted = |path: &Path| {
        path.components().any(|part| part.as_os_str() == "generated" || part.as_os_str() == "tests")
            || path.ends_with("tests.rs")
    };
    let long: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| !excepted(path))
        .map(|path| (fs::read_to_string(root().join(&path)).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:?}");
}

#[test]
fn every_file_says_what_it_owns_and_none_is_unfinished() {
    let stubs =
        [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("TO", "DO"), concat!("FIX", "ME")];
    for path in rust_files() {
        if path.components().any(|part| part.as_os_str() == "generated") {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).unwrap();
        assert!(text.starts_with("//!"), "{} has no header", path.display());
        let stub = stubs.iter().find(|stub| text.contains(**stub));
        assert!(stub.is_none(), "{} holds {stub:?}", path.display());
    }
}

#[test]
fn generated_files_are_committed() {
    let committed = output_of("git", &["ls-files"]);
    let committed: BTreeSet<&str> = committed.lines().collect();
    let missing: Vec<_> = GENERATED.iter().filter(|path| !committed.contains(**path)).collect();
    assert!(missing.is_empty(), "not committed: {missing:?}");
}

/// The chart carries a copy of the CRDs; the types are the source.
#[test]
fn the_chart_carries_the_generated_crds() {
    for path in GENERATED.iter().filter(|path| path.starts_with("crds/yaml")) {
        let name = Path::new(path).file_name().unwrap();
        let source = fs::read_to_string(root().join(path)).unwrap();
        let copy = root().join("charts/nave-operator/files/crds").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&copy, &source).unwrap();
        }
        let copied = fs::read_to_string(&copy).unwrap_or_default();
        assert!(source == copied, "{} is not {path}: run make generate", copy.display());
    }
}
