//! A pair of 1 GB in bfloat16 as a dense fine-tune leaves it: normally distributed weights, each of them changed by about 1%.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// 119 tensors of 4 Mi weights: 998 MB.
const TENSORS: usize = 119;
const SHAPE: [usize; 2] = [2048, 2048];
/// Of trained layers.
const DEVIATION: f32 = 0.02;
/// Of a weight.
const CHANGE: f32 = 0.01;

/// Writes both files, tensor by tensor.
pub(crate) fn write_pair(base: &Path, tuned: &Path) -> anyhow::Result<()> {
    let (mut base, mut tuned) = (open(base)?, open(tuned)?);
    let mut random = SmallRng::seed_from_u64(1);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..TENSORS {
        first.clear();
        second.clear();
        for _ in 0..SHAPE[0] * SHAPE[1] {
            let weight = normal(&mut random) * DEVIATION;
            first.extend(bfloat16(weight));
            second.extend(bfloat16(weight * (1.0 + CHANGE * normal(&mut random))));
        }
        base.write_all(&first)?;
        tuned.write_all(&second)?;
    }
    base.flush()?;
    tuned.flush().context("writing the synthetic pair")
}

/// A file that begins with the header of these tensors (<https://github.com/huggingface/safetensors#format>).
fn open(path: &Path) -> anyhow::Result<BufWriter<File>> {
    std::fs::create_dir_all(path.parent().context("a path with a folder")?)?;
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("making {}", path.display()))?);
    let size = SHAPE[0] * SHAPE[1] * 2;
    let tensors = (0..TENSORS).map(|number| {
        let place = serde_json::json!({"dtype": "BF16", "shape": SHAPE, "data_offsets": [number * size, (number + 1) * size]});
        (format!("layer.{number:03}.weight"), place)
    });
    let mut header = serde_json::Value::Object(tensors.collect()).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    Ok(file)
}

/// Near enough to a normal distribution, and quick: the sum of four uniform numbers.
fn normal(random: &mut SmallRng) -> f32 {
    let bits: u64 = random.random();
    let sum: u32 = [0, 16, 32, 48].into_iter().map(|shift| (bits >> shift) as u32 & 0xffff).sum();
    (sum as f32 / 65_536.0 - 2.0) * 1.732
}

/// Rounded to the nearest, ties to even.
fn bfloat16(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    (rounded as u16).to_le_bytes()
}
