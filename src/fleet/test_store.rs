//! A real Redis for unit tests, as a process of its own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server that holds nothing yet. It does not outlive the test.
pub(crate) struct Store {
    pub(crate) port: u16,
    child: Child,
}

impl Store {
    /// Nothing where there is no program for it, and then the test leaves itself out.
    pub(crate) fn start() -> Option<Self> {
        // Somebody else may take the port before the server does.
        (0..5).find_map(|_| Self::at(free_port()))
    }

    fn at(port: u16) -> Option<Self> {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", ""])
            .args(["--port", &port.to_string()])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut store = Self {
            port,
            child: child.ok()?,
        };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if store.child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(store)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
