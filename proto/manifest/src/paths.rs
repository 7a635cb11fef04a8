//! Which paths a manifest may name, and which two of them some file system would take for one.

use std::collections::BTreeMap;

use nave_names::RelativePath;
use unicode_normalization::UnicodeNormalization as _;

use crate::{FileEntry, MANIFEST_FILE, ManifestError};

/// The folder below a version's prefix that holds what Nave derives from a version, such as deltas. Never content.
pub const NAVE_FOLDER: &str = ".nave";

/// True for objects below a version's prefix that are not its content: `manifest.json` at the top, signatures
/// (`*.sig`), and what lies in `.nave/`. Whoever lists a prefix to make a manifest leaves these out.
pub fn is_reserved(path: &RelativePath) -> bool {
    let text = path.as_str();
    text == MANIFEST_FILE || text.ends_with(".sig") || path.parts().next() == Some(NAVE_FOLDER)
}

/// Whether one path may be in a manifest.
pub(crate) fn check(path: &RelativePath) -> Result<(), ManifestError> {
    if let Some(character) = path.as_str().chars().find(|&c| is_invisible(c)) {
        return Err(ManifestError::InvisibleCharacter {
            path: path.to_string(),
            character: u32::from(character),
        });
    }
    // Full-width dots and slashes become real ones where a file system or a tool normalises names.
    let normalised: String = path.as_str().nfkc().collect();
    if let Err(error) = RelativePath::new(normalised) {
        return Err(ManifestError::BadPath(format!("{path:?} in its normalised form: {error}")));
    }
    let folded = folded_parts(path).collect::<Vec<_>>();
    if is_reserved(path) || folded[0] == NAVE_FOLDER || folded == [MANIFEST_FILE] {
        return Err(ManifestError::ReservedPath { path: path.to_string() });
    }
    Ok(())
}

/// Whether all paths can be materialised side by side. `files` are sorted by path.
pub(crate) fn check_together(files: &[FileEntry]) -> Result<(), ManifestError> {
    let mut seen: BTreeMap<String, &RelativePath> = BTreeMap::new();
    for file in files {
        if let Some(first) = seen.insert(folded_parts(&file.path).collect::<Vec<_>>().join("/"), &file.path) {
            return Err(clash(first, &file.path));
        }
    }
    for (folded, path) in &seen {
        for (at, _) in folded.match_indices('/') {
            if let Some(file) = seen.get(&folded[..at]) {
                return Err(ManifestError::FileIsFolder { file: file.to_string(), below: path.to_string() });
            }
        }
    }
    Ok(())
}

fn clash(first: &RelativePath, second: &RelativePath) -> ManifestError {
    if first == second {
        return ManifestError::DuplicatePath { path: first.to_string() };
    }
    ManifestError::LookAlikePath { first: first.to_string(), second: second.to_string() }
}

/// The parts of a path as the most forgiving file system compares them: compatibility form, without case.
fn folded_parts(path: &RelativePath) -> impl Iterator<Item = String> {
    path.parts().map(|part| {
        let upper: String = part.nfkc().collect::<String>().to_uppercase();
        upper.to_lowercase().nfkc().collect()
    })
}

/// Characters that a reader cannot see or that re-order the text around them (Unicode category Cf and fillers).
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_known() {
        for reserved in ["manifest.json", "model.sig", "a/b.sig", ".nave/delta/x"] {
            assert!(is_reserved(&RelativePath::new(reserved).unwrap()), "{reserved}");
        }
        for content in ["a/manifest.json", "model.sigma", "x/.nave/y", "nave/x"] {
            assert!(!is_reserved(&RelativePath::new(content).unwrap()), "{content}");
        }
    }
}
