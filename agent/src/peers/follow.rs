//! Keeps a pull told of what each peer has of its version: one stream for each peer that may have it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nave_names::ClusterName;
use nave_proto::v1::{Holding, WatchRequest, neighbour_client::NeighbourClient};
use nave_runtime::error_text::chain;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{Bits, Neighbourhood, Share, neighbourhood::Named, view::Told};

/// A peer that is away or does not know this spoke yet is asked again after this, and then ever later.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_AT_MOST: Duration = Duration::from_secs(15);
/// The first answer comes at once, or the peer is as good as away.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

fn concerns(share: &Share, peer: &ClusterName, named: &Named) -> bool {
    named.get(peer).is_some_and(|peer| peer.assigned.contains(&share.digest))
}

/// Counts those who may have the version as company, before anything is fetched: a pull that believes for a moment that
/// it is alone takes as much from S3 as it can.
pub(super) fn expect_all(share: &Share, named: &Named) {
    for peer in named.keys().filter(|peer| concerns(share, peer, named)) {
        share.look(|view| view.expect(peer, Instant::now()));
    }
}

/// Runs until it is aborted.
pub(super) async fn follow_all(neighbourhood: Neighbourhood, share: Arc<Share>) {
    let mut named = neighbourhood.named();
    let mut followed: BTreeMap<ClusterName, Follower> = BTreeMap::new();
    loop {
        let now = Arc::clone(&named.borrow_and_update());
        followed.retain(|peer, _| {
            concerns(&share, peer, &now) || {
                share.lose(peer);
                false
            }
        });
        expect_all(&share, &now);
        for peer in now.keys().filter(|peer| concerns(&share, peer, &now)) {
            followed.entry(peer.clone()).or_insert_with(|| {
                let follow = follow(neighbourhood.clone(), Arc::clone(&share), peer.clone());
                Follower(tokio::spawn(follow).abort_handle())
            });
        }
        if named.changed().await.is_err() {
            return;
        }
    }
}

/// Ends its task when dropped.
struct Follower(AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow(neighbourhood: Neighbourhood, share: Arc<Share>, peer: ClusterName) {
    let mut wait = AGAIN;
    let mut last = String::new();
    loop {
        let mut heard = false;
        let problem = match listen(&neighbourhood, &share, &peer, &mut heard).await {
            Ok(()) => "it ended the stream".to_owned(),
            Err(problem) => problem,
        };
        share.lose(&peer);
        if heard {
            (wait, last) = (AGAIN, String::new());
        }
        if problem == last {
            tracing::debug!(%peer, problem, "still nothing from a peer of this site");
        } else {
            tracing::info!(%peer, problem, "nothing from a peer of this site; going on without it");
            last = problem;
        }
        sleep(wait).await;
        wait = (wait * 2).min(AGAIN_AT_MOST);
    }
}

async fn listen(
    neighbourhood: &Neighbourhood,
    share: &Share,
    peer: &ClusterName,
    heard: &mut bool,
) -> Result<(), String> {
    let channel = neighbourhood.channel(peer).ok_or("the hub does not name it any more")?;
    let mut client = NeighbourClient::new(channel).max_decoding_message_size(nave_proto::MAX_MESSAGE_BYTES);
    let request = WatchRequest { manifest_digest: share.digest.to_string() };
    let answer = timeout(FIRST_ANSWER, client.watch(request)).await.map_err(|_| "it does not answer")?;
    let mut holdings = answer.map_err(|status| chain(&status))?.into_inner();
    while let Some(holding) = holdings.message().await.map_err(|status| chain(&status))? {
        *heard = true;
        let told = read(holding, share.layout.len()).ok_or("it speaks of another number of chunks")?;
        share.hear(peer, told);
    }
    Ok(())
}

fn read(holding: Holding, len: usize) -> Option<Told> {
    let verified = Bits::read(holding.verified, len)?;
    let claimed = Bits::read(holding.claimed, len)?;
    Some(Told { verified, claimed, fetching: holding.fetching })
}

/// What this spoke tells, as the wire has it.
pub(super) fn write(told: &Told) -> Holding {
    Holding { verified: told.verified.write(), claimed: told.claimed.write(), fetching: told.fetching }
}
