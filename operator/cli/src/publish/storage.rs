//! The S3 server of a publication: address from flags, keys from the environment or from the Secret that the hub uses.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use nave_crds::{S3Source, SecretReference};
use object_store::{BackoffConfig, ObjectStore, RetryConfig, aws::AmazonS3Builder};

use crate::{connection::Connected, failure};

/// A wrong address should not hold the user for minutes.
const RETRY: Duration = Duration::from_secs(30);

/// Where the weights go.
#[derive(Debug, Args)]
pub(super) struct Storage {
    /// Bucket, of 3 characters or more
    #[arg(long)]
    pub(super) bucket: String,
    /// Key prefix; otherwise MODEL/VERSION/
    #[arg(long)]
    pub(super) prefix: Option<String>,
    /// http:// or https:// address of the S3 server; otherwise AWS
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    pub(super) endpoint: Option<String>,
    /// Region
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub(super) region: String,
    /// Secret in the ModelVersion's namespace (accessKeyId, secretAccessKey, sessionToken) by which the hub reads the
    /// weights; this upload uses it too unless AWS_ACCESS_KEY_ID is set
    #[arg(long, value_name = "NAME")]
    pub(super) credentials_secret: Option<String>,
}

struct Keys {
    id: String,
    secret: String,
    session: Option<String>,
}

impl Storage {
    /// What the ModelVersion says of it.
    pub(super) fn source(&self, prefix: &str) -> S3Source {
        S3Source {
            bucket: self.bucket.clone(),
            prefix: prefix.to_owned(),
            endpoint: self.endpoint.clone(),
            region: Some(self.region.clone()),
            credentials_secret: self.credentials_secret.clone().map(|name| SecretReference { name }),
        }
    }

    /// A client of the bucket.
    pub(super) async fn open(&self, hub: Option<&Connected>) -> anyhow::Result<Arc<dyn ObjectStore>> {
        open(&self.source(""), hub).await
    }
}

/// A client of the bucket that a ModelVersion names.
pub(crate) async fn open(source: &S3Source, hub: Option<&Connected>) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let S3Source { bucket, endpoint, region, credentials_secret, .. } = source;
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 5, retry_timeout: RETRY };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_region(region.as_deref().unwrap_or("us-east-1"))
        .with_retry(retry);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if !environment_has_keys() {
        let keys = Keys::read(credentials_secret.as_ref(), hub).await?;
        builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
        if let Some(session) = keys.session {
            builder = builder.with_token(session);
        }
    }
    let store = builder.build().with_context(|| format!("preparing a client of bucket {bucket}"))?;
    Ok(Arc::new(store))
}

impl Keys {
    async fn read(secret: Option<&SecretReference>, hub: Option<&Connected>) -> anyhow::Result<Self> {
        let (Some(SecretReference { name }), Some(hub)) = (secret, hub) else {
            bail!(
                "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a Secret with \
                 --credentials-secret"
            );
        };
        let namespace = hub.namespace();
        let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
        let secret = secrets.get(name).await.map_err(failure::said).with_context(|| {
            format!("reading the S3 credentials from Secret {namespace}/{name} (--namespace names another)")
        })?;
        let text = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key))?;
            String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
        };
        let needed = |key: &str| text(key).ok_or_else(|| anyhow!("Secret {namespace}/{name} has no {key}"));
        Ok(Keys {
            id: needed("accessKeyId")?,
            secret: needed("secretAccessKey")?,
            session: text("sessionToken"),
        })
    }
}

/// Any of the ways in which AWS's own tools find keys without asking the machine's metadata server.
fn environment_has_keys() -> bool {
    ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
