//! Callers with names and tokens.

use aws_lc_rs::digest::{SHA256, digest};
use http::Method;

use super::{Answer, World, path};

/// A `[[callers]]` entry for whoever sends the token `token-of-NAME`, with these settings (TOML) besides.
pub(crate) fn caller(name: &str, settings: &str) -> String {
    caller_by(&format!("token-of-{name}"), name, settings)
}

/// The same with another token.
pub(crate) fn caller_by(token: &str, name: &str, settings: &str) -> String {
    let digest = digest(&SHA256, token.as_bytes());
    let digest: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("[[callers]]\nname = {name:?}\ntoken_sha256 = {digest:?}\n{settings}\n")
}

impl World {
    /// Asks for a list as this caller.
    pub(crate) async fn get_as(&self, name: &str, list: &str) -> Answer {
        self.send_as(name, Method::GET, &path(list), &[]).await
    }

    /// Sends a request as this caller.
    pub(crate) async fn send_as(
        &self,
        name: &str,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let bearer = format!("Bearer token-of-{name}");
        let own = [("authorization", bearer.as_str())];
        let fields = [&own, fields].concat();
        self.gateway.send(method, path, &fields).await
    }
}
