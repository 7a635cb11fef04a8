//! ETags as what they are in most buckets: the MD5 of an object's bytes, or, of one that was uploaded in parts, of the MD5s
//! of its parts and not of the whole. S3 does not list how long the parts were, so the lengths that uploaders use are tried.
//! A match shows that the bytes are the same, but for somebody who makes up collisions of MD5 on purpose. Anything else may
//! be other bytes, parts of another length, or an object whose ETag is no MD5 at all (one that was encrypted with a key of
//! its own): then nobody can say.

use std::{collections::BTreeSet, fs::File, io::Read as _, path::Path};

use md5::{Digest as _, Md5};
use nave_manifest::{FileEntry, FileHasher};

use super::{exit::Failure, verify::disk};
use crate::pull::Listed;

const MIB: u64 = 1 << 20;

/// Lengths of parts, in MiB, that aws-cli, the SDKs, rclone, s5cmd, mc, s3cmd and consoles use unless told otherwise, and
/// what people tell them.
const USUAL_PARTS: [u64; 20] =
    [5, 6, 8, 10, 12, 15, 16, 20, 24, 25, 32, 48, 50, 64, 100, 128, 200, 256, 512, 1_024];

/// What a file is by an object's ETag.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// The object, byte for byte.
    Same(FileEntry),
    /// Not shown to be; in words.
    Not(String),
}

/// One way in which an ETag may have come about.
struct Guess {
    /// Length of a part; `None` = it was not uploaded in parts.
    part: Option<u64>,
    current: Md5,
    filled: u64,
    of_parts: Md5,
    parts: u64,
}

/// Compares a file with the ETag of an object that has its size. Reads it only if that can say something.
pub(super) fn compare(path: &Path, listed: &Listed) -> Result<Compared, Failure> {
    let e_tag = listed.e_tag.as_deref().unwrap_or_default().trim_matches('"').to_ascii_lowercase();
    let mut guesses = guess(&e_tag, listed.size);
    if guesses.is_empty() {
        return Ok(Compared::Not(cannot_say(&e_tag)));
    }
    let mut file = File::open(path).map_err(|error| disk(path, &error))?;
    let mut hasher = FileHasher::new(listed.path.clone());
    let mut buffer = vec![0; MIB as usize];
    loop {
        let read = file.read(&mut buffer).map_err(|error| disk(path, &error))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        guesses.iter_mut().for_each(|guess| guess.update(&buffer[..read]));
    }
    let in_one = guesses.iter().all(|guess| guess.part.is_none());
    let found: Vec<_> = guesses.into_iter().map(Guess::finish).collect();
    Ok(match &found[..] {
        _ if hasher.size() == listed.size && found.contains(&e_tag) => Compared::Same(hasher.finish()),
        [md5] if in_one => Compared::Not(format!("has the MD5 {md5}, and S3 lists the ETag {e_tag}")),
        _ => Compared::Not(cannot_say(&e_tag)),
    })
}

fn cannot_say(e_tag: &str) -> String {
    match e_tag {
        "" => "cannot be compared: S3 lists no ETag".to_owned(),
        _ if e_tag.contains('-') => format!(
            "has other bytes, or cannot be compared: its ETag {e_tag} is of an upload in parts, and with none of the usual \
             lengths of parts the file has it"
        ),
        _ => format!("cannot be compared: its ETag {e_tag} is no MD5"),
    }
}

/// What may have led to an ETag of an object of this size.
fn guess(e_tag: &str, size: u64) -> Vec<Guess> {
    let new = |part| Guess { part, current: Md5::new(), filled: 0, of_parts: Md5::new(), parts: 0 };
    let is_md5 = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match e_tag.split_once('-') {
        None if is_md5(e_tag) => vec![new(None)],
        Some((md5, count)) if is_md5(md5) => {
            let Some(count) = count.parse::<u64>().ok().filter(|count| *count > 0) else { return Vec::new() };
            // With many parts, uploaders take the next whole MiB at which they are few enough.
            let least = size.div_ceil(count).div_ceil(MIB);
            let parts: BTreeSet<_> = USUAL_PARTS.into_iter().chain([least]).map(|part| part * MIB).collect();
            let fitting = parts.into_iter().filter(|part| *part > 0 && size.div_ceil(*part) == count);
            // Of one part it does not matter how long it might have been.
            fitting.take(if count == 1 { 1 } else { usize::MAX }).map(|part| new(Some(part))).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

impl Guess {
    fn update(&mut self, mut bytes: &[u8]) {
        let Some(part) = self.part else { return self.current.update(bytes) };
        while !bytes.is_empty() {
            let room = usize::try_from(part - self.filled).unwrap_or(usize::MAX);
            let (piece, rest) = bytes.split_at(bytes.len().min(room));
            self.current.update(piece);
            self.filled += piece.len() as u64;
            if self.filled == part {
                self.end_part();
            }
            bytes = rest;
        }
    }

    fn end_part(&mut self) {
        self.of_parts.update(self.current.finalize_reset());
        self.filled = 0;
        self.parts += 1;
    }

    /// The ETag that the bytes would have.
    fn finish(mut self) -> String {
        if self.part.is_none() {
            return hex::encode(self.current.finalize());
        }
        if self.filled > 0 {
            self.end_part();
        }
        format!("{}-{}", hex::encode(self.of_parts.finalize()), self.parts)
    }
}

#[cfg(test)]
mod tests {
    use nave_names::RelativePath;

    use super::*;

    fn md5(bytes: &[u8]) -> [u8; 16] {
        Md5::digest(bytes).into()
    }

    /// As S3 makes it of parts of this length.
    fn of_parts(bytes: &[u8], part: usize) -> String {
        let parts: Vec<_> = bytes.chunks(part).map(md5).collect();
        format!("\"{}-{}\"", hex::encode(md5(parts.concat().as_slice())), parts.len())
    }

    #[test]
    fn a_file_is_the_object_by_its_etag_or_nobody_can_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.bin");
        let bytes: Vec<u8> = (0..17 * MIB as u32 + 3).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let size = bytes.len() as u64;
        let mut hasher = FileHasher::new(RelativePath::new("model.bin").unwrap());
        hasher.update(&bytes);
        let entry = hasher.finish();
        let found = |e_tag: Option<String>, size: u64| {
            compare(&path, &Listed { path: entry.path.clone(), size, e_tag }).unwrap()
        };
        let mib = MIB as usize;
        for good in [
            format!("\"{}\"", hex::encode(md5(&bytes))),
            hex::encode_upper(md5(&bytes)),
            of_parts(&bytes, 5 * mib),
            of_parts(&bytes, 6 * mib),
            of_parts(&bytes, 8 * mib),
            // Two and nine: lengths that nobody uses, but the least whole MiB that make so many parts.
            of_parts(&bytes, 2 * mib),
            of_parts(&bytes, 9 * mib),
            of_parts(&bytes, 50 * mib),
        ] {
            assert_eq!(found(Some(good.clone()), size), Compared::Same(entry.clone()), "{good}");
        }
        let not = |e_tag: Option<String>, size: u64| match found(e_tag, size) {
            Compared::Same(entry) => panic!("{entry:?}"),
            Compared::Not(why) => why,
        };
        let mine = hex::encode(md5(&bytes));
        let other = hex::encode(md5(b"other"));
        assert_eq!(
            not(Some(other.clone()), size),
            format!("has the MD5 {mine}, and S3 lists the ETag {other}")
        );
        assert_eq!(not(None, size), "cannot be compared: S3 lists no ETag");
        for no_md5 in
            ["not an MD5", "d41d8cd98f00b204e9800998ecf8427", "W/\"d41d8cd98f00b204e9800998ecf8427e"]
        {
            assert!(not(Some(no_md5.to_owned()), size).ends_with("is no MD5"), "{no_md5}");
        }
        let other_parts = [
            of_parts(&bytes, 7 * mib),
            of_parts(&bytes, 8 * mib + 1),
            of_parts(&bytes[1..], 8 * mib),
            format!("{mine}-0"),
            format!("{mine}-x"),
            "-3".to_owned(),
        ];
        for e_tag in other_parts {
            assert!(not(Some(e_tag.clone()), size).contains("an upload in parts"), "{e_tag}");
        }
        // Cut or grown since somebody looked at its size.
        not(Some(mine), size + 1);
    }

    #[test]
    fn an_empty_file_is_an_empty_object() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        let path_below = RelativePath::new("empty").unwrap();
        let listed = |e_tag: String| Listed { path: path_below.clone(), size: 0, e_tag: Some(e_tag) };
        let entry = FileHasher::new(path_below.clone()).finish();
        assert_eq!(compare(&path, &listed(hex::encode(md5(b"")))).unwrap(), Compared::Same(entry));
        assert!(matches!(
            compare(&path, &listed(format!("{}-1", hex::encode(md5(b""))))),
            Ok(Compared::Not(_))
        ));
    }
}
