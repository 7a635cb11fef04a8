//! Fingerprint: a small number for two names, so that of the hundred entries and rows of one assignment only those that are
//! asked for are read: the others lie far away in memory, a text each.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Of a namespace and a name in it. Two that differ may have the same: whoever finds one compares the names too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint(u32);

impl Fingerprint {
    pub(crate) fn of(namespace: &str, name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (namespace, name).hash(&mut hasher);
        let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
        Self(u32::from_le_bytes([a, b, c, d]))
    }
}
