//! What the API server refused, in its own sentence.

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
