//! Sockets that are open already when the process starts, because whoever started it keeps them: `sd_listen_fds(3)`. Hides
//! how they are found, and which port each is for.
//!
//! A socket that outlives the processes behind it loses no connection between one and the next.

use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::TcpListener;
use tracing::warn;

/// Those that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Inherited(Vec<std::net::TcpListener>);

impl Inherited {
    /// Those that the environment speaks of. It does so once.
    pub(super) fn take() -> Self {
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).filter_map(|n| match passed.take_tcp_listener(n) {
            Ok(socket) => socket,
            Err(error) => {
                warn!(%error, "what was passed on to listen with cannot be: file descriptor {}", n + 3);
                None
            }
        });
        Self(sockets.collect())
    }

    /// Whether there is one for this address.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.place(address).is_some()
    }

    /// The one for this address.
    pub(super) fn at(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let found = self.place(address)?;
        let socket = self.0.swap_remove(found);
        socket.set_nonblocking(true).ok()?;
        TcpListener::from_std(socket).ok()
    }

    fn place(&self, address: SocketAddr) -> Option<usize> {
        let same = |socket: &std::net::TcpListener| socket.local_addr().ok() == Some(address);
        self.0.iter().position(same)
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        for address in self.0.iter().filter_map(|socket| socket.local_addr().ok()) {
            warn!(%address, "a socket was passed on for an address that neither listen nor admin names: it is closed");
        }
    }
}
