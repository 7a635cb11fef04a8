//! Gets chunks from one peer. Slow is worse than gone here: S3 is always there to go on with.

use std::time::Duration;

use bytes::Bytes;
use nave_names::{ClusterName, Digest};
use nave_proto::v1::{Piece, ReadRequest, neighbour_client::NeighbourClient};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Streaming};

use super::Neighbourhood;

/// A peer begins to answer within this time, and then brings at least so many bytes a second.
const ANSWER: Duration = Duration::from_secs(3);
const LEAST_RATE: u64 = 256 << 10;

/// Why a peer's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerTrouble {
    /// No answer, or one that trickles.
    #[error("it is too slow")]
    Slow,
    /// The connection, or the peer's own words.
    #[error("{0}")]
    Failed(String),
    /// It said that it has what it does not have.
    #[error("it does not have what it said: {0}")]
    Absent(String),
    /// The bytes are not what the manifest says.
    #[error("it served wrong bytes")]
    Lied,
}

/// One answer on its way.
pub(crate) struct Reading {
    pieces: Streaming<Piece>,
    left: u64,
    until: Instant,
}

impl Reading {
    /// Asks a peer for `length` bytes of a file of a version.
    pub(crate) async fn begin(
        neighbourhood: &Neighbourhood,
        peer: &ClusterName,
        (version, sha256): (&Digest, &Digest),
        (offset, length): (u64, u64),
    ) -> Result<Self, PeerTrouble> {
        let gone = || PeerTrouble::Failed("the hub does not name it any more".to_owned());
        let channel = neighbourhood.channel(peer).ok_or_else(gone)?;
        let mut client =
            NeighbourClient::new(channel).max_decoding_message_size(nave_proto::MAX_MESSAGE_BYTES);
        let (manifest_digest, sha256) = (version.to_string(), sha256.to_string());
        let request = ReadRequest { manifest_digest, sha256, offset, length };
        let answer = timeout(ANSWER, client.read(request)).await.map_err(|_| PeerTrouble::Slow)?;
        let pieces = answer.map_err(|status| trouble(&status))?.into_inner();
        let until = Instant::now() + ANSWER + Duration::from_millis(length.saturating_mul(1000) / LEAST_RATE);
        Ok(Self { pieces, left: length, until })
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PeerTrouble> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = timeout_at(self.until, self.pieces.message()).await.map_err(|_| PeerTrouble::Slow)?;
        let piece = next.map_err(|status| trouble(&status))?;
        let piece = piece.ok_or_else(|| PeerTrouble::Failed("it ended early".to_owned()))?;
        let length = piece.data.len() as u64;
        self.left = self.left.checked_sub(length).ok_or(PeerTrouble::Lied)?;
        Ok(Some(piece.data.into()))
    }
}

fn trouble(status: &tonic::Status) -> PeerTrouble {
    let text = nave_runtime::error_text::chain(status);
    if matches!(status.code(), Code::NotFound | Code::OutOfRange) {
        PeerTrouble::Absent(text)
    } else {
        PeerTrouble::Failed(text)
    }
}
