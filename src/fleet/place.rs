//! Hides what tells a process that starts again where another was from one more process.
//!
//! One that crashed has its part of the calls left free for long, since it might be cut off and there all the same. Whoever
//! has its place shows that it is not, and gets its seat: no two processes have one address of one network at a time.

use std::net::SocketAddr;
use std::path::Path;

use uuid::Uuid;

/// The place of a process that listens at this address: the same for whoever has it after that one, until the machine
/// starts again. Where that cannot be told, or there is no address, a place that nobody had before.
pub(super) fn of(address: Option<SocketAddr>) -> String {
    let known = || {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        // Containers of a pod keep it when they start again, and containers of two have two.
        let network = Path::new("/proc/self/ns/net").read_link().ok()?;
        Some(format!(
            "{} {} {}",
            boot.trim(),
            network.display(),
            address?
        ))
    };
    known().unwrap_or_else(|| Uuid::new_v4().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_after_has_the_same_place_and_nobody_else() {
        let address = |text: &str| Some(text.parse().unwrap());
        assert_eq!(of(address("127.0.0.1:1")), of(address("127.0.0.1:1")));
        assert_ne!(of(address("127.0.0.1:1")), of(address("127.0.0.1:2")));
        assert_ne!(of(None), of(None));
    }
}
