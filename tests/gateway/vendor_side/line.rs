//! A line between two parties that can go dead without a word to either.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Passes bytes on, both ways.
pub(super) struct Line {
    pub(super) address: SocketAddr,
    /// Ends what is passed on by the connections there are.
    dead: Arc<Mutex<CancellationToken>>,
    _accept: AbortOnDropHandle<()>,
}

impl Line {
    pub(super) async fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = Arc::new(Mutex::new(CancellationToken::new()));
        let (here, now) = (listener.local_addr().unwrap(), dead.clone());
        let accept = TaskTracker::new().spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(address).await.unwrap();
                let dead = now.lock().unwrap().clone();
                connections.spawn(async move {
                    let passing = copy_bidirectional(&mut near, &mut far);
                    if dead.run_until_cancelled(passing).await.is_none() {
                        // Both stay open, and neither hears from the other again.
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self {
            address: here,
            dead,
            _accept: AbortOnDropHandle::new(accept),
        }
    }

    /// From now on nothing passes, but by connections that are yet to come.
    pub(super) fn goes_dead(&self) {
        let mut dead = self.dead.lock().unwrap();
        std::mem::take(&mut *dead).cancel();
    }
}
