//! `bundle export`: what was asked for is looked up, carried from S3 into parts, and signed.

use std::{io::Write, path::PathBuf};

use anyhow::bail;
use clap::Args;
use indicatif::HumanBytes;
use jiff::Timestamp;
use nave_bundle::{Bundle, Source};
use nave_names::{Digest, Generation, parse_bytes};
use serde::Serialize;

use super::{
    carry::{Carried, Load},
    folder::Folder,
    parts::Writer,
    select::{Selection, Wanted},
    signer::{SignedBy, Signer},
};
use crate::{
    connection::Connection,
    output::{self, Format},
    publish::progress,
};

/// The least size of a part; smaller ones only make many files.
const LEAST_PART: u64 = 64 << 10;

/// Write model versions into a folder that is carried to sites without a network
///
/// The folder appears when it is whole and signed; `nave-agent import DIR` takes it in at the site. What is made until then
/// lies in DIR.unfinished, and an export that was interrupted goes on from there when it is run again. S3 is read with the
/// keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else with those of the ModelVersions' own Secrets.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Name of the ModelVersion to carry
    #[arg(long, value_name = "NAME", required_unless_present = "policy", conflicts_with = "policy")]
    model_version: Option<String>,
    /// Name of a PlacementPolicy: carry what it asks for, and the version before that, so that a site can go back
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// A version of the same model (or the name of its ModelVersion) that the sites hold: carry only what it lacks
    #[arg(long, value_name = "VERSION")]
    delta_from: Option<String>,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The largest file to make, as a Kubernetes quantity. FAT file systems take 4G and not 4Gi
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_size)]
    split: u64,
    #[command(flatten)]
    signer: Signer,
    /// The number by which sites refuse what is older; otherwise the time in milliseconds
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    generation: Option<u64>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    to: PathBuf,
    source: Source,
    generation: Generation,
    signed_by: SignedBy,
    versions: Vec<ExportedVersion>,
    /// Of all parts.
    bytes: u64,
    parts: usize,
    bytes_fetched: u64,
    /// Bytes that an interrupted export had left.
    bytes_resumed: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportedVersion {
    model: String,
    version: String,
    manifest_digest: Digest,
    size_bytes: u64,
    carried_bytes: u64,
    /// The version that the site has to hold, or that the bundle has before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
}

impl Export {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let key = self.signer.given()?;
        let folder = Folder::begin(&self.to)?;
        let hub = connection.connect().await?;
        let wanted = match (&self.model_version, &self.policy) {
            (_, Some(policy)) => Wanted::Policy(policy),
            (Some(name), None) => Wanted::Version(name),
            (None, None) => bail!("--model-version or --policy: what shall be carried?"),
        };
        let selection = Selection::find(&hub, wanted, self.delta_from.as_deref()).await?;
        // Before hours of copying: whoever cannot sign is told so at once.
        let key = self.signer.key(key, &hub).await?;
        let loads = Load::plan(&hub, &selection).await?;
        let total: u64 = loads.iter().map(Load::bytes).sum();
        if total.div_ceil(self.split) > nave_bundle::MAX_PARTS as u64 {
            bail!(
                "--split {}: {total} bytes would be more than {} files",
                self.split,
                nave_bundle::MAX_PARTS
            );
        }
        folder.check_room(total)?;
        let bar = progress("exporting", total);
        let mut carried = Carried::new(Writer::new(folder.path(), self.split), bar.clone());
        for load in &loads {
            carried.load(load).await?;
        }
        bar.finish_and_clear();
        let (parts, fetched, resumed) = carried.finish()?;
        let now = Timestamp::now();
        let generation = self.generation.unwrap_or_else(|| now.as_millisecond().unsigned_abs());
        let bundle = Bundle {
            source: selection.source.clone(),
            generation: Generation(generation),
            created_at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            created_by: format!("kubectl-nave {}", env!("CARGO_PKG_VERSION")),
            versions: loads.iter().map(|load| load.version.clone()).collect(),
            parts,
        };
        bundle.check()?;
        folder.finish(&bundle, selection.policy_yaml()?.as_deref(), &key)?;
        let exported = Exported {
            to: self.to,
            source: bundle.source.clone(),
            generation: bundle.generation,
            signed_by: key.by,
            versions: loads.iter().map(ExportedVersion::of).collect(),
            bytes: bundle.size(),
            parts: bundle.parts.len(),
            bytes_fetched: fetched,
            bytes_resumed: resumed,
        };
        exported.say(self.output, out)
    }
}

impl ExportedVersion {
    fn of(load: &Load) -> Self {
        let version = &load.version;
        Self {
            model: version.model.to_string(),
            version: version.version.to_string(),
            manifest_digest: version.manifest_digest,
            size_bytes: version.size_bytes,
            carried_bytes: load.bytes(),
            base: version.base.as_ref().map(|base| base.version.to_string()),
        }
    }
}

impl Exported {
    fn say(&self, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
        if format == Format::Json {
            return output::json(out, self);
        }
        let (source, generation) = (&self.source, self.generation);
        writeln!(out, "{source}, generation {generation}, signed by {}", self.signed_by)?;
        for version in &self.versions {
            let (whole, carried) = (HumanBytes(version.size_bytes), HumanBytes(version.carried_bytes));
            let base = version.base.as_ref().map_or(String::new(), |base| format!(", upon {base}"));
            let ExportedVersion { model, version, manifest_digest, .. } = version;
            writeln!(out, "  {model} {version} {manifest_digest}: {carried} of {whole}{base}")?;
        }
        let files = if self.parts == 1 { "one part" } else { &format!("{} parts", self.parts) };
        writeln!(out, "{}: {} in {files}", self.to.display(), HumanBytes(self.bytes))?;
        if self.bytes_resumed > 0 {
            writeln!(
                out,
                "{} of them were left by an export that was interrupted",
                HumanBytes(self.bytes_resumed)
            )?;
        }
        writeln!(out, "\nAt the site:\n\n  nave-agent import {}", self.to.display())?;
        Ok(())
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    match parse_bytes(text) {
        Some(bytes) if bytes >= LEAST_PART => Ok(bytes),
        Some(_) => Err(format!("{text:?} is less than 64Ki")),
        None => Err(format!("{text:?} is not an amount of bytes such as 4G")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_quantities() {
        assert_eq!(parse_size("4G"), Ok(4_000_000_000));
        assert_eq!(parse_size("700Mi"), Ok(700 << 20));
        for bad in ["", "4GB", "-1", "1k", "4.5G", "99999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
