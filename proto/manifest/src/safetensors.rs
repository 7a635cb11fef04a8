//! The header of a safetensors file: which tensor lies where. Read strictly, as the format's own reader does
//! (<https://github.com/huggingface/safetensors#format>): tensors tile the data without hole or overlap.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// The longest header that is looked at, in bytes. The format allows 100 MB; this bounds the memory of whoever streams
/// a file by, and a model with 100,000 tensors needs about 12 MB.
pub const MAX_HEADER: u64 = 16 << 20;
/// Bytes before the header: its length, little-endian.
pub const LENGTH_BYTES: u64 = 8;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its element type as the file spells it: `F32`, `BF16`.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Where it starts, in bytes after the header.
    pub begin: u64,
    /// Where it ends, in bytes after the header.
    pub end: u64,
}

/// Why a header is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No header can have this length.
    #[error("safetensors header has a length of {0} bytes, expected 2 to {MAX_HEADER}")]
    Length(u64),
    /// Not the JSON of a header.
    #[error("safetensors header is malformed: {0}")]
    Malformed(String),
    /// Tensors that overlap, leave a hole, or do not have the size of their shape.
    #[error("tensor {name:?} lies at {begin}..{end}: {reason}")]
    Layout {
        /// The tensor.
        name: String,
        /// Where it says it starts.
        begin: u64,
        /// Where it says it ends.
        end: u64,
        /// The rule that it breaks.
        reason: &'static str,
    },
}

/// The length of the header that follows these first bytes.
///
/// # Errors
/// [`HeaderError::Length`] if no header can be that long.
pub const fn header_length(first: [u8; 8]) -> Result<u64, HeaderError> {
    let length = u64::from_le_bytes(first);
    if length < 2 || length > MAX_HEADER { Err(HeaderError::Length(length)) } else { Ok(length) }
}

/// The tensors of a header (without its length bytes), in the order of their offsets.
///
/// # Errors
/// [`HeaderError`] names the tensor and what is wrong with it.
pub fn parse_header(header: &[u8]) -> Result<Vec<Tensor>, HeaderError> {
    let Table(mut tensors) =
        serde_json::from_slice(header).map_err(|error| HeaderError::Malformed(error.to_string()))?;
    tensors.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
    let mut expected = 0;
    for tensor in &tensors {
        let reason = if tensor.begin != expected {
            "it does not start where the tensor before it ends"
        } else if tensor.end < tensor.begin {
            "it ends before it starts"
        } else if tensor.byte_size().is_some_and(|size| size != tensor.end - tensor.begin) {
            "its length is not that of its shape and type"
        } else {
            expected = tensor.end;
            continue;
        };
        let (name, begin, end) = (tensor.name.clone(), tensor.begin, tensor.end);
        return Err(HeaderError::Layout { name, begin, end, reason });
    }
    Ok(tensors)
}

impl Tensor {
    /// Bytes of one element; `None` for types that this version does not know or that are smaller than a byte.
    pub fn element_size(&self) -> Option<u64> {
        match self.dtype.as_str() {
            "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => Some(1),
            "U16" | "I16" | "F16" | "BF16" => Some(2),
            "U32" | "I32" | "F32" => Some(4),
            "U64" | "I64" | "F64" | "C64" => Some(8),
            _ => None,
        }
    }

    /// Bytes by shape and type; `None` where the type is unknown. A product that overflows is no possible size.
    fn byte_size(&self) -> Option<u64> {
        let element = self.element_size()?;
        Some(self.shape.iter().try_fold(element, |size, &n| size.checked_mul(n)).unwrap_or(u64::MAX))
    }
}

struct Table(Vec<Tensor>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Table;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let Info { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
                    tensors.push(Tensor { name, dtype, shape, begin, end });
                }
                Ok(Table(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
        "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
        "none":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}"#;

    #[test]
    fn tensors_come_in_file_order() {
        let tensors = parse_header(GOOD.as_bytes()).unwrap();
        assert_eq!(tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "none", "b"]);
    }

    #[test]
    fn layouts_that_lie_are_refused() {
        for (from, to) in [
            ("[4,16]", "[5,17]"),
            ("[4,16]", "[3,15]"),
            ("[4,16]", "[4,18]"),
            ("[4,16]", "[16,4]"),
            ("[2,3]", "[9223372036854775808,4]"),
        ] {
            let error = parse_header(GOOD.replace(from, to).as_bytes()).unwrap_err();
            assert!(matches!(error, HeaderError::Layout { .. }), "{error}");
        }
        for malformed in
            ["", "[]", "{", r#"{"a":1}"#, r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#]
        {
            assert!(
                matches!(parse_header(malformed.as_bytes()), Err(HeaderError::Malformed(_))),
                "{malformed}"
            );
        }
        assert_eq!(header_length(u64::MAX.to_le_bytes()), Err(HeaderError::Length(u64::MAX)));
    }
}
