//! `publish`: a folder becomes a version in S3, and a ModelVersion that names it by digest.

mod catalog;
mod delta;
mod hash;
pub(crate) mod reader;
mod scan;
pub(crate) mod sign;
pub(crate) mod storage;
mod upload;
pub(crate) mod version;

use std::{io::Write, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use nave_crds::ModelVersion;
use nave_manifest::Manifest;
use nave_names::RelativePath;
use serde::Serialize;

use self::{
    delta::Comparison,
    reader::Reader,
    sign::Signing,
    storage::Storage,
    upload::{Destination, Present},
    version::{Creation, Described},
};
use crate::{
    connection::{Connected, Connection},
    output::{self, Format},
};

/// Publish a folder as a model version: to S3 with a manifest, and as a ModelVersion
///
/// The manifest is written last and only where there is none: a version is there as a whole or not at all, and is never
/// written over. An interrupted publication is simply run again.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The folder; every file in it belongs to the version
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    described: Described,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    signing: Signing,
    /// Leave hidden files and folders out instead of refusing them
    #[arg(long)]
    skip_hidden: bool,
    /// Also store what a spoke needs that holds this version of the same model (a version or the name of a ModelVersion):
    /// it then fetches the changes alone. May be given several times, and for a version that is published already
    #[arg(long, value_name = "VERSION", conflicts_with = "dry_run")]
    delta_from: Vec<String>,
    /// Hash and show, but send nothing anywhere
    #[arg(long)]
    dry_run: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    manifest_digest: String,
    size_bytes: u64,
    file_count: usize,
    /// False where the very same version was there, and in a dry run.
    uploaded: bool,
    /// A signature lies beside the files.
    signed: bool,
    /// False where the very same ModelVersion was there, and in a dry run.
    created: bool,
    /// One for each `--delta-from`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deltas: Vec<delta::Outcome>,
    model_version: ModelVersion,
}

impl Publish {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let prefix = self.prefix()?;
        let (key, asked) = (self.signing.key()?, self.signing.asked()?);
        let files = scan::scan(&self.folder, self.skip_hidden)?;
        let bar = progress("hashing", files.iter().map(|file| file.size).sum());
        let manifest = hash::hash_files(&files, &bar).await?;
        bar.finish_and_clear();
        let signature = self.signing.make(key.as_ref(), self.described.model.as_str(), &manifest)?;
        let mut version = self.described.resource(self.storage.source(&prefix), &manifest)?;
        version.spec.signature = asked;
        let mut published = Published {
            manifest_digest: manifest.digest().to_string(),
            size_bytes: manifest.total_size(),
            file_count: manifest.files().len(),
            uploaded: false,
            signed: signature.is_some(),
            created: false,
            deltas: Vec::new(),
            model_version: version.clone(),
        };
        if self.dry_run {
            return self.say(&published, "would publish", out);
        }
        let hub = connection.connect().await?;
        version.metadata.namespace = Some(hub.namespace().to_owned());
        version::check_free(&hub, &version).await?;
        let bases = self.bases(&hub, &manifest).await?;
        let store = self.storage.open(Some(&hub)).await?;
        let destination = Destination { store, bucket: self.storage.bucket.clone(), prefix };
        published.uploaded = self.upload(&destination, &manifest, signature).await?;
        // Before the ModelVersion, which is what spokes wait for.
        for (name, base) in bases {
            let version = Reader::folder(self.folder.clone(), manifest.clone());
            published.deltas.push(Self::store_delta(&name, base, version, &destination).await?);
        }
        published.created = version::create(&hub, &version).await? == Creation::Created;
        published.model_version = version;
        self.say(&published, "published", out)
    }

    /// The prefix with one slash at its end.
    fn prefix(&self) -> anyhow::Result<String> {
        let written = match &self.storage.prefix {
            Some(prefix) => prefix.clone(),
            None => format!("{}/{}", self.described.model, self.described.model_version),
        };
        let path = RelativePath::new(written.strip_suffix('/').unwrap_or(&written)).context("--prefix")?;
        Ok(format!("{path}/"))
    }

    /// Returns whether any of the version's own files had to be uploaded.
    async fn upload(
        &self,
        destination: &Destination,
        manifest: &Manifest,
        signature: Option<Vec<u8>>,
    ) -> anyhow::Result<bool> {
        let present = destination.look(manifest).await?;
        if let Some(signature) = signature {
            destination.put_signature(signature).await?;
        }
        match present {
            Present::Same => Ok(false),
            Present::Nothing => {
                let bar = progress("uploading", manifest.total_size());
                destination.upload(&self.folder, manifest, &bar).await?;
                bar.finish_and_clear();
                Ok(true)
            }
        }
    }

    /// The versions to make deltas from, before anything is uploaded.
    async fn bases(&self, hub: &Connected, manifest: &Manifest) -> anyhow::Result<Vec<(String, Reader)>> {
        let mut bases = Vec::new();
        for name in &self.delta_from {
            let (version, digest) =
                version::named(hub, "--delta-from", self.described.model.as_str(), name).await?;
            if digest == manifest.digest() {
                bail!("--delta-from {name}: that is this very version ({digest})");
            }
            let source = &version.spec.source.s3;
            let store = storage::open(source, Some(hub)).await?;
            let base = Reader::s3(store, &source.bucket, &source.prefix, &digest).await;
            bases.push((name.clone(), base.with_context(|| format!("--delta-from {name}"))?));
        }
        Ok(bases)
    }

    async fn store_delta(
        name: &str,
        base: Reader,
        version: Reader,
        destination: &Destination,
    ) -> anyhow::Result<delta::Outcome> {
        let comparing = || format!("making the delta from {name}");
        let comparison = Comparison::of(base, version).await.with_context(comparing)?;
        let bar = progress("delta", comparison.whole_bytes());
        let outcome = comparison.store(name, destination, &bar).await.with_context(comparing)?;
        bar.finish_and_clear();
        Ok(outcome)
    }

    fn say(&self, published: &Published, verb: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.output == Format::Json {
            return output::json(out, published);
        }
        let s3 = &published.model_version.spec.source.s3;
        writeln!(
            out,
            "{verb} {} files, {}, as {}",
            published.file_count,
            HumanBytes(published.size_bytes),
            published.manifest_digest
        )?;
        let there = if published.uploaded || self.dry_run { "" } else { " (was there already)" };
        let signed = if published.signed { ", signed" } else { "" };
        writeln!(out, "s3://{}/{}{there}{signed}", s3.bucket, s3.prefix)?;
        for delta in &published.deltas {
            let (from, whole) = (&delta.from, HumanBytes(delta.whole_bytes));
            if delta.stored {
                let (fetched, saved) = (HumanBytes(delta.delta_bytes), delta.percent_saved());
                writeln!(
                    out,
                    "delta from {from}: a spoke that holds it fetches {fetched} in place of {whole} ({saved:.1}% less)"
                )?;
            } else {
                writeln!(out, "delta from {from}: saves nothing of {whole}, not stored")?;
            }
        }
        let name = published.model_version.metadata.name.as_deref().unwrap_or_default();
        let state = match (self.dry_run, published.created) {
            (true, _) => "not created (dry run)",
            (false, true) => "created",
            (false, false) => "unchanged",
        };
        writeln!(out, "modelversion.nave.dev/{name} {state}")?;
        Ok(())
    }
}

/// On a terminal only; elsewhere it draws nothing.
pub(crate) fn progress(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    let style =
        ProgressStyle::with_template("{msg:>9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
