//! A hub of one file: joins spokes, tells them what the test says, and remembers everything that they said.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::Stream;
use nave_agent::identity::CaHash;
use nave_proto::v1::{
    self,
    enrollment_server::{Enrollment, EnrollmentServer},
    hub_message::Message as ToSpoke,
    session_server::{Session, SessionServer},
    spoke_message::Message as FromSpoke,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair,
};
use rustls::pki_types::CertificateSigningRequestDer;
use tokio::sync::{Notify, mpsc};
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

pub const TOKEN: &str = "abcdefgh.a-secret-of-32-characters-at-least";

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub hash: CaHash,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let hash = CaHash::of(certificate.der()).unwrap();
        Self { pem: certificate.pem(), hash, issuer: Issuer::new(params, key) }
    }

    fn server(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(format!("{}{}", leaf.pem(), self.pem), key.serialize_pem())
    }

    fn sign(&self, request: &[u8], cluster: &str, life: Duration) -> String {
        let der = CertificateSigningRequestDer::from(request.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&der).unwrap();
        let now = std::time::SystemTime::now();
        request.params.not_before = now.into();
        request.params.not_after = (now + life).into();
        request.params.distinguished_name = rcgen::DistinguishedName::new();
        request.params.distinguished_name.push(DnType::CommonName, cluster);
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

#[derive(Clone)]
pub struct Hub {
    pub ca: Arc<Ca>,
    pub objects: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

struct State {
    life: Duration,
    heartbeat: u32,
    standing: v1::standing::State,
    desired: Option<v1::Desired>,
    keys: BTreeMap<String, Vec<u8>>,
    prefixes: BTreeMap<String, String>,
    said: Vec<FromSpoke>,
    rows: BTreeMap<(String, String), v1::EntryReport>,
    enrolled: Vec<v1::EnrollRequest>,
    sessions: usize,
    to_spoke: Option<mpsc::Sender<Result<v1::HubMessage, Status>>>,
}

/// A hub that listens; dropping it breaks its connections.
pub struct Listening {
    pub address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Hub {
    pub fn new(objects: SocketAddr) -> Self {
        let state = State {
            life: Duration::from_secs(3600),
            heartbeat: 1,
            standing: v1::standing::State::Accepted,
            desired: None,
            keys: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            said: Vec::new(),
            rows: BTreeMap::new(),
            enrolled: Vec::new(),
            sessions: 0,
            to_spoke: None,
        };
        Self {
            ca: Arc::new(Ca::new("test hub")),
            objects,
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
        }
    }

    /// Listens on loopback; port 0 takes a free one. On a runtime of its own, so that it can be taken away at once.
    pub fn listen(&self, port: u16) -> Listening {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        // The one before may not have let go of the port yet.
        let bind = |_| {
            std::thread::sleep(Duration::from_millis(20));
            std::net::TcpListener::bind(("127.0.0.1", port)).ok()
        };
        let listener = (0..250).find_map(bind).expect("the port stays taken");
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(self.ca.server("127.0.0.1"))
            .client_ca_root(Certificate::from_pem(&self.ca.pem))
            .client_auth_optional(true);
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(EnrollmentServer::new(self.clone()))
            .add_service(SessionServer::new(self.clone()));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        drop(guard);
        Listening { address, runtime: Some(runtime) }
    }

    pub fn set_life(&self, life: Duration) {
        self.state.lock().unwrap().life = life;
    }

    pub fn set_standing(&self, standing: v1::standing::State) {
        self.state.lock().unwrap().standing = standing;
    }

    /// Where the version with this digest lies.
    pub fn place(&self, digest: nave_names::Digest, prefix: &str) {
        self.state.lock().unwrap().prefixes.insert(digest.to_string(), prefix.to_owned());
    }

    /// What the next hello is answered with, and the session that is there now told.
    pub async fn tell(&self, desired: v1::Desired) {
        let sender = {
            let mut state = self.state.lock().unwrap();
            state.desired = Some(desired.clone());
            state.to_spoke.clone()
        };
        if let Some(sender) = sender {
            // A session that has just ended gets it with its next hello.
            sender.send(message(ToSpoke::Desired(desired))).await.ok();
        }
    }

    pub fn sessions(&self) -> usize {
        self.state.lock().unwrap().sessions
    }

    pub fn enrolled(&self) -> Vec<v1::EnrollRequest> {
        self.state.lock().unwrap().enrolled.clone()
    }

    pub fn last_ack(&self) -> Option<v1::DesiredAck> {
        let state = self.state.lock().unwrap();
        state.said.iter().rev().find_map(|said| match said {
            FromSpoke::DesiredAck(ack) => Some(ack.clone()),
            _ => None,
        })
    }

    pub fn count(&self, what: impl Fn(&FromSpoke) -> bool) -> usize {
        self.state.lock().unwrap().said.iter().filter(|said| what(said)).count()
    }

    pub fn last_hello(&self) -> Option<v1::SpokeHello> {
        let state = self.state.lock().unwrap();
        state.said.iter().rev().find_map(|said| match said {
            FromSpoke::Hello(hello) => Some(hello.clone()),
            _ => None,
        })
    }

    pub fn row(&self, model: &str, version: &str) -> Option<v1::EntryReport> {
        self.state.lock().unwrap().rows.get(&(model.to_owned(), version.to_owned())).cloned()
    }

    /// Waits until `found` is some; panics after a minute with what the spoke said last.
    pub async fn until<T>(&self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = found(self) {
                    return found;
                }
                // Some conditions are of the disk.
                tokio::time::timeout(Duration::from_millis(50), changed).await.ok();
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(found) => found,
            Err(_) => panic!("never: {what}; rows: {:#?}", self.state.lock().unwrap().rows),
        }
    }

    pub async fn until_phase(
        &self,
        model: &str,
        version: &str,
        phase: v1::entry_report::Phase,
    ) -> v1::EntryReport {
        let what = format!("{model} {version} {phase:?}");
        self.until(&what, |hub| hub.row(model, version).filter(|row| row.phase() == phase)).await
    }

    fn hear(&self, said: FromSpoke) {
        let mut state = self.state.lock().unwrap();
        let report = match &said {
            FromSpoke::Hello(hello) => hello.report.clone(),
            FromSpoke::Report(report) => Some(report.clone()),
            _ => None,
        };
        if let Some(entries) = report.and_then(|report| report.entries) {
            let row = |row: v1::EntryReport| ((row.model.clone(), row.version.clone()), row);
            state.rows = entries.rows.into_iter().map(row).collect();
        }
        state.said.push(said);
        drop(state);
        self.changed.notify_waiters();
    }

    fn answer(&self, cluster: &str, said: &FromSpoke) -> Vec<ToSpoke> {
        let state = self.state.lock().unwrap();
        match said {
            FromSpoke::Hello(_) => {
                let standing = v1::Standing { state: state.standing.into(), message: "says the test".into() };
                let hello = v1::HubHello {
                    protocol: 1,
                    gateway: "test".into(),
                    heartbeat_seconds: state.heartbeat,
                    standing: Some(standing),
                };
                let accepted = state.standing == v1::standing::State::Accepted;
                let desired = state.desired.clone().filter(|_| accepted).map(ToSpoke::Desired);
                [ToSpoke::Hello(hello)].into_iter().chain(desired).collect()
            }
            FromSpoke::Heartbeat(heartbeat) => vec![ToSpoke::Heartbeat(*heartbeat)],
            FromSpoke::UrlRequest(request) => {
                let prefix = state.prefixes.get(&request.manifest_digest);
                let url = |path: &String| v1::SignedUrl {
                    path: path.clone(),
                    url: format!("http://{}/{}/{path}", self.objects, prefix.unwrap()),
                    valid_seconds: 900,
                };
                let mut response = v1::UrlResponse { request_id: request.request_id, ..Default::default() };
                if prefix.is_some() {
                    response.urls = request.paths.iter().map(url).collect();
                } else {
                    response.error = "not assigned".into();
                    response.error_reason = "NotAssigned".into();
                }
                vec![ToSpoke::UrlResponse(response)]
            }
            FromSpoke::CertificateRequest(request) => {
                vec![ToSpoke::CertificateResponse(v1::CertificateResponse {
                    request_id: request.request_id,
                    certificate_chain: self.ca.sign(&request.certificate_request, cluster, state.life),
                    ca_bundle: self.ca.pem.clone(),
                    error: String::new(),
                })]
            }
            FromSpoke::Report(_) | FromSpoke::DesiredAck(_) => vec![],
        }
    }
}

fn message(message: ToSpoke) -> Result<v1::HubMessage, Status> {
    Ok(v1::HubMessage { message: Some(message) })
}

#[tonic::async_trait]
impl Enrollment for Hub {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.enrolled.push(request.clone());
        let (_, parsed) = X509CertificationRequest::from_der(&request.certificate_request).unwrap();
        let key = parsed.certification_request_info.subject_pki.raw.to_vec();
        if request.token.is_empty() {
            if state.keys.get(&request.cluster) != Some(&key) {
                return Err(Status::unauthenticated("this key is not on record"));
            }
        } else if request.token != TOKEN {
            return Err(Status::unauthenticated("the join token is unknown, expired or used up"));
        }
        state.keys.insert(request.cluster.clone(), key);
        Ok(Response::new(v1::EnrollResponse {
            certificate_chain: self.ca.sign(&request.certificate_request, &request.cluster, state.life),
            ca_bundle: self.ca.pem.clone(),
            accepted: state.standing == v1::standing::State::Accepted,
            cluster: request.cluster,
        }))
    }
}

#[tonic::async_trait]
impl Session for Hub {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::HubMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::SpokeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let certificates = request.peer_certs().ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let (_, leaf) = X509Certificate::from_der(&certificates[0]).unwrap();
        let cluster = leaf.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
        let (sender, receiver) = mpsc::channel(64);
        {
            let mut state = self.state.lock().unwrap();
            state.sessions += 1;
            state.to_spoke = Some(sender.clone());
        }
        let hub = self.clone();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(said)) = incoming.next().await {
                let said = said.message.unwrap();
                for answer in hub.answer(&cluster, &said) {
                    sender.send(message(answer)).await.ok();
                }
                let revoked = hub.state.lock().unwrap().standing == v1::standing::State::Revoked;
                hub.hear(said);
                if revoked {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
