//! Bundles that are not what they should be, for the reasons that sites meet: each is refused, by name, and nothing of it is in
//! the store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nave_bundle::Bundle;

use crate::maker::{Key, MIB, Maker, Model, Site, noise, refusal, run};

fn model() -> Model {
    Model::new("1.0.0", &[("model.bin", noise(1, 2 * MIB + 99)), ("labels.txt", noise(2, 300))])
}

fn write(site: &Site, name: &str, change: impl FnOnce(&mut Bundle)) -> PathBuf {
    Maker::new(5).carry(&model(), None).write(&site.path(name), &site.key, change)
}

/// A good bundle after this was done to its folder.
fn after(change: impl FnOnce(&Path)) -> (i32, String, String) {
    let site = Site::new();
    let bundle = write(&site, "bundle", |_| {});
    change(&bundle);
    site.refused(&bundle)
}

fn assert_refused(found: (i32, String, String), reason: &str, named: &[&str]) {
    let (code, found, message) = found;
    assert_eq!((code, found.as_str()), (3, reason), "{message}");
    for name in named {
        assert!(message.contains(name), "{name} is not in: {message}");
    }
}

#[test]
fn copies_that_are_torn_damaged_or_lack_something_say_which_file() {
    let part = |folder: &Path| folder.join("part-00002.nave");
    assert_refused(
        after(|f| fs::write(part(f), &fs::read(part(f)).unwrap()[..1000]).unwrap()),
        "PartTorn",
        &["part-00002.nave", "1000 bytes instead of 700000"],
    );
    assert_refused(
        after(|f| fs::remove_file(part(f)).unwrap()),
        "PartMissing",
        &["part-00002.nave is missing"],
    );
    assert_refused(
        after(|f| {
            let mut bytes = fs::read(part(f)).unwrap();
            bytes[500_000] ^= 1;
            fs::write(part(f), bytes).unwrap();
        }),
        "PartDamaged",
        &["part-00002.nave is damaged"],
    );
    assert_refused(
        after(|f| fs::remove_file(f.join("bundle.json")).unwrap()),
        "BundleMissing",
        &["bundle.json"],
    );
    assert_refused(
        after(|f| fs::write(f.join("README.txt"), "run this: curl ...").unwrap()),
        "PartDamaged",
        &["README.txt is damaged"],
    );
    assert_refused(after(|f| fs::remove_file(f.join("README.txt")).unwrap()), "PartMissing", &["README.txt"]);
    assert_refused(
        after(|f| {
            let text = fs::read_to_string(f.join("bundle.json")).unwrap();
            fs::write(f.join("bundle.json"), text.replace("\"generation\": 5", "\"generation\": 6")).unwrap();
        }),
        "PartDamaged",
        &["bundle.json is damaged"],
    );
}

#[test]
fn the_manifest_in_a_damaged_part_is_no_exception() {
    assert_refused(
        after(|f| {
            let mut bytes = fs::read(f.join("part-00001.nave")).unwrap();
            bytes[10] ^= 1;
            fs::write(f.join("part-00001.nave"), bytes).unwrap();
        }),
        "PartDamaged",
        &["part-00001.nave is damaged"],
    );
}

#[test]
fn whoever_is_not_trusted_is_refused_by_name() {
    assert_refused(
        after(|f| fs::remove_file(f.join("model.sig")).unwrap()),
        "SignatureMissing",
        &["is not signed"],
    );
    assert_refused(after(|f| fs::write(f.join("model.sig"), "{}").unwrap()), "SignatureMalformed", &[]);
    let site = Site::new();
    let foreign = Maker::new(5).carry(&model(), None).write(&site.path("foreign"), &Key::new(), |_| {});
    assert_refused(site.refused(&foreign), "SignedByAnotherKey", &[]);
    // A spoke that has not joined and was given no key trusts nobody.
    let good = write(&site, "good", |_| {});
    let (code, said) = run(&mut site.command_without_key(&good));
    assert_refused(refusal(code, &said), "TrustMissing", &["--key"]);
    assert!(site.held().is_empty());
    site.import(&good);
}

#[test]
fn an_older_generation_is_refused_with_both_numbers_and_the_same_number_with_other_content_too() {
    let site = Site::new();
    let bundle = |generation, seed: u64| {
        let model = Model::new("1.0.0", &[("model.bin", noise(seed, 9_000))]);
        let name = format!("bundle-{generation}-{seed}");
        Maker::new(generation).carry(&model, None).write(&site.path(&name), &site.key, |_| {})
    };
    let (old, last, other, newer) = (bundle(4, 1), bundle(5, 2), bundle(5, 3), bundle(6, 4));
    site.import(&last);
    assert_refused(
        site.refused(&old),
        "OlderGeneration",
        &["generation 4 of policy default/bridges", "older than 5"],
    );
    assert_refused(
        site.refused(&other),
        "ConflictingGeneration",
        &["generation 5 of policy default/bridges"],
    );
    site.import(&last);
    site.import(&newer);
    assert_refused(site.refused(&last), "OlderGeneration", &["older than 6"]);
}

#[test]
fn a_disk_that_is_too_small_is_named_with_numbers_before_anything_is_written() {
    let site = Site::new();
    let bundle = write(&site, "bundle", |_| {});
    fs::write(site.path("agent.yaml"), "storage: {quota: 2Mi}\n").unwrap();
    let (code, said) = run(site.command(&bundle).arg("--config").arg(site.path("agent.yaml")));
    let (code, reason, message) = refusal(code, &said);
    assert_eq!((code, reason.as_str()), (6, "DiskFull"), "{message}");
    // A sixteenth stays free.
    let needed = 2 * MIB + 99 + 300 + (2 << 20) / 16;
    assert!(
        message.contains(&format!("{needed} bytes are needed")) && message.contains("are available"),
        "{message}"
    );
    assert_eq!(fs::read_dir(site.path("state/store/staging")).unwrap().count(), 0);
    site.import(&bundle);
}
