//! Bundles that are right: whole ones, and ones that build upon what the site has.

use std::{collections::BTreeMap, fs};

use nave_agent::store::Store;
use nave_agent_plan::Imports;
use serde_json::json;

use crate::maker::{Load, MIB, Maker, Model, Site, noise};

fn first() -> Model {
    Model::new(
        "1.0.0",
        &[
            ("model.bin", noise(1, 5 * MIB + 99)),
            ("copy.bin", noise(1, 5 * MIB + 99)),
            ("labels/größe.txt", noise(2, 300)),
            ("empty", Vec::new()),
        ],
    )
}

/// The same with a chunk changed.
fn second() -> Model {
    let mut model = first();
    model.version = "2.0.0";
    model.files.get_mut("model.bin").unwrap()[2 * MIB..2 * MIB + 5].copy_from_slice(b"other");
    model
}

#[test]
fn a_bundle_fills_the_store_and_again_it_is_there_already() {
    let site = Site::new();
    let bundle = Maker::new(5).carry(&first(), None).write(&site.path("bundle"), &site.key, |_| {});
    let said = site.import(&bundle);
    assert_eq!((&said["source"], &said["generation"]), (&json!("policy default/bridges"), &json!(5)));
    let version = &said["versions"][0];
    assert_eq!(version["digest"], first().manifest().digest().to_string());
    // Files of the same content are stored once, and carried once.
    assert_eq!(
        (&version["alreadyThere"], &version["bytesRead"]),
        (&json!(false), &json!(5 * MIB + 99 + 300))
    );
    site.assert_holds(&first());
    let again = site.import(&bundle);
    let version = &again["versions"][0];
    assert_eq!((&version["alreadyThere"], &version["bytesRead"]), (&json!(true), &json!(0)));

    // Nobody has asked for it yet: the collection by hand leaves it alone, as soon as anything may be collected.
    let store = Store::open(site.path("state/store")).unwrap();
    assert_eq!(store.roots().unwrap(), None);
    let text = fs::read_to_string(site.path("state/imports.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let imports: Imports = serde_json::from_value(kept["content"].clone()).unwrap();
    assert!(imports.waiting().contains(&first().manifest().digest()));
}

/// The spoke that is asked for it has to check it against the policy's key, and may have no network then.
#[test]
fn the_signature_of_a_version_comes_with_it_also_to_one_that_is_there() {
    let site = Site::new();
    let version = first().manifest().digest();
    let held = || Store::open(site.path("state/store")).unwrap().signature(&version).unwrap();
    let bundle = Maker::new(5).carry(&first(), None).write(&site.path("unsigned"), &site.key, |_| {});
    site.import(&bundle);
    assert_eq!(held(), None);
    let load = Load { signature: b"a signature".to_vec(), ..Load::of(&first(), None, BTreeMap::new()) };
    let bundle = Maker::new(6).load(load).write(&site.path("signed"), &site.key, |_| {});
    assert_eq!(site.import(&bundle)["versions"][0]["alreadyThere"], true);
    assert_eq!(held().as_deref(), Some(&b"a signature"[..]));
}

#[test]
fn what_is_held_by_others_of_the_bundle_or_the_site_is_not_carried_again() {
    let site = Site::new();
    let both = Maker::new(1).carry(&first(), None).carry(&second(), None);
    let bundle = both.write(&site.path("both"), &site.key, |_| {});
    let said = site.import(&bundle);
    assert_eq!(said["versions"][1]["bytesRead"], MIB, "{said}");
    site.assert_holds(&first());
    site.assert_holds(&second());

    let other = Site::new();
    let first_alone = Maker::new(1).carry(&first(), None).write(&other.path("first"), &other.key, |_| {});
    let upon = Maker::new(2).upon(&first()).carry(&second(), Some(&first()));
    let upon = upon.write(&other.path("upon"), &other.key, |_| {});
    let (code, reason, message) = other.refused(&upon);
    assert_eq!((code, reason.as_str()), (3, "BaseMissing"), "{message}");
    assert!(
        message.contains("vit 2.0.0 builds upon 1.0.0")
            && message.contains(&first().manifest().digest().to_string())
    );
    other.import(&first_alone);
    let said = other.import(&upon);
    assert_eq!(said["versions"][0]["bytesRead"], MIB, "{said}");
    other.assert_holds(&second());
}

/// What was there is not asked for its base, until a later version has chunks of that alone.
#[test]
fn the_base_of_a_version_that_is_there_is_missed_when_a_later_one_needs_it() {
    let site = Site::new();
    let before = noise(1, 9_000);
    let first = Model::new("1.0.0", &[("model.bin", before.clone())]);
    let second = Model::new("2.0.0", &[("model.bin", noise(2, 9_000))]);
    let third = Model::new("3.0.0", &[("model.bin", before), ("more.txt", noise(3, 40))]);
    site.import(&Maker::new(1).carry(&second, None).write(&site.path("second"), &site.key, |_| {}));
    let both = Maker::new(2).upon(&first).carry(&second, Some(&first)).carry(&third, Some(&second));
    let bundle = both.write(&site.path("both"), &site.key, |_| {});
    let (code, reason, message) = site.refused(&bundle);
    assert_eq!((code, reason.as_str()), (3, "BaseMissing"), "{message}");
    assert!(message.contains("vit 3.0.0 builds upon 1.0.0"), "{message}");
}

#[test]
fn a_base_that_is_damaged_is_named_and_the_bundle_is_not_blamed() {
    let site = Site::new();
    site.import(&Maker::new(1).carry(&first(), None).write(&site.path("first"), &site.key, |_| {}));
    let store = Store::open(site.path("state/store")).unwrap();
    let blob = store.blob_path(&first().manifest().files()[0].sha256);
    drop(store);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[7] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    let upon = Maker::new(2).upon(&first()).carry(&second(), Some(&first()));
    let (code, reason, message) = site.refused(&upon.write(&site.path("upon"), &site.key, |_| {}));
    assert_eq!((code, reason.as_str()), (3, "BaseDamaged"), "{message}");
    assert!(message.contains("chunk 0 of"), "{message}");
}
