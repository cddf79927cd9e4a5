//! A Redis for gateways to share by: a process of its own, ended by its id.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::servers::free_address;

/// It ends when this is dropped. Nothing of what it holds outlives it.
pub(crate) struct Store {
    address: SocketAddr,
    child: Child,
}

impl Store {
    /// Starts one, and waits until it takes connections.
    pub(crate) fn start() -> Self {
        let address = free_address();
        let store = Self {
            address,
            child: server(address),
        };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return store;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("redis-server takes no connections");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Kills it, at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, with nothing of what it held. Does not wait for it.
    pub(crate) fn start_again(&mut self) {
        self.child = server(self.address);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether Redis can be had.
pub(crate) fn has_redis() -> bool {
    let version = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

fn server(address: SocketAddr) -> Child {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    Command::new("redis-server")
        .args(["--bind", &ip, "--port", &port])
        .args(["--save", "", "--appendonly", "no"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
