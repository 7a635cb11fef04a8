//! Tests of `service`: what goes out to a peer that may ask, and what does not.

use jiff::{SignedDuration, Timestamp};
use nave_manifest::{CHUNK, FileHasher, Manifest};
use nave_names::{CLUSTER_URI, RelativePath};
use nave_proto::v1;
use nave_runtime::drain::Drain;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tokio::net::TcpListener;

use super::*;
use crate::{
    identity::Identity,
    metrics::Metrics,
    peers::{PeerTrouble, Reading},
    store::{Staging, Store},
};

/// Two spokes of one hub, each with a store of its own.
fn two_spokes(folder: &tempfile::TempDir) -> [Neighbourhood; 2] {
    rustls::crypto::ring::default_provider().install_default().ok();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_bundle = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    ["holder", "asker"].map(|name| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(format!("{CLUSTER_URI}{name}").try_into().unwrap())];
        let now = Timestamp::now();
        let identity = Identity {
            cluster: ClusterName::new(name).unwrap(),
            chain: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
            ca_bundle: ca_bundle.clone(),
            not_before: now,
            not_after: now + SignedDuration::from_hours(1),
        };
        let store = Store::open(folder.path().join(name)).unwrap();
        let spoke = Neighbourhood::new(store, Metrics::default());
        spoke.use_identity(&identity);
        spoke
    })
}

async fn ask(
    asker: &Neighbourhood,
    what: (&Digest, &Digest),
    range: (u64, u64),
) -> Result<Vec<u8>, PeerTrouble> {
    let mut reading = Reading::begin(asker, &ClusterName::new("holder").unwrap(), what, range).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reading.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_verified_do_not_go_out() {
    let folder = tempfile::tempdir().unwrap();
    let [holder, asker] = two_spokes(&folder);
    let (drain, listener) = (Drain::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(crate::peers::serve(listener, holder.clone(), drain.clone()));

    // Two chunks whose bytes lie on the holder's disk, of which one was hashed.
    let chunk = u64::from(CHUNK);
    let content: Vec<u8> = (0..2 * chunk).map(|at| (at % 251) as u8).collect();
    let mut hasher = FileHasher::new(RelativePath::new("weights").unwrap());
    hasher.update(&content);
    let file = hasher.finish();
    let sha256 = file.sha256;
    let manifest = Arc::new(Manifest::new(vec![file.clone()]).unwrap());
    let version = manifest.digest();
    let staging = Staging::open(holder.store(), Arc::clone(&manifest));
    staging.begin().unwrap();
    staging.part(&file).unwrap().0.write(0, &[&content]).unwrap();
    let mut verified = Bits::none(2);
    verified.set(0, true);
    let running = holder.begin(version, Layout::of(&manifest), verified).unwrap();

    let peer = |cluster: &str, address: &str| v1::Peers {
        peers: vec![v1::Peer {
            cluster: cluster.into(),
            address: address.into(),
            assigned: vec![version.to_string()],
        }],
    };
    holder.name(peer("asker", "127.0.0.1:1"));
    asker.name(peer("holder", &address));
    let what = (&version, &sha256);
    assert_eq!(ask(&asker, what, (0, chunk)).await.unwrap(), content[..content.len() / 2]);
    for range in [(chunk, chunk), (0, 2 * chunk), (chunk - 1, 2), (2 * chunk, 1)] {
        let refused = ask(&asker, what, range).await;
        assert!(matches!(refused, Err(PeerTrouble::Absent(_))), "{range:?}: {refused:?}");
    }
    let refused = ask(&asker, what, (0, MAX_READ + 1)).await;
    assert!(matches!(&refused, Err(PeerTrouble::Failed(why)) if why.contains("at most")), "{refused:?}");
    running.verified([1]);
    assert_eq!(ask(&asker, what, (0, 2 * chunk)).await.unwrap(), content);
    drain.start();
}
