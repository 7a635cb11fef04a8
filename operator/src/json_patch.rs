//! Writes to the API server as JSON patches (RFC 6902) with a `test` of what the writer believes to be there. That is
//! cheaper than server-side apply, cannot clobber what another wrote, and, unlike a resourceVersion, does not collide
//! with writes to the other half of the object. Used by `planner` and `leader::sweep`.

use kube::{Client, Resource};
use serde::{Serialize, de::DeserializeOwned};

/// One operation.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// The patch fails unless this is there.
    Test {
        /// JSON pointer.
        path: &'static str,
        /// What has to be there.
        value: serde_json::Value,
    },
    /// Sets, or replaces.
    Add {
        /// JSON pointer.
        path: &'static str,
        /// What to set.
        value: serde_json::Value,
    },
}

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status subresource.
    Status,
}

/// What became of a write.
#[derive(Debug)]
pub enum Written<K> {
    /// Stored; the object as it is now.
    Stored(Box<K>),
    /// Another wrote it since it was read, a test failed, or the object was refused; with the API server's words.
    Conflict(String),
    /// It does not exist any more.
    Gone,
    /// Refused or not answered.
    Failed(kube::Error),
    /// It was not sent, or no answer was waited for.
    NotSent,
}

impl<K> From<Result<K, kube::Error>> for Written<K> {
    fn from(answer: Result<K, kube::Error>) -> Self {
        match answer {
            Ok(object) => Self::Stored(Box::new(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Self::Gone,
            // 422 is what a failed `test` is answered with.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                Self::Conflict(status.message)
            }
            Err(error) => Self::Failed(error),
        }
    }
}

/// Where a patch goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Nothing for kinds without namespaces.
    pub namespace: Option<&'a str>,
    /// The object's name.
    pub name: &'a str,
    /// Which part of it.
    pub part: Part,
    /// Who owns what is written.
    pub field_manager: &'static str,
}

/// Sends the patch.
pub async fn send<K>(client: &Client, target: Target<'_>, operations: &[Operation]) -> Written<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    match request::<K>(target, operations) {
        Ok(request) => client.request::<K>(request).await.into(),
        Err(error) => Written::Failed(error),
    }
}

fn request<K>(target: Target<'_>, operations: &[Operation]) -> Result<http::Request<Vec<u8>>, kube::Error>
where
    K: Resource<DynamicType = ()>,
{
    let Target { namespace, name, part, field_manager } = target;
    let below = match part {
        Part::Main => "",
        Part::Status => "/status",
    };
    let url = format!("{}/{name}{below}?fieldManager={field_manager}", K::url_path(&(), namespace));
    let body = serde_json::to_vec(operations).map_err(kube::Error::SerdeError)?;
    http::Request::patch(url)
        .header(http::header::CONTENT_TYPE, "application/json-patch+json")
        .header(http::header::ACCEPT, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)
}

#[cfg(test)]
mod tests {
    use nave_crds::{ClusterAssignment, PlacementPolicy};

    use super::*;

    #[test]
    fn a_patch_goes_to_the_part_it_is_about() {
        let target = |namespace, part| Target { namespace, name: "x", part, field_manager: "nave-planner" };
        let test = Operation::Test { path: "/metadata/generation", value: 3.into() };
        let main = request::<ClusterAssignment>(target(None, Part::Main), &[test]).unwrap();
        assert_eq!(
            main.uri().to_string(),
            "/apis/nave.dev/v1alpha1/clusterassignments/x?fieldManager=nave-planner"
        );
        let body = std::str::from_utf8(main.body()).unwrap();
        assert_eq!(body, r#"[{"op":"test","path":"/metadata/generation","value":3}]"#);
        let status = request::<PlacementPolicy>(target(Some("vision"), Part::Status), &[]).unwrap();
        assert_eq!(
            status.uri().path(),
            "/apis/nave.dev/v1alpha1/namespaces/vision/placementpolicies/x/status"
        );
    }
}
