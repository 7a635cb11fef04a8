//! What a block has to be before any of it is decompressed: one zstd frame and nothing beside it, that says of itself that
//! it becomes exactly its chunk and looks back no further than that. Only the frame's header (RFC 8878, 3.1.1.1) and the
//! headers of its blocks are read, so a bomb costs what it weighs and not what it becomes.

use zstd::zstd_safe::{find_frame_compressed_size, get_dict_id_from_frame, get_frame_content_size};

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Frames that decoders pass over. 16 numbers are set aside for them; the first byte says which.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Whether this can be the block of a chunk of `expected` bytes; if not, why.
pub(crate) fn check(block: &[u8], expected: usize) -> Result<(), String> {
    let Some((magic, rest)) = block.split_first_chunk::<4>() else {
        return Err("it is too short for a zstd frame".to_owned());
    };
    if magic[0] & 0xf0 == 0x50 && magic[1..] == SKIPPABLE {
        return Err("it hides bytes in a skippable frame".to_owned());
    }
    if *magic != MAGIC {
        return Err("it is no zstd frame".to_owned());
    }
    match get_frame_content_size(block) {
        Ok(Some(said)) if said == expected as u64 => {}
        Ok(Some(said)) => return Err(format!("it says that it becomes {said}")),
        Ok(None) => return Err("it does not say how long it becomes".to_owned()),
        Err(_) => return Err("its frame's header is damaged".to_owned()),
    }
    if let Some(window) = window(rest)
        && window > expected as u64
    {
        return Err(format!("it asks for a window of {window} bytes"));
    }
    if get_dict_id_from_frame(block).is_some() {
        return Err("it asks for a dictionary".to_owned());
    }
    match find_frame_compressed_size(block) {
        Ok(length) if length == block.len() => Ok(()),
        Ok(length) => Err(format!("{} bytes follow its frame", block.len() - length)),
        Err(_) => Err("its frame is cut off or damaged".to_owned()),
    }
}

/// How far a frame looks back, if that is not all of what it becomes. `header` begins behind the magic.
fn window(header: &[u8]) -> Option<u64> {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let [descriptor, window, ..] = header else { return None };
    if descriptor & SINGLE_SEGMENT != 0 {
        return None;
    }
    let base = 1_u64 << (10 + (window >> 3));
    Some(base + base / 8 * u64::from(window & 7))
}
