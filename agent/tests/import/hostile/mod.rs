//! A hundred bundles as an attacker who has the key would make them, or as a broken tool leaves them: each is refused by
//! name, says what is wrong with it, and leaves the site as it was. What a manifest alone may not be is in `proto/manifest`.

mod bombs;
mod contents;
pub(crate) mod delta;
mod names;

use std::{error::Error as _, fs, path::Path};

use nave_agent::import::ImportError;
use nave_bundle::Bundle;

use crate::maker::{MIB, Maker, Model, Site, noise};

/// What it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PathEscape,
    AbsolutePath,
    Link,
    DuplicateName,
    LookAlike,
    Overlap,
    LyingSize,
    Bomb,
}

const KINDS: [Kind; 8] = [
    Kind::PathEscape,
    Kind::AbsolutePath,
    Kind::Link,
    Kind::DuplicateName,
    Kind::LookAlike,
    Kind::Overlap,
    Kind::LyingSize,
    Kind::Bomb,
];

type Make = Box<dyn Fn(&World, &Path)>;

/// A hostile bundle.
struct Case {
    kind: Kind,
    /// In one CamelCase word.
    reason: &'static str,
    /// What the message has to name.
    named: String,
    make: Make,
}

impl Case {
    fn new(
        kind: Kind,
        reason: &'static str,
        named: impl Into<String>,
        make: impl Fn(&World, &Path) + 'static,
    ) -> Self {
        Self { kind, reason, named: named.into(), make: Box::new(make) }
    }

    /// A whole bundle whose bundle.json was spoiled before it was signed.
    fn lie(
        kind: Kind,
        reason: &'static str,
        named: impl Into<String>,
        change: impl Fn(&mut Bundle) + 'static,
    ) -> Self {
        Self::new(kind, reason, named, move |world, to| {
            world.whole().write(to, &world.site.key, &change);
        })
    }

    /// The same in its text.
    fn text(
        kind: Kind,
        reason: &'static str,
        named: impl Into<String>,
        from: &'static str,
        into: impl Into<String>,
    ) -> Self {
        let into = into.into();
        Self::new(kind, reason, named, move |world, to| {
            let change = |text: String| {
                assert!(text.contains(from), "{from} is not in {text}");
                text.replacen(from, &into, 1)
            };
            world.whole().write_as(to, &world.site.key, |_| {}, change);
        })
    }

    /// A good bundle after this was done to its folder.
    fn after(kind: Kind, reason: &'static str, named: &str, change: impl Fn(&Path) + 'static) -> Self {
        Self::new(kind, reason, named, move |world, to| {
            change(&world.whole().write(to, &world.site.key, |_| {}));
        })
    }
}

/// A site that holds the base.
struct World {
    site: Site,
    base: Model,
    target: Model,
    whole: Maker,
}

impl World {
    fn new() -> Self {
        let mut weights = noise(1, MIB + 90_000);
        let labels = noise(2, 300);
        let base =
            Model::new("1.0.0", &[("model.bin", weights.clone()), ("labels/größe.txt", labels.clone())]);
        weights.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
        let target = Model::new("2.0.0", &[("model.bin", weights), ("labels/größe.txt", labels)]);
        let site = Site::new();
        let bundle = Maker::new(1).carry(&base, None).write(&site.path("base"), &site.key, |_| {});
        site.import_here(&bundle).unwrap();
        let whole = Maker::new(5).carry(&target, None);
        Self { site, base, target, whole }
    }

    /// A bundle that needs nothing else.
    fn whole(&self) -> Maker {
        self.whole.clone()
    }

    /// What is wrong with the refusal of this case.
    fn try_out(&self, case: &Case) -> Option<String> {
        let folder = self.site.path("bundle");
        (case.make)(self, &folder);
        let refusal = self.site.import_here(&folder);
        fs::remove_dir_all(&folder).unwrap();
        // What it left to go on from would be the next one's.
        fs::remove_dir_all(self.site.path("state/store/staging")).unwrap();
        let Case { kind, reason, named, .. } = case;
        let error = refusal.expect_err(&format!("{kind:?} {named:?} was imported"));
        let said = in_words(&error);
        let expected = error.reason() == *reason && said.contains(named.as_str());
        (!expected)
            .then(|| format!("{kind:?}: expected {reason} {named:?}, found {}: {said}", error.reason()))
    }
}

fn in_words(error: &ImportError) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}

#[test]
fn a_hundred_hostile_bundles_are_each_refused_by_name() {
    let world = World::new();
    let cases = [names::cases(), contents::cases(), bombs::cases()];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    for kind in KINDS {
        let count = cases.iter().filter(|case| case.kind == kind).count();
        assert!(count >= 6, "{count} of {kind:?}");
    }
    assert!(cases.len() >= 100, "{}", cases.len());
    let imports = world.site.path("state/imports.json");
    let (held, recorded) = (world.site.held(), fs::read(&imports).unwrap());

    let wrong: Vec<_> = cases.iter().filter_map(|case| world.try_out(case)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!((world.site.held(), fs::read(&imports).unwrap()), (held, recorded));

    // None of them spoiled the site: what it refused in a bad form it takes in a good one.
    let good = world.whole().write(&world.site.path("good"), &world.site.key, |_| {});
    world.site.import_here(&good).unwrap();
    world.site.assert_holds(&world.target);
}
