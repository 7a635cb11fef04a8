//! Lets a site reach a server that listens on this machine's loopback, later than it happens: bytes of either direction are held
//! back for a while. What goes to the site is noted.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::OUTSIDE_ADDRESS;

/// Pieces on their way: what a link of some megabytes a second holds in half a second.
const ON_THE_WAY: usize = 256;
/// One piece.
const PIECE: usize = 16 << 10;
/// What the kernel takes towards the site before it is on its way there: little, so that what is noted has really gone.
const SEND_BUFFER: usize = 32 << 10;

/// A relay; it ends when dropped.
#[derive(Debug)]
pub struct DelayRelay {
    address: SocketAddr,
    delivered: Arc<Mutex<Vec<Delivered>>>,
    task: JoinHandle<()>,
}

/// Bytes that went to the site.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// When the kernel had taken them.
    pub at: Timestamp,
    /// To whom.
    pub to: IpAddr,
    /// How many.
    pub bytes: u64,
}

impl DelayRelay {
    /// Relays to `target`, each direction late by `delay`. The lab must be there: the address is its uplink's.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(target: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((OUTSIDE_ADDRESS, 0)).await;
        let listener =
            listener.with_context(|| format!("listen on {OUTSIDE_ADDRESS}, which the lab brings"))?;
        let address = listener.local_addr().context("ask for the relay's address")?;
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&delivered);
        let task = tokio::spawn(async move {
            while let Ok((from, peer)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                let note = move |bytes| {
                    let delivered = Delivered { at: Timestamp::now(), to: peer.ip(), bytes };
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(delivered);
                };
                tokio::spawn(async move {
                    let Ok(to) = TcpStream::connect(target).await else { return };
                    if set_socket_send_buffer_size(&from, SEND_BUFFER).is_err() {
                        return;
                    }
                    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
                    let there = carry(from_read, to_write, delay, |_| ());
                    tokio::join!(there, carry(to_read, from_write, delay, note));
                });
            }
        });
        Ok(Self { address, delivered, task })
    }

    /// Where the site connects.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went to the site so far, in order.
    pub fn delivered(&self) -> Vec<Delivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for DelayRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Either side may go at any time: that is what the other one then sees.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration, note: impl Fn(u64)) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE];
            let Ok(length) = from.read(&mut piece).await else { return };
            piece.truncate(length);
            if length == 0 || sender.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
            note(piece.len() as u64);
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}
