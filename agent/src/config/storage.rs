//! How much of the disk the store may take, and how much of that versions that nothing needs.

use nave_names::parse_bytes;

use super::{ConfigError, StorageFile};

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

/// The checked limits: the quota in bytes, and the watermarks.
pub(super) fn limits(file: StorageFile) -> Result<(Option<u64>, Percent), ConfigError> {
    let value = |field, problem: String| ConfigError::Value { field, problem };
    let quota = file.quota.map(|text| {
        let bad = || value("storage.quota", format!("{text:?} is not an amount of bytes such as 200Gi"));
        parse_bytes(&text).ok_or_else(bad)
    });
    let quota = quota.transpose()?;
    let percent = |field, given: Option<u8>| match given {
        Some(given) if given > 100 => Err(value(field, format!("{given} is more than 100 percent"))),
        fine => Ok(fine),
    };
    let high = percent("storage.highWatermark", file.high_watermark)?;
    let low = percent("storage.lowWatermark", file.low_watermark)?;
    let usual = if quota.is_some() || high.or(low).is_some() { WITH_QUOTA } else { WITHOUT };
    let high = high.unwrap_or(usual.high);
    let low = low.unwrap_or(usual.low.min(high));
    if low > high {
        return Err(value("storage.lowWatermark", format!("{low} is above the high one, {high}")));
    }
    Ok((quota, Percent { high, low }))
}
