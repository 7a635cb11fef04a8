//! S3 with one's own keys: reads the environment as other tools do, and presigns URLs for the pull engine.

use std::{ffi::OsString, fs, path::Path, str::FromStr, sync::Arc, time::Duration};

use futures::{TryStreamExt as _, future::BoxFuture};
use http::Method;
use nave_manifest::{MANIFEST_FILE, is_reserved};
use nave_names::RelativePath;
use object_store::{
    Certificate, ClientOptions, ObjectStore as _, ObjectStoreExt as _, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential},
    signer::Signer as _,
};

use nave_runtime::error_text::chain;

use super::exit::{Exit, Failure};
use crate::pull::{Listed, PullError, SignedUrl, UrlError, UrlSource};

/// How long a URL is good for: far longer than a range takes, and short enough that a leaked one is of little use.
const URL_LIFE: Duration = Duration::from_secs(15 * 60);

/// `s3://BUCKET/PREFIX`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Prefix {
    bucket: String,
    prefix: String,
}

impl FromStr for S3Prefix {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is not s3://BUCKET/PREFIX");
        let (bucket, prefix) =
            text.strip_prefix("s3://").ok_or_else(expected)?.split_once('/').ok_or_else(expected)?;
        let prefix = prefix.trim_end_matches('/');
        if bucket.is_empty() || RelativePath::new(prefix).is_err() {
            return Err(expected());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl S3Prefix {
    /// A client for the bucket, from the environment.
    pub(super) fn open(&self, ca_file: Option<&Path>, patience: Duration) -> Result<S3Source, Failure> {
        let fail = |message: String| Failure::new(Exit::Failed, "S3Setup", message);
        let mut options = ClientOptions::new();
        if let Some(path) = ca_file {
            let pem = fs::read(path).map_err(|error| fail(format!("CA file {}: {error}", path.display())))?;
            let bundle = Certificate::from_pem_bundle(&pem);
            for certificate in
                bundle.map_err(|error| fail(format!("CA file {}: {}", path.display(), chain(&error))))?
            {
                options = options.with_root_certificate(certificate);
            }
        }
        let (mut builder, mut anonymous, mut plain) = (AmazonS3Builder::new(), true, false);
        for (name, value) in settings() {
            anonymous &= !KEYS.contains(&name.as_str());
            plain |= name.starts_with("AWS_ENDPOINT") && value.starts_with("http://");
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let retry = RetryConfig { retry_timeout: patience, ..RetryConfig::default() };
        builder = builder
            .with_client_options(options.with_allow_http(plain))
            .with_bucket_name(&self.bucket)
            .with_retry(retry);
        let lister = builder.clone().with_skip_signature(anonymous);
        if anonymous {
            // The signer wants a key; what it signs with this one is cut off.
            let (key_id, secret_key) = ("anonymous".to_owned(), String::new());
            let nobody = AwsCredential { key_id, secret_key, token: None };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        }
        let build = |builder: AmazonS3Builder| builder.build().map_err(|error| fail(chain(&error)));
        let (s3, lister) = (build(builder)?, build(lister)?);
        Ok(S3Source { s3, lister, bucket: self.bucket.clone(), prefix: self.prefix.clone(), anonymous })
    }
}

/// Any of these means that there are keys.
const KEYS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// The AWS_* variables that have a value: an empty one counts as absent, as for other tools.
fn settings() -> impl Iterator<Item = (String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
}

/// Presigns with one's own keys, and lists.
#[derive(Clone, Debug)]
pub(super) struct S3Source {
    s3: AmazonS3,
    lister: AmazonS3,
    bucket: String,
    prefix: String,
    /// There are no keys: URLs go unsigned.
    anonymous: bool,
}

impl S3Source {
    fn key(&self, path: &str) -> Result<object_store::path::Path, object_store::path::Error> {
        let folder = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        object_store::path::Path::parse(format!("{folder}{path}"))
    }

    /// What there is without a manifest: the objects below the prefix, or the one object that the prefix is the key of;
    /// and the source of their URLs.
    pub(super) async fn list(&self) -> Result<(Self, Vec<Listed>), Failure> {
        let Self { bucket, prefix, .. } = self;
        let refuse = |reason, message| Failure::new(Exit::Refused, reason, message);
        let key = object_store::path::Path::parse(prefix);
        let key = key.map_err(|error| refuse("BadName", format!("s3://{bucket}/{prefix}: {error}")))?;
        let found: Vec<_> =
            self.lister.list(Some(&key)).try_collect().await.map_err(|error| self.cannot_list(&error))?;
        let mut listed = Vec::new();
        for object in &found {
            // A key that ends in a slash is a folder to some tools, and nothing to pull.
            let Some(rest) = object.location.prefix_match(&key) else { continue };
            let path: Vec<_> = rest.map(|part| part.as_ref().to_owned()).collect();
            if path.is_empty() {
                continue;
            }
            let path = RelativePath::new(path.join("/"));
            let path =
                path.map_err(|error| refuse("BadName", format!("object {}: {error}", object.location)))?;
            if !is_reserved(&path) {
                listed.push(Listed { path, size: object.size, e_tag: object.e_tag.clone() });
            }
        }
        if !listed.is_empty() {
            return Ok((self.clone(), listed));
        }
        let nothing = || {
            let message = format!(
                "there is no {MANIFEST_FILE} under s3://{bucket}/{prefix}, no object below it, and no object of that name"
            );
            refuse("NothingThere", message)
        };
        let object = match self.lister.head(&key).await {
            Err(object_store::Error::NotFound { .. }) => return Err(nothing()),
            found => found.map_err(|error| self.cannot_list(&error))?,
        };
        let (folder, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let path =
            RelativePath::new(name).map_err(|error| refuse("BadName", format!("object {key}: {error}")))?;
        let source = Self { prefix: folder.to_owned(), ..self.clone() };
        Ok((source, vec![Listed { path, size: object.size, e_tag: object.e_tag }]))
    }

    fn cannot_list(&self, error: &object_store::Error) -> Failure {
        let message = format!("cannot list s3://{}/{}: {}", self.bucket, self.prefix, chain(error));
        let denied = matches!(
            error,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
        );
        if !denied {
            return Failure::new(Exit::Unavailable, "SourceUnavailable", message);
        }
        let hint =
            "without a manifest.json the objects have to be listed, which takes the right to (s3:ListBucket)";
        Failure::new(Exit::Denied, "AccessDenied", message).with_hint(hint)
    }

    /// Why a pull failed, in the words of someone who typed an address and has keys.
    pub(super) fn explain(&self, error: PullError) -> Failure {
        let Self { bucket, prefix, .. } = self;
        let hint = match &error {
            PullError::Missing { message, .. } if message.starts_with("NoSuchBucket") => {
                let message = format!("there is no bucket {bucket}: {message}");
                return Failure::new(Exit::Denied, "NoSuchBucket", message);
            }
            PullError::Missing { object, message, .. } if object == MANIFEST_FILE => {
                let message = format!(
                    "there is no {MANIFEST_FILE} under s3://{bucket}/{prefix}, and so no version with the digest that was asked \
                     for; `kubectl nave publish` writes one, and so does the hub for a ModelVersion of this prefix ({message})"
                );
                return Failure::new(Exit::Refused, "NoManifest", message);
            }
            PullError::AccessDenied { .. } if self.anonymous => {
                "AWS_ACCESS_KEY_ID is not set, so S3 was asked without a key"
            }
            PullError::AccessDenied { message, .. } if message.starts_with("InvalidAccessKeyId") => {
                "S3 does not know the key in AWS_ACCESS_KEY_ID"
            }
            PullError::AccessDenied { message, .. } if message.starts_with("SignatureDoesNotMatch") => {
                "AWS_SECRET_ACCESS_KEY is not the one of AWS_ACCESS_KEY_ID, or AWS_REGION is not the bucket's"
            }
            PullError::SourceUnavailable { .. } => {
                "AWS_ENDPOINT_URL and AWS_REGION say where S3 is looked for"
            }
            PullError::Untrusted { .. } => "--ca-file or AWS_CA_BUNDLE does that",
            PullError::AccessDenied { .. }
            | PullError::Missing { .. }
            | PullError::Cancelled
            | PullError::UrlsRefused { .. }
            | PullError::VersionBroken { .. }
            | PullError::DigestMismatch { .. }
            | PullError::FileDigestMismatch { .. }
            | PullError::ManifestMismatch { .. }
            | PullError::ManifestRefused { .. }
            | PullError::SignatureMissing { .. }
            | PullError::SignatureRefused(_)
            | PullError::Store(_)
            | PullError::Client(_) => return error.into(),
        };
        Failure::from(error).with_hint(hint)
    }
}

impl UrlSource for S3Source {
    fn urls<'a>(&'a self, paths: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>> {
        Box::pin(async move {
            let refused = |message: String| UrlError::Refused { reason: "CannotSign".to_owned(), message };
            let keys = paths.iter().map(|path| self.key(path.as_str())).collect::<Result<Vec<_>, _>>();
            let keys = keys.map_err(|error| refused(error.to_string()))?;
            let urls = self.s3.signed_urls(Method::GET, &keys, URL_LIFE).await;
            let mut urls = urls.map_err(|error| refused(chain(&error)))?;
            if self.anonymous {
                urls.iter_mut().for_each(|url| url.set_query(None));
            }
            let signed =
                |(path, url): (&RelativePath, _)| SignedUrl { path: path.clone(), url, valid_for: URL_LIFE };
            Ok(paths.iter().zip(urls).map(signed).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_or_refused() {
        let good: S3Prefix = "s3://models/vit/1.0/".parse().unwrap();
        assert_eq!((good.bucket.as_str(), good.prefix.as_str()), ("models", "vit/1.0"));
        for bad in
            ["models/vit", "s3://models", "s3://models/", "s3:///vit", "s3://models/../x", "http://a/b"]
        {
            assert!(bad.parse::<S3Prefix>().is_err(), "{bad}");
        }
    }
}
