//! Tables of tensors inside of weights: whatever the file says, its chunks tile it, and it does not matter in which pieces it
//! comes.

use nave_manifest::{ExternalData, FileEntry, FileHasher, MAX_CHUNK, safetensors as table};
use nave_names::RelativePath;

use crate::noise;

/// `nave_manifest::safetensors`, and how a file with such a header is cut.
pub fn safetensors(bytes: &[u8]) -> bool {
    cut("model.safetensors", bytes);
    let Some((first, rest)) = bytes.split_first_chunk() else { return false };
    let Ok(length) = table::header_length(*first) else { return false };
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(Ok(tensors)) = header.map(table::parse_header) else { return false };
    let end = tensors.iter().fold(0, |end, tensor| {
        assert_eq!(tensor.begin, end, "{}: tensors tile the data", tensor.name);
        tensor.end
    });
    end > 0
}

/// `nave_manifest::gguf`, by how a file is cut; accepted = at other places than an opaque one.
pub fn gguf(bytes: &[u8]) -> bool {
    cut("model.gguf", bytes).chunks != cut("model", bytes).chunks
}

/// `nave_manifest::onnx`, by how a file is cut, and by what it says of the file beside it.
pub fn onnx(bytes: &[u8]) -> bool {
    let path = |path: &str| RelativePath::new(path).unwrap();
    let mut external = ExternalData::default();
    let mut hasher = FileHasher::new(path("onnx/model.onnx"));
    hasher.update(bytes);
    let entry = hasher.finish_into(&mut external);
    let mut beside = FileHasher::knowing(path("onnx/weights.bin"), &external);
    beside.update(bytes);
    let beside = beside.finish();
    check(&beside, bytes);
    let opaque = cut("model", bytes).chunks;
    check(&entry, bytes);
    assert_eq!(entry.chunks, cut("onnx/model.onnx", bytes).chunks);
    entry.chunks != opaque || beside.chunks != opaque
}

/// In two pieces of any length, byte by byte at the beginning, and at once.
fn cut(path: &str, bytes: &[u8]) -> FileEntry {
    let path = RelativePath::new(path).unwrap();
    let mut whole = FileHasher::new(path.clone());
    whole.update(bytes);
    let whole = whole.finish();
    check(&whole, bytes);
    let (slow, rest) = bytes.split_at(bytes.len().min(200));
    let (some, rest) = rest.split_at(rest.len() * bytes.first().map_or(0, |byte| *byte as usize) / 255);
    let mut pieces = FileHasher::new(path);
    slow.iter().for_each(|byte| pieces.update(std::slice::from_ref(byte)));
    pieces.update(some);
    pieces.update(rest);
    assert_eq!(pieces.finish(), whole, "it does not matter in which pieces a file comes");
    whole
}

fn check(entry: &FileEntry, bytes: &[u8]) {
    let end = entry.chunks.iter().fold(0, |end, chunk| {
        assert_eq!(chunk.offset, end);
        assert!(chunk.length > 0 && chunk.length <= MAX_CHUNK);
        chunk.end()
    });
    assert_eq!((end, entry.size), (bytes.len() as u64, bytes.len() as u64), "chunks tile the file");
}

pub(crate) fn safetensors_seeds() -> Vec<Vec<u8>> {
    let file = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &noise(2, data)].concat()
    };
    let two = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[8],"data_offsets":[0,16]},"wte":{"dtype":"U8","shape":[3,3],"data_offsets":[16,25]}}"#;
    let one = r#"{"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
    vec![file(two, 25), file(one, 4)]
}

pub(crate) fn gguf_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let key = |name: &str, kind: u32, value: &[u8]| {
        [text(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
    };
    let tokens = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &text("a"), &text("größe")].concat();
    let keys =
        [key("general.alignment", 4, &32u32.to_le_bytes()), key("t", 9, &tokens), key("d", 12, &[0; 8])];
    let tensor = |name: &str, size: u64, offset: u64| {
        let (dimensions, kind) = (1u32.to_le_bytes(), 0u32.to_le_bytes());
        [&text(name)[..], &dimensions, &size.to_le_bytes(), &kind, &offset.to_le_bytes()].concat()
    };
    let tensors = [tensor("token_embd.weight", 64, 0), tensor("output", 32, 64)];
    let counts = [tensors.len() as u64, keys.len() as u64].map(u64::to_le_bytes).concat();
    let mut file =
        [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts, keys.concat(), tensors.concat()].concat();
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(noise(3, 96));
    vec![file]
}

pub(crate) fn onnx_seeds() -> Vec<Vec<u8>> {
    let varint = |mut value: u64| {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let field = |number: u64, content: &[u8]| {
        [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
    };
    let number = |number: u64, value: u64| [varint(number << 3), varint(value)].concat();
    let model = |tensor: &[u8]| {
        let node = field(1, &[field(1, b"input"), field(4, b"Relu")].concat());
        [number(1, 10), field(7, &[node, field(5, tensor), field(2, b"main")].concat())].concat()
    };
    // As short as a tensor may be that is cut out.
    let data = noise(4, usize::try_from(nave_manifest::onnx::MIN_TENSOR).unwrap());
    let inside = [number(1, 1), number(2, 2), field(8, b"onnx::MatMul_1"), field(9, &data)].concat();
    let pair =
        |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let place = [pair("location", "weights.bin"), pair("offset", "64"), pair("length", "32")].concat();
    let beside = [field(8, b"a"), place, number(14, 1)].concat();
    vec![model(&inside), model(&beside)]
}
