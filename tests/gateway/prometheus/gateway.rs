//! A gateway to be watched, and what its callers do.

use std::time::Duration;

use bytes::Bytes;
use contacts_gateway::vendor::{self, App, Limit, Vendor};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::support::callers::caller;
use crate::support::process::{Program, Serving, settings_file};
use crate::support::prometheus::Watched;
use crate::support::{CLIENT_ID, Folder, STREAM, path, path_of};

/// A gateway before a vendor of its own, and its callers.
pub(super) struct Gateway {
    pub(super) vendor: Vendor,
    serving: Serving,
    folder: Folder,
    settings: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Gateway {
    pub(super) async fn new(secret: &str, settings: &str) -> Self {
        let vendor = Vendor::start(vendor::Settings {
            apps: vec![App::hs256(
                STREAM.parse().unwrap(),
                CLIENT_ID,
                secret.as_bytes(),
            )],
            limit: Limit {
                calls: 100_000,
                ..Limit::default()
            },
            // So that the latency of a call is something.
            delays: [10, 25, 15, 60, 20, 12, 30, 18]
                .map(Duration::from_millis)
                .into(),
            ..vendor::Settings::default()
        });
        let vendor = vendor.unwrap();
        let callers = [
            caller("campaign-service", "may_purge = true"),
            caller("dialer", ""),
            caller("reports", ""),
            caller("in-a-loop", "requests_per_minute = 60"),
        ];
        let settings = format!("{settings}\n{}", callers.concat());
        let folder = Folder::new();
        let file = settings_file(&folder, &settings);
        let ports = [
            ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
            ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
            ("CONTACTS_GATEWAY__UPSTREAM__URL", &vendor.url()),
        ];
        let program = Program::start(&["--config", &file], &ports);
        Self {
            serving: Serving::started(program).await,
            client: Client::builder(TokioExecutor::new()).build_http(),
            vendor,
            folder,
            settings,
        }
    }

    pub(super) fn watched_as<'a>(&'a self, namespace: &'a str) -> Watched<'a> {
        Watched {
            operators: &self.serving.operators,
            namespace,
        }
    }

    /// Its settings get a mistake, and it is told to read them.
    pub(super) fn has_a_mistake(&self) {
        self.folder.put("gateway.toml", "fresh_fro = 1");
        self.serving.program.signal("HUP");
    }

    /// They are as they were, and it is told to read them.
    pub(super) fn is_mended(&self) {
        settings_file(&self.folder, &self.settings);
        self.serving.program.signal("HUP");
    }

    pub(super) async fn get(&self, caller: &str, path: &str) -> StatusCode {
        self.send(Method::GET, caller, path).await
    }

    pub(super) async fn send(&self, method: Method, caller: &str, path: &str) -> StatusCode {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.serving.callers))
            .header("authorization", format!("Bearer token-of-{caller}"));
        let request = request.body(Full::default()).unwrap();
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        body.collect().await.unwrap();
        head.status
    }

    /// For the same lists again and again, by several callers.
    pub(super) async fn is_asked(&self) {
        let callers = ["campaign-service", "dialer", "campaign-service", "reports"];
        let mut tick = tokio::time::interval(Duration::from_millis(8));
        for n in 0.. {
            tick.tick().await;
            let list = path(&format!("cl-n50-{}", n % 5));
            self.get(callers[n % 4], &list).await;
        }
    }

    /// For a new list by two at once; for a list to be forgotten; by somebody unknown.
    pub(super) async fn is_asked_for_more(&self) {
        let purge: Method = "PURGE".parse().unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        for n in 0.. {
            tick.tick().await;
            let new = path(&format!("cl-n6-new{n}"));
            tokio::join!(self.get("dialer", &new), self.get("reports", &new));
            if n % 4 == 0 {
                self.send(purge.clone(), "campaign-service", &path("cl-n50-3"))
                    .await;
                self.get("nobody", &new).await;
            }
        }
    }

    /// By one caller more often than it may.
    pub(super) async fn is_asked_too_much(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            self.get("in-a-loop", &path("cl-n50-1")).await;
        }
    }

    /// For what it cannot give. Each time by another account, since one that fails is left alone for a while.
    pub(super) async fn is_asked_for_nothing(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for n in 0.. {
            tick.tick().await;
            self.get(
                "dialer",
                &path_of(STREAM, "cl-n6-a", &format!("account-{n}")),
            )
            .await;
        }
    }
}
