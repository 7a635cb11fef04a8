//! S3 with one's own keys: reads the environment as other tools do, and presigns URLs for the pull engine.

use std::{fs, path::Path, str::FromStr, time::Duration};

use futures::{StreamExt as _, future::BoxFuture};
use http::Method;
use nave_manifest::{MANIFEST_FILE, MAX_MANIFEST_BYTES};
use nave_names::{Digest, RelativePath};
use object_store::{
    Certificate, ClientOptions, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    signer::Signer as _,
};

use nave_runtime::error_text::chain;

use super::exit::{Exit, Failure};
use crate::pull::{SignedUrl, UrlError, UrlSource};

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
    pub(super) fn open(&self, ca_file: Option<&Path>) -> Result<S3Source, Failure> {
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
        let plain = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .is_some_and(|endpoint| endpoint.starts_with("http://"));
        let s3 = AmazonS3Builder::from_env()
            .with_client_options(options.with_allow_http(plain))
            .with_bucket_name(&self.bucket)
            .build()
            .map_err(|error| fail(chain(&error)))?;
        Ok(S3Source { s3, prefix: self.prefix.clone() })
    }
}

/// Presigns with one's own keys.
#[derive(Debug)]
pub(super) struct S3Source {
    s3: AmazonS3,
    prefix: String,
}

impl S3Source {
    fn key(&self, path: &str) -> Result<object_store::path::Path, object_store::path::Error> {
        object_store::path::Path::parse(format!("{}/{path}", self.prefix))
    }

    /// The digest of the manifest that lies there now.
    pub(super) async fn manifest_digest(&self) -> Result<Digest, Failure> {
        let key = self
            .key(MANIFEST_FILE)
            .map_err(|error| Failure::new(Exit::Failed, "BadPrefix", error.to_string()))?;
        let answer = self.s3.get(&key).await.map_err(|error| self.explain(&error))?;
        if answer.meta.size > MAX_MANIFEST_BYTES as u64 {
            let message = format!("{key} has {} bytes, too many for a manifest", answer.meta.size);
            return Err(Failure::new(Exit::Refused, "TooLarge", message));
        }
        let mut bytes = Vec::new();
        let mut body = answer.into_stream();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(|error| self.explain(&error))?);
        }
        Ok(Digest::of(&bytes))
    }

    fn explain(&self, error: &object_store::Error) -> Failure {
        use object_store::Error;
        let message = chain(error);
        if matches!(error, Error::NotFound { .. }) {
            let message = format!(
                "there is no {MANIFEST_FILE} under {}; `kubectl nave publish` writes one, and so does the hub for a \
                 ModelVersion of this prefix: {message}",
                self.prefix
            );
            return Failure::new(Exit::Refused, "NoManifest", message);
        }
        if matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) {
            return Failure::new(Exit::Denied, "AccessDenied", message);
        }
        Failure::new(Exit::Unavailable, "SourceUnavailable", message)
    }
}

impl UrlSource for S3Source {
    fn urls<'a>(&'a self, paths: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>> {
        Box::pin(async move {
            let refused = |message: String| UrlError::Refused { reason: "CannotSign".to_owned(), message };
            let keys = paths.iter().map(|path| self.key(path.as_str())).collect::<Result<Vec<_>, _>>();
            let keys = keys.map_err(|error| refused(error.to_string()))?;
            let urls = self.s3.signed_urls(Method::GET, &keys, URL_LIFE).await;
            let urls = urls.map_err(|error| refused(chain(&error)))?;
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
