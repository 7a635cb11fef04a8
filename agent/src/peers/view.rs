//! What one pull knows of its site, and what it makes of it: which chunk comes from which peer, and which it fetches from
//! S3 itself. Pure: the time is an argument.
//!
//! Every chunk has one owner among those who fetch, by rendezvous hashing: all of them come to the same answer without
//! asking, and when one goes only its chunks find other owners. The owner fetches a chunk from S3, the others wait for it:
//! as long as the site gets anywhere, and no longer.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use nave_manifest::Blake3;
use nave_names::ClusterName;
use tokio::time::Instant;

use super::{bits::Bits, read::PeerTrouble};

/// A peer that is told to have the version counts as fetching for this long before it says so: all are told at once, and
/// begin a moment apart.
const EXPECTED: Duration = Duration::from_secs(5);
/// Who has nothing left of its own takes over from an owner that has so many chunks left to begin with.
const SURPLUS: usize = 4;
/// News of what is claimed and fetched reach everyone of a LAN within this time.
const NEWS: Duration = Duration::from_millis(500);
/// Reads from one peer at once: enough to fill a gigabit link in chunks.
const READS: u32 = 4;
/// Nothing moved at the site for so long: what others hold up is fetched here. In times of an own chunk's, within bounds.
const PATIENCE: u32 = 3;
const LEAST_PATIENCE: Duration = Duration::from_secs(3);
const MOST_PATIENCE: Duration = Duration::from_secs(30);
/// How long a peer is not asked after a trouble with it.
const REST_SLOW: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_secs(5);

/// What one pull knows of its site.
#[derive(Debug)]
pub(crate) struct SiteView {
    key: u64,
    verified: Bits,
    claimed: Bits,
    fetching: bool,
    others: BTreeMap<ClusterName, Other>,
    /// When a chunk last became verified anywhere at the site.
    moved: Instant,
    /// How long one chunk takes from S3, here.
    pace: Duration,
}

/// What is known of one peer.
#[derive(Debug)]
struct Other {
    key: u64,
    verified: Bits,
    claimed: Bits,
    fetching: bool,
    expected_until: Option<Instant>,
    /// Not asked before this moment.
    rests_until: Option<Instant>,
    /// It served wrong bytes.
    left: bool,
    reads: u32,
}

/// What somebody says of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) verified: Bits,
    pub(crate) claimed: Bits,
    pub(crate) fetching: bool,
}

/// Why a chunk is this spoke's to fetch from S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is the owner.
    Own,
    /// It comes next after the owner, who does not get on, and the site has more left than the owners can begin with.
    Surplus,
    /// Nothing moves.
    Held,
}

impl SiteView {
    pub(crate) fn new(me: &ClusterName, verified: Bits, now: Instant) -> Self {
        let claimed = Bits::none(verified.len());
        let (key, pace) = (key(me), LEAST_PATIENCE);
        Self { key, verified, claimed, fetching: true, others: BTreeMap::new(), moved: now, pace }
    }

    pub(crate) fn told(&self) -> Told {
        Told { verified: self.verified.clone(), claimed: self.claimed.clone(), fetching: self.fetching }
    }

    /// A number of this spoke's own: where it begins among its chunks.
    pub(crate) const fn key(&self) -> u64 {
        self.key
    }

    pub(crate) fn set_fetching(&mut self, fetching: bool) -> bool {
        std::mem::replace(&mut self.fetching, fetching) != fetching
    }

    /// A chunk is on its way from S3, or is not any more.
    pub(crate) fn claim(&mut self, chunk: usize, on: bool) {
        self.claimed.set(chunk, on);
    }

    /// A chunk is here.
    pub(crate) fn verify(&mut self, chunk: usize, now: Instant) {
        self.claimed.set(chunk, false);
        if self.verified.set(chunk, true) {
            self.moved = now;
        }
    }

    /// One chunk took so long from S3.
    pub(crate) fn paced(&mut self, took: Duration) {
        self.pace = (self.pace * 3 + took) / 4;
    }

    /// A peer is told to have the version too.
    pub(crate) fn expect(&mut self, peer: &ClusterName, now: Instant) {
        self.other(peer, now);
    }

    fn other(&mut self, peer: &ClusterName, now: Instant) -> &mut Other {
        self.others.entry(peer.clone()).or_insert_with(|| Other {
            key: key(peer),
            verified: Bits::default(),
            claimed: Bits::default(),
            fetching: false,
            expected_until: Some(now + EXPECTED),
            rests_until: None,
            left: false,
            reads: 0,
        })
    }

    /// Whether there is anybody to share with.
    pub(crate) fn has_company(&self) -> bool {
        !self.others.is_empty()
    }

    /// A peer said what it has.
    pub(crate) fn hear(&mut self, peer: &ClusterName, told: Told, now: Instant) {
        let other = self.other(peer, now);
        let more = told.verified.count() > other.verified.count();
        (other.verified, other.claimed, other.fetching) = (told.verified, told.claimed, told.fetching);
        if more {
            self.moved = now;
        }
    }

    /// A peer cannot be reached: what it said is worth nothing now. That it lied is remembered.
    pub(crate) fn lose(&mut self, peer: &ClusterName) {
        if let Some(other) = self.others.get_mut(peer) {
            (other.verified, other.claimed, other.fetching) = (Bits::default(), Bits::default(), false);
            other.expected_until = None;
        }
    }

    /// A peer was of no use. One that lied is not asked again, nor believed; the others rest. Several reads of one peer end
    /// at about the same time: the longest rest counts.
    pub(crate) fn blame(&mut self, peer: &ClusterName, trouble: &PeerTrouble, now: Instant) {
        let Some(other) = self.others.get_mut(peer) else { return };
        let rest = match trouble {
            PeerTrouble::Lied => {
                other.left = true;
                return;
            }
            PeerTrouble::Slow => REST_SLOW,
            PeerTrouble::Failed(_) | PeerTrouble::Absent(_) => REST,
        };
        other.rests_until = other.rests_until.max(Some(now + rest));
    }

    pub(crate) fn begin_read(&mut self, peer: &ClusterName) {
        if let Some(other) = self.others.get_mut(peer) {
            other.reads += 1;
        }
    }

    pub(crate) fn end_read(&mut self, peer: &ClusterName) {
        if let Some(other) = self.others.get_mut(peer) {
            other.reads = other.reads.saturating_sub(1);
        }
    }

    /// Who may be asked for these chunks: of those who have them, the one with the fewest reads under way.
    pub(crate) fn holder(&self, chunks: Range<usize>, now: Instant) -> Option<&ClusterName> {
        let has = |(_, other): &(&ClusterName, &Other)| {
            other.reads < READS && other.is_asked(now) && other.has(&chunks)
        };
        self.others.iter().filter(has).min_by_key(|(_, other)| (other.reads, other.key)).map(|(name, _)| name)
    }

    /// Whether this peer has these chunks.
    pub(crate) fn has(&self, peer: &ClusterName, chunks: &Range<usize>) -> bool {
        self.others.get(peer).is_some_and(|other| other.has(chunks))
    }

    /// For what reasons chunks may be fetched from S3 now; the first that finds one is the one that counts.
    pub(crate) fn reasons(&self, now: Instant) -> Vec<Reason> {
        let fetchers = 1 + self.others.values().filter(|other| other.fetches(now)).count();
        let untouched = |chunk: &usize| {
            let known = |other: &Other| other.verified.get(*chunk) || other.claimed.get(*chunk);
            !self.verified.get(*chunk) && !self.claimed.get(*chunk) && !self.others.values().any(known)
        };
        let surplus = (0..self.verified.len()).filter(untouched).nth(SURPLUS * fetchers).is_some();
        let quiet = now.duration_since(self.moved);
        let surplus = surplus && quiet >= self.pace.max(NEWS);
        let held = quiet >= self.patience();
        let all = [(Reason::Own, true), (Reason::Surplus, surplus), (Reason::Held, held)];
        all.into_iter().filter(|(_, applies)| *applies).map(|(reason, _)| reason).collect()
    }

    /// Whether chunks, which are not here, may be fetched from S3 for this reason. `blake3` stands for all of them.
    pub(crate) fn may_fetch(
        &self,
        reason: Reason,
        chunks: &Range<usize>,
        blake3: &Blake3,
        now: Instant,
    ) -> bool {
        if self.others.values().any(|other| other.is_asked(now) && other.has(chunks)) {
            return false;
        }
        let claims = |other: &Other| chunks.clone().any(|chunk| other.claimed.get(chunk));
        let claimed = self.others.values().any(|other| other.fetches(now) && claims(other));
        let own = weight(self.key, blake3);
        let above = |other: &&Other| other.fetches(now) && weight(other.key, blake3) > own;
        let rank = self.others.values().filter(above).count();
        match reason {
            Reason::Own => rank == 0 && !claimed,
            Reason::Surplus => rank == 1 && !claimed,
            Reason::Held => {
                let turn = u32::try_from(rank).unwrap_or(u32::MAX).max(1);
                now.duration_since(self.moved) >= self.patience().saturating_mul(turn)
            }
        }
    }

    fn patience(&self) -> Duration {
        (self.pace * PATIENCE).clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }
}

impl Other {
    fn has(&self, chunks: &Range<usize>) -> bool {
        chunks.clone().all(|chunk| self.verified.get(chunk))
    }

    fn is_asked(&self, now: Instant) -> bool {
        !self.left && self.rests_until.is_none_or(|until| until <= now)
    }

    /// Whether its share of the chunks is left to it.
    fn fetches(&self, now: Instant) -> bool {
        !self.left && (self.fetching || self.expected_until.is_some_and(|until| now < until))
    }
}

/// A number for a name; the same at every spoke.
fn key(cluster: &ClusterName) -> u64 {
    first_bytes(blake3::hash(cluster.as_str().as_bytes()).as_bytes())
}

/// How much a chunk is someone's. The mix is splitmix64's: both inputs are hashes already.
fn weight(key: u64, blake3: &Blake3) -> u64 {
    let mut mixed = (key ^ first_bytes(blake3.as_bytes())).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn first_bytes(hash: &[u8; 32]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests;
