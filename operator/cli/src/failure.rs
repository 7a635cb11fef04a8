//! What a server refused, in its own sentence.

/// The API server's message alone; other failures as they are.
pub(crate) fn said(error: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(status) = error {
        return anyhow::Error::msg(status.message);
    }
    anyhow::Error::new(error).context("the API server could not be asked: check the kubeconfig")
}

/// Whether the API server knows no such object.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

/// The S3 server's code and message alone; of other failures the innermost cause, which says it best: object_store
/// repeats each cause in every message around it.
pub(crate) fn stored(error: &object_store::Error) -> anyhow::Error {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let whole = error.to_string();
    match (element(&whole, "Code"), element(&whole, "Message")) {
        (Some(code), Some(message)) => anyhow::anyhow!("{code}: {message}"),
        (Some(code), None) => anyhow::anyhow!("{code}"),
        (None, _) => anyhow::anyhow!("{innermost}"),
    }
}

/// Whether S3 knows no such bucket.
pub(crate) fn is_no_such_bucket(error: &object_store::Error) -> bool {
    element(&error.to_string(), "Code") == Some("NoSuchBucket")
}

/// The text of the first such element of S3's XML.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_speaks_for_itself() {
        let body = "404 Not Found: <Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
        let error = object_store::Error::Generic { store: "S3", source: body.into() };
        assert_eq!(stored(&error).to_string(), "NoSuchBucket: The specified bucket does not exist");
        let error = object_store::Error::Generic { store: "S3", source: "connection refused".into() };
        assert_eq!(stored(&error).to_string(), "connection refused");
    }
}
