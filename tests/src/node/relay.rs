//! Lets pods reach a server that listens on this machine's loopback: everything that comes to the address which the node
//! knows goes there, byte for byte.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::layout::HOST_ADDRESS;

/// A relay; it ends when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    /// Relays to `target`. The node must be there: the address is its network's.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((HOST_ADDRESS, 0)).await;
        let listener =
            listener.with_context(|| format!("listen on {HOST_ADDRESS}, which the node's network brings"))?;
        let address = listener.local_addr().context("ask for the relay's address")?;
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // Either side may go at any time: that is what the other one then sees.
                    if let Ok(mut to) = TcpStream::connect(target).await {
                        copy_bidirectional(&mut from, &mut to).await.ok();
                    }
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Where pods connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
