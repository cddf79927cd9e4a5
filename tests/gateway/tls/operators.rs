//! The operators' port over TLS.

use super::SHOWN;
use crate::support::authority::{Authority, named};
use crate::support::process::{Program, Serving};
use crate::support::secure::Caller;
use crate::support::{Folder, World};

/// The program, with a port of this authority's that asks, or not, for certificates of its.
async fn serving(world: &World, folder: &Folder, authority: &Authority, asks: &str) -> Serving {
    let [certificate, key] = authority.issue(named("127.0.0.1")).pem();
    folder.put("tls.crt", &certificate);
    folder.put("tls.key", &key);
    authority.file(folder);
    let settings = format!("admin.tls = {{ {SHOWN}{asks} }}\n");
    let settings = settings.replace("FOLDER", folder.path().to_str().unwrap());
    Serving::before(&world.vendor.url(), &settings).await
}

async fn health(serving: &Serving, folder: &Folder, asks: &str) -> (Option<i32>, String) {
    let tls = format!("{{ {SHOWN}{asks} }}");
    let tls = tls.replace("FOLDER", folder.path().to_str().unwrap());
    let env = [
        ("CONTACTS_GATEWAY__ADMIN__ADDRESS", &*serving.operators),
        ("CONTACTS_GATEWAY__ADMIN__TLS", &tls),
    ];
    let ended = Program::run(&["health"], &env).await;
    (ended.code, ended.err)
}

#[tokio::test]
async fn it_is_asked_over_tls_and_by_the_probe_of_the_program() {
    let (world, folder, authority) = (World::new().await, Folder::new(), Authority::new());
    let serving = serving(&world, &folder, &authority, "").await;
    let operator = Caller::new(&authority, None).speaking(&["http/1.1"]);
    for path in ["/live", "/ready", "/status", "/metrics"] {
        let mut connection = operator.keep(&serving.operators).await.unwrap();
        assert_eq!(connection.get(path).await.unwrap().status, 200, "{path}");
    }
    let (code, said) = health(&serving, &folder, "").await;
    assert_eq!(code, Some(0), "{said}");
    let env = [("CONTACTS_GATEWAY__ADMIN__ADDRESS", &*serving.operators)];
    let in_cleartext = Program::run(&["health"], &env).await;
    assert_eq!(in_cleartext.code, Some(1), "{}", in_cleartext.err);
}

#[tokio::test]
async fn where_it_asks_for_certificates_a_stranger_learns_nothing_and_the_probe_shows_the_ports_own()
 {
    let (world, folder, authority) = (World::new().await, Folder::new(), Authority::new());
    let asks = ", client_ca_file = \"FOLDER/ca.pem\"";
    let serving = serving(&world, &folder, &authority, asks).await;
    let known = authority.issue(named("operator.example"));
    for (shows, comes_in) in [(None, false), (Some(&known), true)] {
        let operator = Caller::new(&authority, shows);
        let answer = match operator.keep(&serving.operators).await {
            Ok(mut connection) => connection.get("/status").await.ok(),
            Err(_) => None,
        };
        assert_eq!(answer.is_some(), comes_in);
    }
    let (code, said) = health(&serving, &folder, asks).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, _) = health(&serving, &folder, "").await;
    assert_eq!(code, Some(1));
}
