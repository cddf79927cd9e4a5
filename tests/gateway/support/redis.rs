//! A real Redis, as a process of its own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Folder, is_there};

/// A server that a test started. It does not outlive the test.
pub(crate) struct Redis {
    pub(crate) port: u16,
    flags: Vec<String>,
    child: Child,
    _folder: Folder,
}

impl Redis {
    /// A single server; nothing where there is no program for it, and then the test leaves itself out.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// With these flags as well.
    pub(crate) fn with(flags: &[&str]) -> Option<Self> {
        if !is_there("redis-server") || !is_there("redis-cli") {
            return None;
        }
        Self::by(&[], flags, Folder::new())
    }

    fn by(first: &[&str], flags: &[&str], folder: Folder) -> Option<Self> {
        let name = folder.path().to_str().unwrap();
        let usual = ["--bind", "127.0.0.1", "--save", "", "--dir", name];
        let flags = first.iter().chain(&usual).chain(flags);
        let flags: Vec<_> = flags.map(|&flag| flag.to_owned()).collect();
        // Somebody else may take the port before the server does.
        let started = (0..5).find_map(|_| {
            let port = free_port();
            Some((port, spawn(&flags, port)?))
        });
        let (port, child) = started.expect("redis-server starts");
        Some(Self {
            port,
            flags,
            child,
            _folder: folder,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Settings of a gateway that shares by it, with an answer's time limit that a busy machine does not reach.
    pub(crate) fn shared(&self) -> String {
        shared(&self.url())
    }

    /// What `redis-cli` answers.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let cli = Command::new("redis-cli")
            .args(["-p", &port])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&cli.stdout).trim_end().to_owned()
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.cli(&["--raw", "keys", "*"])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Everything that is stored, as text: names, and values as far as they can be printed.
    pub(crate) fn all(&self) -> String {
        let of = |key: &String| {
            let command = match self.cli(&["type", key]).as_str() {
                "hash" => vec!["hgetall", key],
                "set" => vec!["smembers", key],
                "zset" => vec!["zrange", key, "0", "-1", "withscores"],
                _ => vec!["get", key],
            };
            format!("{key}\n{}\n", self.cli(&command))
        };
        self.keys().iter().map(of).collect()
    }

    /// Sends a signal, such as "STOP".
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success(), "{kill}");
    }

    /// Kills it, at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, on the same port and with nothing of what it held.
    pub(crate) fn start_again(&mut self) {
        self.kill();
        self.child = spawn(&self.flags, self.port).expect("redis-server starts again");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes that share the slots.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
}

impl Cluster {
    pub(crate) fn start() -> Option<Self> {
        let flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let nodes: Option<Vec<_>> = (0..3).map(|_| Redis::with(&flags)).collect();
        let cluster = Self { nodes: nodes? };
        let addresses: Vec<_> = cluster.nodes.iter().map(Redis::address).collect();
        let mut command: Vec<_> = vec!["--cluster", "create"];
        command.extend(addresses.iter().map(String::as_str));
        command.extend(["--cluster-replicas", "0", "--cluster-yes"]);
        let said = cluster.nodes[0].cli(&command);
        assert!(said.contains("All 16384 slots covered"), "{said}");
        // Each of them has to hear of it.
        while !cluster
            .nodes
            .iter()
            .all(|node| node.cli(&["cluster", "info"]).contains("cluster_state:ok"))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(cluster)
    }

    pub(crate) fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// Which node has a key, and its slot.
    pub(crate) fn home(&self, key: &str) -> (usize, String) {
        let slot = self.nodes[0].cli(&["cluster", "keyslot", key]);
        let has = |node: &Redis| {
            !node
                .cli(&["cluster", "countkeysinslot", &slot])
                .starts_with('0')
        };
        let home = self.nodes.iter().position(has).expect("some node has it");
        (home, slot)
    }

    /// Moves a slot, with its keys, from one node to another.
    pub(crate) fn move_slot(&self, slot: &str, from: usize, to: usize) {
        let id = |node: &Redis| node.cli(&["cluster", "myid"]);
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        target.cli(&["cluster", "setslot", slot, "importing", &id(source)]);
        source.cli(&["cluster", "setslot", slot, "migrating", &id(target)]);
        let port = target.port.to_string();
        let keys = source.cli(&["--raw", "cluster", "getkeysinslot", slot, "1000"]);
        let mut command = vec!["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
        command.extend(keys.lines());
        assert_eq!(source.cli(&command), "OK");
        for node in [target, source] {
            assert_eq!(
                node.cli(&["cluster", "setslot", slot, "node", &id(target)]),
                "OK"
            );
        }
    }
}

/// A primary, a replica of it, and a sentinel that knows them as `gateway`.
pub(crate) struct Watched {
    pub(crate) servers: [Redis; 2],
    sentinel: Redis,
}

impl Watched {
    pub(crate) fn start() -> Option<Self> {
        let primary = Redis::start()?;
        let port = primary.port.to_string();
        let replica = Redis::with(&["--replicaof", "127.0.0.1", &port])?;
        let folder = Folder::new();
        let config = format!(
            "sentinel monitor gateway 127.0.0.1 {} 1\nsentinel down-after-milliseconds gateway 500\n\
             sentinel failover-timeout gateway 2000\n",
            primary.port
        );
        let config = folder.put("sentinel.conf", &config);
        let sentinel = Redis::by(&[config.to_str().unwrap()], &["--sentinel"], folder)?;
        // It has to know of the replica before it can do without the primary.
        while !sentinel
            .cli(&["sentinel", "replicas", "gateway"])
            .contains(&replica.port.to_string())
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self {
            servers: [primary, replica],
            sentinel,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/gateway", self.sentinel.port)
    }
}

/// Settings of a gateway that shares by the store of this URL.
pub(crate) fn shared(url: &str) -> String {
    format!("\n[shared]\nurl = {url:?}\ntimeout = \"2s\"\n")
}

/// A port that nobody listens on, and whose cluster bus would have one too.
pub(crate) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// Starts a server and waits until it listens; nothing if it ended.
fn spawn(flags: &[String], port: u16) -> Option<Child> {
    let mut server = Command::new("redis-server");
    // A file of settings comes first; flags go before what is in it.
    let (file, flags) = flags.split_at(usize::from(!flags[0].starts_with('-')));
    server
        .args(file)
        .args(["--port", &port.to_string()])
        .args(flags);
    let quiet = server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    loop {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Some(child);
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
