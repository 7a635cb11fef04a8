//! What a pull tells while it runs: the last state through a `watch` channel, so a slow reader costs nothing.

/// What a pull is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for its turn or for the manifest.
    #[default]
    Manifest,
    /// Finding out what the disk has already: earlier versions' chunks, an interrupted pull's.
    Checking,
    /// Fetching.
    Fetching,
    /// Waiting for a window of the site to open.
    WaitingForWindow,
    /// Comparing whole files with their SHA-256.
    Verifying,
    /// Making it visible in the store.
    Publishing,
    /// Complete and verified.
    Complete,
}

/// How far a pull is. Bytes are of files; overhead of HTTP and the manifest is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is busy with.
    pub stage: Stage,
    /// Bytes of the version that are on the disk and verified chunk by chunk.
    pub bytes_done: u64,
    /// Bytes of the version; 0 = the manifest is not known yet.
    pub bytes_total: u64,
    /// Bytes that came from S3, those that were thrown away included.
    pub bytes_fetched: u64,
    /// Bytes that other spokes of the site supplied.
    pub bytes_from_peers: u64,
    /// Bytes that earlier versions in the store supplied.
    pub bytes_reused: u64,
    /// Bytes that were rebuilt from an earlier version in the store and a delta.
    pub bytes_rebuilt: u64,
    /// Bytes that an interrupted pull of the same version left behind.
    pub bytes_resumed: u64,
    /// Files complete.
    pub files_done: u64,
    /// Files of the version.
    pub files_total: u64,
    /// Ranges in flight.
    pub ranges: u32,
    /// Requests that had to be made again, for any cause.
    pub retries: u64,
    /// Connections that were given up because no byte came for a while.
    pub stalls: u64,
    /// Chunks that arrived with wrong bytes.
    pub corrupt_chunks: u64,
    /// Deltas and blocks of deltas that could not be used; whole chunks were fetched in their place.
    pub delta_refusals: u64,
    /// The last trouble in a sentence; empty once bytes flow again.
    pub trouble: String,
}
