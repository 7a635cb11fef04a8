//! Who gets in, and as whom: tokens, keys and certificates at the real hub, by spokes that try what an agent would not.

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use nave_crds::EdgeCluster;
use nave_proto::v1::{
    EnrollRequest, EntryReport, EntryReports, Report, UrlRequest, entry_report::Phase, hub_message,
    spoke_message::Message,
};
use nave_tests::{
    JoinInstructions, Progress, SYSTEM_NAMESPACE, Stack, eventually,
    fleet::{
        Authority, Credentials, api,
        wire::{self, Wire},
    },
    weights,
};
use rcgen::KeyPair;
use serde_json::json;
use tonic::{Code, Status};

use super::fleet_sessions::LIMIT;

/// Somebody who wants to join.
struct Applicant {
    hub: String,
    ca: String,
    key: KeyPair,
}

impl Applicant {
    async fn new(stack: &Stack) -> Result<Self> {
        let key = KeyPair::generate()?;
        let ca = api::authority(&stack.plane.client().await?).await?.issue("unused")?.ca;
        Ok(Self { hub: stack.hub.address(), ca, key })
    }

    /// Asks for a certificate; the accepted flag, or the hub's status.
    async fn join(&self, token: &str, cluster: &str) -> Result<bool, Status> {
        Ok(self.credentials(token, cluster).await?.0)
    }

    async fn credentials(&self, token: &str, cluster: &str) -> Result<(bool, Credentials), Status> {
        let request = EnrollRequest {
            token: token.into(),
            cluster: cluster.into(),
            certificate_request: wire::certificate_request(&self.key).unwrap(),
            agent_version: "test".into(),
            ..EnrollRequest::default()
        };
        let response = wire::enroll(&self.hub, &self.ca, request).await?;
        assert_eq!(response.cluster, cluster);
        let (certificate, key) = (response.certificate_chain, self.key.serialize_pem());
        Ok((response.accepted, Credentials { ca: response.ca_bundle, certificate, key }))
    }
}

async fn token(stack: &Stack, arguments: &[&str]) -> Result<String> {
    Ok(JoinInstructions::create(&stack.kubectl, &stack.hub.address(), arguments).await?.token)
}

async fn expire(stack: &Stack, token: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(stack.plane.client().await?, SYSTEM_NAMESPACE);
    let name = format!("nave-token-{}", token.split('.').next().unwrap());
    let patch = Patch::Merge(json!({"stringData": {"expiresAt": "2026-01-01T00:00:00Z"}}));
    secrets.patch(&name, &PatchParams::default(), &patch).await?;
    Ok(())
}

fn refusal(outcome: Result<bool, Status>) -> (Code, String) {
    let status = outcome.expect_err("it was let in");
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn e2e_fleet_a_token_lets_in_whom_it_is_for_and_as_often_as_it_says() -> Result<()> {
    let stack = Stack::start().await?;
    let anybody = Applicant::new(&stack).await?;

    let (code, said) = refusal(anybody.join(&format!("abcd1234.{}", "x".repeat(32)), "bridge-a12").await);
    assert!(code == Code::Unauthenticated && said.contains("unknown join token"), "{code} {said}");
    let (code, said) = refusal(anybody.join("not-a-token", "bridge-a12").await);
    assert!(code == Code::Unauthenticated && said.contains("malformed"), "{code} {said}");
    let (code, said) = refusal(anybody.join("", "bridge-a12").await);
    assert!(code == Code::Unauthenticated && said.contains("not known"), "{code} {said}");

    let late = token(&stack, &[]).await?;
    expire(&stack, &late).await?;
    let (code, said) = refusal(anybody.join(&late, "bridge-a12").await);
    assert!(code == Code::Unauthenticated && said.contains("expired"), "{code} {said}");

    let bound = token(&stack, &["--cluster", "bridge-b7"]).await?;
    let (code, said) = refusal(anybody.join(&bound, "bridge-a12").await);
    assert!(code == Code::PermissionDenied && said.contains("bridge-b7"), "{code} {said}");
    assert!(!anybody.join(&bound, "bridge-b7").await?, "nobody accepted it yet");

    // Two uses: whoever is first of many at once.
    let two = token(&stack, &["--uses", "2", "--auto-accept"]).await?;
    let mut crowd = Vec::new();
    for number in 0..6 {
        crowd.push((Applicant::new(&stack).await?, format!("crowd-{number}")));
    }
    let tries = crowd.iter().map(|(applicant, name)| applicant.join(&two, name));
    let tries = futures::future::join_all(tries).await;
    let admitted: Vec<_> = (0..6).filter(|n| tries[*n].is_ok()).collect();
    assert_eq!(admitted.len(), 2, "{tries:?}");
    assert!(tries.iter().flatten().all(|accepted| *accepted));
    for refused in tries.into_iter().filter(Result::is_err) {
        let (code, said) = refusal(refused);
        assert!(code == Code::Unauthenticated && said.contains("used up"), "{code} {said}");
    }

    // The own key gets in again without a token and without a use; another key does not, with or without one.
    let (owner, name) = &crowd[admitted[0]];
    assert!(owner.join("", name).await?, "rejoins by its key");
    assert!(owner.join(&two, name).await?, "and with the token that is used up");
    let more = token(&stack, &["--auto-accept"]).await?;
    let (code, said) = refusal(anybody.join(&more, name).await);
    assert!(code == Code::FailedPrecondition && said.contains("another key"), "{code} {said}");
    let (code, said) = refusal(anybody.join("", name).await);
    assert!(
        code == Code::Unauthenticated && said.contains("another") | said.contains("not the one"),
        "{said}"
    );
    assert!(anybody.join(&more, "fresh").await?, "those refusals took no use");

    stack.kubectl.run(&["nave", "revoke", name]).await?;
    let (code, said) = refusal(owner.join("", name).await);
    assert!(code == Code::PermissionDenied && said.contains("revoked"), "{code} {said}");
    let again = token(&stack, &["--auto-accept"]).await?;
    let (code, _) = refusal(owner.join(&again, name).await);
    assert_eq!(code, Code::PermissionDenied);
    Ok(())
}

#[tokio::test]
async fn e2e_fleet_a_certificate_is_good_for_its_own_cluster_only() -> Result<()> {
    let mut stack = Stack::start().await?;
    let client = stack.plane.client().await?;
    let clusters: Api<EdgeCluster> = Api::all(client.clone());
    api::create_clusters(&client, &["a".into()], &[("site", "a")]).await?;
    api::create_clusters(&client, &["b".into()], &[("site", "b")]).await?;
    let authority = api::authority(&client).await?;
    let hub = stack.hub.address();

    // A foreign CA's certificate does not get as far as the services.
    let foreign_key = KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Nave CA");
    let foreign =
        Authority::new(&params.self_signed(&foreign_key)?.pem(), &foreign_key.serialize_pem())?.issue("a")?;
    let own = authority.issue("a")?;
    let foreign = Credentials { ca: own.ca.clone(), ..foreign };
    assert!(Wire::open(&hub, &foreign, wire::hello()).await.is_err(), "a foreign certificate");
    eventually("the hub to note the handshake", LIMIT, || {
        let log = stack.hub.daemon().log();
        async move { Ok(Progress::when(log.contains("TLS handshake failed"), (), log)) }
    })
    .await?;
    let none =
        Wire::open(&hub, &Credentials { certificate: String::new(), ..own.clone() }, wire::hello()).await;
    assert!(none.is_err(), "no certificate at all");

    // B is to serve a model; A asks for its weights and says that it serves them.
    let folder = stack.folder().join("model");
    weights::write_random(&folder.join("weights.bin"), 10_000, 1)?;
    let digest = stack.publish(&folder, "ripeness", "1.0").await?;
    stack.place("ripeness", "ripeness", "1.0", &[("site", "b")]).await?;
    let mut b = Wire::open(&hub, &authority.issue("b")?, wire::hello()).await?;
    let desired = b.desired().await?;
    assert_eq!(desired.entries[0].manifest_digest, digest);
    let mut a = Wire::open(&hub, &own, wire::hello()).await?;
    let request = UrlRequest {
        request_id: 7,
        namespace: "default".into(),
        model: "ripeness".into(),
        version: "1.0".into(),
        manifest_digest: digest.clone(),
        paths: vec!["weights.bin".into(), "manifest.json".into()],
    };
    let urls =
        |message| if let hub_message::Message::UrlResponse(urls) = message { Some(urls) } else { None };
    a.say(Message::UrlRequest(request.clone())).await?;
    let answer = a.wait_for("an answer", urls).await?;
    assert_eq!((answer.request_id, answer.error_reason.as_str(), answer.urls.len()), (7, "NotAssigned", 0));
    b.say(Message::UrlRequest(request.clone())).await?;
    let answer = b.wait_for("an answer", urls).await?;
    assert_eq!((answer.error.as_str(), answer.urls.len()), ("", 2));
    let body = reqwest::get(&answer.urls[0].url).await?.error_for_status()?.bytes().await?;
    assert_eq!(body.len(), 10_000, "its own weights it gets");
    b.say(Message::UrlRequest(UrlRequest { paths: vec!["../other/weights.bin".into()], ..request })).await?;
    let answer = b.wait_for("an answer", urls).await?;
    assert_eq!((answer.error_reason.as_str(), answer.urls.len()), ("Malformed", 0));

    let row = EntryReport {
        namespace: "default".into(),
        model: "ripeness".into(),
        version: "1.0".into(),
        phase: Phase::Serving.into(),
        digest,
        ..EntryReport::default()
    };
    let entries = EntryReports { rows: vec![row], generation: desired.generation };
    let facts = nave_proto::v1::Facts { values: [("said-by".to_owned(), "a".to_owned())].into() };
    a.say(Message::Report(Report { entries: Some(entries), facts: Some(facts), ..Report::default() }))
        .await?;
    eventually("A's report under A", LIMIT, || async {
        let facts = clusters.get("a").await?.status.unwrap_or_default().facts;
        Ok(Progress::when(facts.contains_key("said-by"), (), format!("{facts:?}")))
    })
    .await?;
    let of_b = clusters.get("b").await?.status.unwrap_or_default();
    assert!(!of_b.facts.contains_key("said-by") && of_b.models.unwrap_or_default().serving == 0, "{of_b:?}");
    assert!(stack.reported("b", "ripeness").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn e2e_fleet_a_certificate_is_renewed_on_the_open_stream() -> Result<()> {
    let stack = Stack::start().await?;
    let client = stack.plane.client().await?;
    let applicant = Applicant::new(&stack).await?;
    let join = token(&stack, &["--auto-accept"]).await?;
    let (accepted, credentials) = applicant.credentials(&join, "bridge-a12").await?;
    assert!(accepted);
    let mut session = Wire::open(&stack.hub.address(), &credentials, wire::hello()).await?;

    let renewed = |message| {
        if let hub_message::Message::CertificateResponse(response) = message { Some(response) } else { None }
    };
    let ask = |request_id, key: &KeyPair| -> Result<Message> {
        let certificate_request = wire::certificate_request(key)?;
        Ok(Message::CertificateRequest(nave_proto::v1::CertificateRequest {
            request_id,
            certificate_request,
        }))
    };
    session.say(ask(1, &KeyPair::generate()?)?).await?;
    let answer = session.wait_for("an answer", renewed).await?;
    assert!(answer.request_id == 1 && answer.error.contains("own key"), "{answer:?}");
    session.say(ask(2, &applicant.key)?).await?;
    let answer = session.wait_for("an answer", renewed).await?;
    assert!(answer.request_id == 2 && answer.error.is_empty(), "{answer:?}");
    assert_ne!(answer.certificate_chain, credentials.certificate);
    let fresh = Credentials { certificate: answer.certificate_chain, ca: answer.ca_bundle, ..credentials };

    // The stream lives on, and the new certificate opens the next one.
    session.say(ask(3, &applicant.key)?).await?;
    session.wait_for("an answer", renewed).await?;
    let _next = Wire::open(&stack.hub.address(), &fresh, wire::hello()).await?;
    let clusters: Api<EdgeCluster> = Api::all(client);
    eventually("the certificate's end to be shown", LIMIT, || async {
        let status = clusters.get("bridge-a12").await?.status.unwrap_or_default();
        Ok(Progress::when(status.certificate_not_after.is_some(), (), format!("{status:?}")))
    })
    .await
}
