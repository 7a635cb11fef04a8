//! How much of the disk the store may take, and how much of that versions that nothing needs.

use nave_names::parse_bytes;

use super::{ConfigError, StorageFile, file::ColdFile};
use crate::store::ColdTier;

/// Parts of the quota, in percent: above `high` versions that nothing needs go, until no more than `low` is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent {
    /// Where it begins.
    pub high: u8,
    /// Where it ends.
    pub low: u8,
}

/// With a quota: the rest is for the next version. As the kubelet has them for images, but further apart, since models are
/// larger.
const WITH_QUOTA: Percent = Percent { high: 85, low: 70 };
/// Without a quota the disk may be everybody's: nothing stays there that nothing needs.
const WITHOUT: Percent = Percent { high: 0, low: 0 };

/// The checked limits.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// Most bytes that the store may take.
    pub(super) quota: Option<u64>,
    /// How much of that versions that nothing needs may take.
    pub(super) watermarks: Percent,
    /// The cold tier.
    pub(super) cold: Option<ColdTier>,
}

impl Storage {
    pub(super) fn new(file: StorageFile) -> Result<Self, ConfigError> {
        let quota = bytes("storage.quota", file.quota)?;
        let (high, low) = (file.high_watermark, file.low_watermark);
        let usual = if quota.is_some() || high.or(low).is_some() { WITH_QUOTA } else { WITHOUT };
        let watermarks = percent(["storage.highWatermark", "storage.lowWatermark"], [high, low], usual)?;
        let cold = file.cold.map(cold).transpose()?;
        Ok(Self { quota, watermarks, cold })
    }
}

fn cold(file: ColdFile) -> Result<ColdTier, ConfigError> {
    if !file.dir.is_absolute() {
        let problem =
            format!("{:?} is not an absolute path such as /mnt/disk/nave", file.dir.display().to_string());
        return Err(ConfigError::Value { field: "storage.cold.dir", problem });
    }
    let quota = bytes("storage.cold.quota", file.quota)?;
    let fields = ["storage.cold.highWatermark", "storage.cold.lowWatermark"];
    let Percent { high, low } = percent(fields, [file.high_watermark, file.low_watermark], WITH_QUOTA)?;
    Ok(ColdTier { dir: file.dir, quota, high, low })
}

fn bytes(field: &'static str, text: Option<String>) -> Result<Option<u64>, ConfigError> {
    let read = |text: String| {
        let problem = || format!("{text:?} is not an amount of bytes such as 200Gi");
        parse_bytes(&text).ok_or_else(|| ConfigError::Value { field, problem: problem() })
    };
    text.map(read).transpose()
}

/// The high and the low mark, by the names of their fields.
fn percent(
    fields: [&'static str; 2],
    given: [Option<u8>; 2],
    usual: Percent,
) -> Result<Percent, ConfigError> {
    for (field, given) in fields.into_iter().zip(given) {
        if let Some(given) = given.filter(|given| *given > 100) {
            return Err(ConfigError::Value { field, problem: format!("{given} is more than 100 percent") });
        }
    }
    let high = given[0].unwrap_or(usual.high);
    let low = given[1].unwrap_or(usual.low.min(high));
    if low > high {
        let problem = format!("{low} is above the high one, {high}");
        return Err(ConfigError::Value { field: fields[1], problem });
    }
    Ok(Percent { high, low })
}
