//! The ModelVersion of a publication, and its creation.

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use nave_crds::{
    AcceleratorRequirement, Format, Lineage, ModelVersion, ModelVersionSpec, Requirements, S3Source, Source,
};
use nave_manifest::Manifest;
use nave_names::{Digest, ModelName, VersionName};

use crate::{connection::Connected, failure};

/// What a version is and needs. It cannot be changed afterwards.
#[derive(Debug, Args)]
pub(super) struct Described {
    /// What the serving runtime knows the model by
    #[arg(long)]
    pub(super) model: ModelName,
    /// The version, such as 1.2.0
    #[arg(long = "version", value_name = "VERSION")]
    pub(super) model_version: VersionName,
    /// What the files are; otherwise seen from their names
    #[arg(long, value_enum)]
    pub(super) format: Option<FileFormat>,
    /// Name of the ModelVersion; otherwise MODEL-VERSION
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Architectures that can run it, any of them: amd64,arm64
    #[arg(long, value_delimiter = ',', value_name = "ARCHITECTURE")]
    architectures: Vec<String>,
    /// Vendor of an accelerator that it needs, such as nvidia
    #[arg(long, value_name = "VENDOR")]
    accelerator: Option<String>,
    /// Memory that the accelerator has to have, such as 8Gi
    #[arg(long, value_name = "QUANTITY")]
    accelerator_memory: Option<String>,
    /// Serving runtimes that can run it, any of them
    #[arg(long, value_delimiter = ',', value_name = "RUNTIME")]
    runtimes: Vec<String>,
    /// Name of the ModelVersion that it was trained from
    #[arg(long, value_name = "NAME")]
    parent: Option<String>,
}

/// `spec.format` as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FileFormat {
    Onnx,
    Safetensors,
    Gguf,
    Files,
}

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Onnx => Self::Onnx,
            FileFormat::Safetensors => Self::Safetensors,
            FileFormat::Gguf => Self::Gguf,
            FileFormat::Files => Self::Files,
        }
    }
}

/// What became of the ModelVersion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    Created,
    /// It is there with the very same spec.
    Unchanged,
}

impl Described {
    /// The ModelVersion, with the manifest's digest pinned.
    pub(super) fn resource(&self, s3: S3Source, manifest: &Manifest) -> anyhow::Result<ModelVersion> {
        let format = self.format.map_or_else(|| seen_format(manifest), Format::from);
        let accelerator = (self.accelerator.is_some() || self.accelerator_memory.is_some()).then(|| {
            AcceleratorRequirement {
                vendor: self.accelerator.clone(),
                min_memory: self.accelerator_memory.clone().map(Quantity),
            }
        });
        let requirements = Requirements {
            architectures: self.architectures.clone(),
            accelerator,
            runtimes: self.runtimes.clone(),
        };
        let spec = ModelVersionSpec {
            model: self.model.to_string(),
            version: self.model_version.to_string(),
            format,
            source: Source { s3 },
            manifest_digest: Some(manifest.digest().to_string()),
            requirements: (requirements != Requirements::default()).then_some(requirements),
            signature: None,
            lineage: self.parent.clone().map(|parent| Lineage { parent: Some(parent), ..Lineage::default() }),
            withdrawn: false,
        };
        Ok(ModelVersion::new(&self.object_name()?, spec))
    }

    fn object_name(&self) -> anyhow::Result<String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let name = format!("{}-{}", self.model, self.model_version).to_lowercase().replace(['_', '+'], "-");
        if nave_names::PolicyName::new(name.as_str()).is_err() {
            bail!("{name:?} cannot be the ModelVersion's name: give it one with --name");
        }
        Ok(name)
    }
}

/// The format that the file names speak of; a folder of several is `files`.
fn seen_format(manifest: &Manifest) -> Format {
    let has = |ending: &str| manifest.files().iter().any(|file| file.path.as_str().ends_with(ending));
    match (has(".onnx"), has(".safetensors"), has(".gguf")) {
        (true, false, false) => Format::Onnx,
        (false, true, false) => Format::Safetensors,
        (false, false, true) => Format::Gguf,
        _ => Format::Files,
    }
}

/// Fails where a ModelVersion of this name says something else: before anything is uploaded.
pub(super) async fn check_free(hub: &Connected, version: &ModelVersion) -> anyhow::Result<()> {
    match find(hub, version).await? {
        Some(present) => same(hub, &present, version).map(|_| ()),
        None => Ok(()),
    }
}

/// Creates the ModelVersion, or finds that it is there already.
pub(super) async fn create(hub: &Connected, version: &ModelVersion) -> anyhow::Result<Creation> {
    if let Some(present) = find(hub, version).await? {
        return same(hub, &present, version);
    }
    let versions: Api<ModelVersion> = Api::namespaced(hub.client.clone(), hub.namespace());
    versions
        .create(&PostParams::default(), version)
        .await
        .map_err(failure::said)
        .with_context(|| format!("creating {}", label(hub, version)))?;
    Ok(Creation::Created)
}

/// The ModelVersion of this model that is named so, or has this version; and its manifest's digest. `flag` is what the
/// user asked for it by.
pub(crate) async fn named(
    hub: &Connected,
    flag: &str,
    model: &str,
    wanted: &str,
) -> anyhow::Result<(ModelVersion, Digest)> {
    let namespace = hub.namespace();
    let versions: Api<ModelVersion> = Api::namespaced(hub.client.clone(), namespace);
    let listed = versions.list(&ListParams::default()).await.map_err(failure::said);
    let listed = listed.with_context(|| format!("listing the ModelVersions of {namespace}"))?;
    let mut known = listed.items.into_iter().filter(|version| version.spec.model == model);
    let is_wanted = |version: &ModelVersion| {
        version.spec.version == wanted || version.metadata.name.as_deref() == Some(wanted)
    };
    let Some(version) = known.find(is_wanted) else {
        bail!(
            "{flag}: there is no ModelVersion of model {model} in {namespace} with version or name {wanted:?}"
        );
    };
    let digest = digest(hub, &version).context(flag.to_owned())?;
    Ok((version, digest))
}

/// The digest of a version's manifest.
pub(crate) fn digest(hub: &Connected, version: &ModelVersion) -> anyhow::Result<Digest> {
    let resolved = version.status.as_ref().and_then(|status| status.manifest_digest.as_deref());
    let Some(digest) = resolved.or(version.spec.manifest_digest.as_deref()) else {
        bail!("{} has no manifest digest yet: wait until it is Ready", label(hub, version));
    };
    digest.parse().with_context(|| format!("manifest digest of {}", label(hub, version)))
}

async fn find(hub: &Connected, version: &ModelVersion) -> anyhow::Result<Option<ModelVersion>> {
    let versions: Api<ModelVersion> = Api::namespaced(hub.client.clone(), hub.namespace());
    versions
        .get_opt(version.metadata.name.as_deref().unwrap_or_default())
        .await
        .map_err(failure::said)
        .with_context(|| format!("reading {}", label(hub, version)))
}

fn same(hub: &Connected, present: &ModelVersion, wanted: &ModelVersion) -> anyhow::Result<Creation> {
    let unpinned = ModelVersionSpec { withdrawn: present.spec.withdrawn, ..wanted.spec.clone() };
    if present.spec == unpinned {
        return Ok(Creation::Unchanged);
    }
    Err(anyhow!(
        "{} exists with another spec (digest {}), and a ModelVersion does not change: publish as another --version",
        label(hub, wanted),
        present.spec.manifest_digest.as_deref().unwrap_or("not pinned")
    ))
}

fn label(hub: &Connected, version: &ModelVersion) -> String {
    format!("ModelVersion {}/{}", hub.namespace(), version.metadata.name.as_deref().unwrap_or_default())
}
