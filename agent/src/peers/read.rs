//! Gets chunks from one peer. Slow is worse than gone here: S3 is always there to go on with.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use nave_names::{ClusterName, Digest};
use nave_proto::v1::{Piece, ReadRequest, neighbour_client::NeighbourClient};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Response, Status, Streaming};

use super::Neighbourhood;

/// How long a peer is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// It begins to answer within this time,
    pub(crate) answer: Duration,
    /// and then brings at least so many bytes a second.
    pub(crate) least_rate: u64,
}

/// With a disk that has to wake up, and on a LAN by radio.
pub(super) const PATIENCE: Patience = Patience { answer: Duration::from_secs(3), least_rate: 256 << 10 };

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
pub(crate) struct Reading<S = Streaming<Piece>> {
    pieces: S,
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
        Self::of(client.read(request), length, neighbourhood.patience()).await
    }
}

impl<S: Stream<Item = Result<Piece, Status>> + Unpin> Reading<S> {
    /// Waits for the head of an answer that is to have `length` bytes.
    async fn of(
        answer: impl Future<Output = Result<Response<S>, Status>>,
        length: u64,
        patience: Patience,
    ) -> Result<Self, PeerTrouble> {
        let answer = timeout(patience.answer, answer).await.map_err(|_| PeerTrouble::Slow)?;
        let pieces = answer.map_err(|status| trouble(&status))?.into_inner();
        let bring = Duration::from_millis(length.saturating_mul(1000) / patience.least_rate);
        Ok(Self { pieces, left: length, until: Instant::now() + patience.answer + bring })
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PeerTrouble> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = timeout_at(self.until, self.pieces.next()).await.map_err(|_| PeerTrouble::Slow)?;
        let piece = next.ok_or_else(|| PeerTrouble::Failed("it ended early".to_owned()))?;
        let piece = piece.map_err(|status| trouble(&status))?;
        let length = piece.data.len() as u64;
        self.left = self.left.checked_sub(length).ok_or(PeerTrouble::Lied)?;
        Ok(Some(piece.data.into()))
    }
}

fn trouble(status: &Status) -> PeerTrouble {
    let text = nave_runtime::error_text::chain(status);
    if matches!(status.code(), Code::NotFound | Code::OutOfRange) {
        PeerTrouble::Absent(text)
    } else {
        PeerTrouble::Failed(text)
    }
}

#[cfg(test)]
mod tests {
    use futures::{future, stream};

    use super::*;

    /// Short, so that whoever waits for a peer as long as it is allowed to waits no longer than a test may.
    const IMPATIENT: Patience = Patience { answer: Duration::from_millis(50), least_rate: 1 << 20 };

    type Pieces = stream::BoxStream<'static, Result<Piece, Status>>;

    /// Everything that a peer's answer is good for, or why it is no good.
    async fn read(pieces: Pieces, length: u64) -> Result<Vec<u8>, PeerTrouble> {
        let answer = future::ready(Ok(Response::new(pieces)));
        let mut reading = Reading::of(answer, length, IMPATIENT).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reading.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// A peer that sends pieces of these lengths, and then nothing more, without an end.
    fn sends(lengths: &[usize]) -> Pieces {
        let pieces: Vec<_> = lengths.iter().map(|length| Ok(Piece { data: vec![7; *length] })).collect();
        stream::iter(pieces).chain(stream::pending()).boxed()
    }

    /// Whoever does not give up never ends.
    async fn gives_up(reading: impl Future<Output = Result<Vec<u8>, PeerTrouble>>) -> PeerTrouble {
        timeout(Duration::from_secs(20), reading).await.expect("it is still waited for").unwrap_err()
    }

    #[tokio::test]
    async fn what_was_asked_for_is_the_end_whatever_the_peer_does_then() {
        assert_eq!(read(sends(&[3, 4]), 7).await.unwrap(), [7; 7]);
        assert_eq!(read(sends(&[]), 0).await.unwrap(), [0; 0]);
    }

    #[tokio::test]
    async fn a_peer_that_sends_more_than_was_asked_for_lies() {
        for lengths in [&[3, 5][..], &[8], &[1 << 20]] {
            let trouble = read(sends(lengths), 7).await.unwrap_err();
            assert!(matches!(trouble, PeerTrouble::Lied), "{lengths:?}: {trouble}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_ends_early_or_says_no_failed_and_did_not_lie() {
        let ended = read(stream::iter([Ok(Piece { data: vec![7; 3] })]).boxed(), 7).await.unwrap_err();
        assert!(matches!(&ended, PeerTrouble::Failed(why) if why.contains("early")), "{ended}");
        let broke = stream::iter([Ok(Piece { data: vec![7; 3] }), Err(Status::unavailable("it is ending"))]);
        let broke = read(broke.boxed(), 7).await.unwrap_err();
        assert!(matches!(&broke, PeerTrouble::Failed(why) if why.contains("it is ending")), "{broke}");
        let absent = future::ready(Err::<Response<Pieces>, _>(Status::not_found("nothing here")));
        let Err(absent) = Reading::of(absent, 7, IMPATIENT).await else { panic!("there is no answer") };
        assert!(matches!(&absent, PeerTrouble::Absent(why) if why.contains("nothing here")), "{absent}");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_answer_stops_in_the_middle_or_trickles_is_given_up_as_slow() {
        let silent = async {
            let answer = future::pending::<Result<Response<Pieces>, Status>>();
            Reading::of(answer, 7, IMPATIENT).await.map(|_| Vec::new())
        };
        let drop = || async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok(Piece { data: vec![7] }), ()))
        };
        let trickle = stream::unfold((), move |()| drop()).boxed();
        for trouble in [
            gives_up(silent).await,
            gives_up(read(sends(&[3]), 7)).await,
            gives_up(read(trickle, 1 << 16)).await,
        ] {
            assert!(matches!(trouble, PeerTrouble::Slow), "{trouble}");
        }
    }
}
