//! The list of a version's deltas, `.nave/deltas.json`: one small object that tells a spoke with one request whether there
//! is a delta from something that it holds, and how large it is.

use nave_names::{Digest, RelativePath};
use serde::{Deserialize, Serialize};

use crate::{DeltaError, MAX_TAIL};

/// The format that this crate reads and writes.
pub const CATALOG_FORMAT: &str = "nave.dev/deltas/v1";
/// The most deltas that a version may have; more bases than that are nobody's.
const MAX_OFFERS: usize = 64;

/// One delta of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offer {
    /// Manifest digest of the version that it starts from.
    pub base: Digest,
    /// Bytes of the delta object.
    pub size: u64,
    /// Bytes at its end that hold the index and the footer.
    pub index_size: u64,
}

/// All deltas of a version, sorted by base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    format: String,
    deltas: Vec<Offer>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { format: CATALOG_FORMAT.to_owned(), deltas: Vec::new() }
    }
}

impl Catalog {
    /// The most bytes that a list may have.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Reads a list that may be hostile.
    ///
    /// # Errors
    /// [`DeltaError::BadCatalog`] says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, DeltaError> {
        let bad = |why: String| Err(DeltaError::BadCatalog(why));
        if bytes.len() > Self::MAX_BYTES {
            return bad(format!("it has {} bytes, more than {}", bytes.len(), Self::MAX_BYTES));
        }
        let catalog: Self = match serde_json::from_slice(bytes) {
            Ok(catalog) => catalog,
            Err(error) => return bad(error.to_string()),
        };
        if catalog.format != CATALOG_FORMAT {
            return bad(format!(
                "format {:?}; this version of Nave reads {CATALOG_FORMAT:?}",
                catalog.format
            ));
        }
        if catalog.deltas.len() > MAX_OFFERS {
            return bad(format!("{} deltas, more than {MAX_OFFERS}", catalog.deltas.len()));
        }
        if !catalog.deltas.is_sorted_by(|a, b| a.base < b.base) {
            return bad("its deltas are not sorted by base, each base once".to_owned());
        }
        let impossible = |offer: &&Offer| offer.index_size >= offer.size || offer.index_size > MAX_TAIL;
        match catalog.deltas.iter().find(impossible) {
            Some(Offer { base, size, index_size }) => {
                bad(format!("delta from {base}: an index of {index_size} bytes in {size} cannot be"))
            }
            None => Ok(catalog),
        }
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and integers into memory: serde_json has no error to give for these.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The deltas, sorted by base.
    pub fn offers(&self) -> &[Offer] {
        &self.deltas
    }

    /// Adds a delta, or replaces the one from the same base.
    pub fn insert(&mut self, offer: Offer) {
        match self.deltas.binary_search_by_key(&offer.base, |offer| offer.base) {
            Ok(at) => self.deltas[at] = offer,
            Err(at) => self.deltas.insert(at, offer),
        }
        self.deltas.truncate(MAX_OFFERS);
    }
}

/// Where the list lies below a version's prefix.
pub fn catalog_path() -> RelativePath {
    fixed(".nave/deltas.json".to_owned())
}

/// Where the delta from `base` lies below a version's prefix.
pub fn delta_path(base: &Digest) -> RelativePath {
    fixed(format!(".nave/delta/{}.nvd", base.to_hex()))
}

#[allow(clippy::expect_used)] // A constant and hex digits make a path, always.
fn fixed(path: String) -> RelativePath {
    RelativePath::new(path).expect("a path below the prefix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(base: &str, size: u64) -> Offer {
        Offer { base: Digest::of(base.as_bytes()), size, index_size: 144 }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let mut catalog = Catalog::default();
        for (base, size) in [("a", 1_000), ("b", 2_000), ("a", 3_000)] {
            catalog.insert(offer(base, size));
        }
        assert_eq!(catalog.offers().len(), 2);
        let read = Catalog::parse(&catalog.to_bytes()).unwrap();
        assert_eq!(read, catalog);
        assert!(read.offers().contains(&offer("a", 3_000)));
    }

    #[test]
    fn lists_that_cannot_be_are_refused() {
        let mut catalog = Catalog::default();
        catalog.insert(offer("a", 1_000));
        let good = String::from_utf8(catalog.to_bytes()).unwrap();
        let one = &good[good.find("{\"base").unwrap()..good.len() - 2];
        let twice = good.replace(one, &format!("{one},{one}"));
        for (bad, why) in [
            (good.replace("v1", "v2"), "format"),
            (good.replace("1000", "100"), "cannot be"),
            (good.replace("144", "99999999999"), "cannot be"),
            (good.replace("1000", "-1"), "invalid"),
            (good.replace("\"size\"", "\"path\""), "unknown field"),
            (good[..good.len() - 3].to_owned(), "EOF"),
            (" ".repeat(Catalog::MAX_BYTES + 1), "more than"),
            (twice, "sorted"),
        ] {
            let error = Catalog::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
