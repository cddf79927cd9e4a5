//! Ports that speak TLS.

use http::Method;

use crate::support::Answer;
use crate::support::authority::{Authority, Issued, named};
use crate::support::living::{Files, Living};
use crate::support::secure::{Broken, Caller, Kept};

mod callers;
mod files;
mod operators;
mod port;

/// A gateway whose callers' port speaks TLS, as it follows its files.
struct Private {
    living: Living,
    /// Who says that the port is the gateway's.
    authority: Authority,
    /// Who says who callers are.
    callers: Authority,
}

/// Certificate and key of a port.
const SHOWN: &str = "certificate_file = \"FOLDER/tls.crt\", key_file = \"FOLDER/tls.key\"";

impl Private {
    /// For everybody.
    async fn open(settings: &str) -> Self {
        Self::with(&format!("listen.tls = {{ {SHOWN} }}\n{settings}")).await
    }

    /// For those with certificates.
    async fn asking(settings: &str) -> Self {
        let asks = "client_ca_file = \"FOLDER/callers.crt\"";
        Self::with(&format!("listen.tls = {{ {SHOWN}, {asks} }}\n{settings}")).await
    }

    async fn with(settings: &str) -> Self {
        let (authority, callers) = (Authority::new(), Authority::new());
        let living = Living::with_vendor(settings, |_, files| {
            shown(files, &authority.issue(named("127.0.0.1")));
            files.put("callers.crt", &callers.pem());
        });
        Self {
            living: living.await,
            authority,
            callers,
        }
    }

    /// Somebody who shows this.
    fn caller(&self, shows: Option<&Issued>) -> Caller {
        Caller::new(&self.authority, shows)
    }

    fn place(&self) -> &str {
        self.living.world.gateway.place()
    }

    /// Asks on a connection of its own.
    async fn get(&self, caller: &Caller, path: &str) -> Result<Answer, Broken> {
        self.send(caller, Method::GET, path, &[]).await
    }

    async fn send(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Broken> {
        let mut connection = self.keep(caller).await?;
        connection.send(method, path, fields).await
    }

    async fn keep(&self, caller: &Caller) -> Result<Kept, Broken> {
        caller.keep(self.place()).await
    }
}

/// Puts in place what the port shows, the key last.
fn shown(files: &Files, issued: &Issued) {
    let [certificate, key] = issued.pem();
    files.put("tls.crt", &certificate);
    files.put("tls.key", &key);
}
