//! A ModelVersion's place in S3 as an object store: the Secret read, the client built, and S3's errors put into words
//! that stay the same from one attempt to the next (S3 puts a request id into each, and a status must not change for
//! that).

use std::{error::Error as _, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use nave_crds::S3Source;
use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
    client::{HttpError, HttpErrorKind},
};

const ACCESS_KEY_ID: &str = "accessKeyId";
const SECRET_ACCESS_KEY: &str = "secretAccessKey";
const SESSION_TOKEN: &str = "sessionToken";
/// What AWS calls its first region; S3 servers of other makes take any.
const DEFAULT_REGION: &str = "us-east-1";

/// Why a place in S3 cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The Secret, or a key in it, is not there.
    #[error("Secret {namespace}/{name} with the S3 credentials {problem}")]
    CredentialsMissing {
        /// Namespace of the ModelVersion, and so of the Secret.
        namespace: String,
        /// The Secret.
        name: String,
        /// What is the matter with it.
        problem: String,
    },
    /// The API server does not give the Secret out.
    #[error("cannot read Secret {namespace}/{name}{hint}")]
    SecretUnreadable {
        /// Namespace of the Secret.
        namespace: String,
        /// The Secret.
        name: String,
        /// What to look at.
        hint: &'static str,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// No client can be made of the spec.
    #[error("the S3 source is not usable: {0}")]
    Invalid(String),
    /// S3 refused, or did not answer.
    #[error("cannot {action} {place}: {detail}")]
    S3 {
        /// What was attempted.
        action: &'static str,
        /// `s3://bucket/key`.
        place: String,
        /// S3's own code, such as `NoSuchBucket`, or `Unreachable`, `Timeout`, `ServerError`.
        code: String,
        /// The code with what S3 says to it.
        detail: String,
    },
}

impl SourceError {
    /// One CamelCase word, for conditions.
    pub fn reason(&self) -> &str {
        match self {
            Self::CredentialsMissing { .. } => "CredentialsMissing",
            Self::SecretUnreadable { .. } => "SecretUnreadable",
            Self::Invalid(_) => "SourceInvalid",
            Self::S3 { code, .. } => code,
        }
    }

    /// Whether time alone is likely to mend it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::CredentialsMissing { .. } | Self::Invalid(_) => false,
            Self::SecretUnreadable { source, .. } => {
                !matches!(&**source, kube::Error::Api(s) if s.code == 403)
            }
            Self::S3 { code, .. } => {
                matches!(&**code, "Unreachable" | "Timeout" | "ServerError" | "SlowDown" | "InternalError")
            }
        }
    }

    /// What S3's answer to `action` on `place` means.
    pub fn from_s3(action: &'static str, place: String, error: &object_store::Error) -> Self {
        let (code, detail) = explain(error);
        Self::S3 { action, place, code, detail }
    }
}

/// The client for a source, with the credentials that its Secret has now.
///
/// # Errors
/// [`SourceError`]; S3 itself is not asked yet.
pub async fn open(client: &Client, namespace: &str, source: &S3Source) -> Result<AmazonS3, SourceError> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&source.bucket)
        .with_region(source.region.as_deref().unwrap_or(DEFAULT_REGION))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry())
        .with_client_options(client_options());
    if let Some(endpoint) = &source.endpoint {
        // The scheme is the user's decision, and visible in the spec.
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    builder = match &source.credentials_secret {
        None => builder.with_skip_signature(true),
        Some(reference) => {
            let credentials = fetch_credentials(client, namespace, &reference.name).await?;
            let signed = builder
                .with_access_key_id(credentials.access_key_id)
                .with_secret_access_key(credentials.secret_access_key);
            match credentials.session_token {
                Some(token) => signed.with_token(token),
                None => signed,
            }
        }
    };
    builder.build().map_err(|error| SourceError::Invalid(error.to_string()))
}

struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

async fn fetch_credentials(client: &Client, namespace: &str, name: &str) -> Result<Credentials, SourceError> {
    let missing = |problem: String| SourceError::CredentialsMissing {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        problem,
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = match api.get_opt(name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return Err(missing("does not exist".to_owned())),
        Err(source) => {
            let forbidden = matches!(&source, kube::Error::Api(status) if status.code == 403);
            let hint = if forbidden { "; may the ServiceAccount get Secrets in this namespace?" } else { "" };
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            return Err(SourceError::SecretUnreadable { namespace, name, hint, source: Box::new(source) });
        }
    };
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        let value = data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).map(str::trim);
        value.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let required = |key: &str| text(key).ok_or_else(|| missing(format!("has no key {key}")));
    Ok(Credentials {
        access_key_id: required(ACCESS_KEY_ID)?,
        secret_access_key: required(SECRET_ACCESS_KEY)?,
        session_token: text(SESSION_TOKEN),
    })
}

fn retry() -> RetryConfig {
    // Few and quick: the resolver tries again by itself, and says meanwhile what is the matter.
    RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(200), ..BackoffConfig::default() },
        max_retries: 2,
        retry_timeout: Duration::from_secs(10),
    }
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        // No limit for a whole object, which may be tens of gigabytes; one for the silence between two pieces.
        .with_timeout_disabled()
        .with_read_timeout(Duration::from_secs(30))
}

/// S3's code and a sentence, without what differs from attempt to attempt.
#[allow(clippy::wildcard_enum_match_arm)] // Not our enum: it may grow.
fn explain(error: &object_store::Error) -> (String, String) {
    let text = whole_text(error);
    if let Some(code) = between(&text, "<Code>", "</Code>").filter(|code| is_reason(code)) {
        let message = between(&text, "<Message>", "</Message>").unwrap_or_default().trim();
        return (
            code.to_owned(),
            if message.is_empty() { code.to_owned() } else { format!("{code}: {message}") },
        );
    }
    if let Some(kind) = http_error(error) {
        return match kind {
            HttpErrorKind::Connect => word("Unreachable", "no connection to the S3 endpoint"),
            HttpErrorKind::Timeout | HttpErrorKind::Interrupted => {
                word("Timeout", "the S3 endpoint stopped answering")
            }
            _ => word("Unreachable", "the S3 endpoint does not answer as an S3 server does"),
        };
    }
    match error {
        object_store::Error::NotFound { .. } => word("NotFound", "S3 says that it does not exist"),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            word("AccessDenied", "S3 refused the credentials")
        }
        _ if text.contains("status code: 5") => word("ServerError", "the S3 server failed"),
        _ => word("S3Error", "S3 gave an answer that is not understood"),
    }
}

fn word(code: &str, detail: &str) -> (String, String) {
    (code.to_owned(), detail.to_owned())
}

fn whole_text(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn http_error(error: &object_store::Error) -> Option<HttpErrorKind> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(http) = inner.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        cause = inner.source();
    }
    None
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}

/// What Kubernetes takes as a condition's reason.
fn is_reason(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3_says(body: &str) -> object_store::Error {
        object_store::Error::NotFound { path: "m/1".into(), source: body.to_owned().into() }
    }

    #[test]
    fn s3s_own_code_and_message_are_kept_and_its_request_id_is_not() {
        let body = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message>\
                    <RequestId>4442587FB7D0A2F9</RequestId></Error>";
        let error = SourceError::from_s3("list", "s3://weights/m/1".into(), &s3_says(body));
        assert_eq!(error.reason(), "NoSuchBucket");
        assert_eq!(
            error.to_string(),
            "cannot list s3://weights/m/1: NoSuchBucket: The specified bucket does not exist"
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn an_answer_that_is_not_s3s_still_has_a_reason() {
        let error =
            SourceError::from_s3("list", "s3://weights/m/1".into(), &s3_says("<html>not here</html>"));
        assert_eq!(error.reason(), "NotFound");
        let odd = "<Code>no such thing!</Code>";
        assert_eq!(SourceError::from_s3("list", String::new(), &s3_says(odd)).reason(), "NotFound");
    }
}
