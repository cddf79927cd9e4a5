//! A real Prometheus that watches gateways.

use std::process::Command;
use std::time::SystemTime;

use http::Method;
use serde_json::Value;

use super::process::{Program, ask};
use super::{Folder, eventually};

/// A gateway to be watched: its operators' port, and what Kubernetes would say of it.
pub(crate) struct Watched<'a> {
    pub(crate) operators: &'a str,
    pub(crate) namespace: &'a str,
}

/// A Prometheus at work.
pub(crate) struct Prometheus {
    _program: Program,
    url: String,
    began: f64,
    _folder: Folder,
}

impl Prometheus {
    /// Watches these gateways, five times a second, by these rules.
    pub(crate) async fn watching(gateways: &[Watched<'_>], rules: &str) -> Self {
        let folder = Folder::new();
        folder.put("rules.yml", rules);
        let targets = gateways.iter().map(|gateway| {
            let Watched { operators, namespace } = gateway;
            format!("{{targets: [{operators:?}], labels: {{namespace: {namespace}, pod: {namespace}-0}}}}")
        });
        let targets: Vec<_> = targets.collect();
        let settings = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: gateways, static_configs: [{}]}}]\n",
            targets.join(", ")
        );
        let settings = folder.put("prometheus.yml", &settings);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0");
        let mut program = Program::spawn(command);
        let line = program.line("Listening on").await;
        let address = line.rsplit_once("address=").unwrap().1.trim();
        program.line("Server is ready").await;
        Self {
            url: format!("http://{address}/api/v1"),
            began: now(),
            _program: program,
            _folder: folder,
        }
    }

    /// What an expression is now: the labels and the value of each series.
    pub(crate) async fn now(&self, expression: &str) -> Vec<Value> {
        let query = format!("query?query={}", encoded(expression));
        self.result(&query, expression).await
    }

    /// What an expression has been since Prometheus was started: the labels and the values of each series.
    pub(crate) async fn ever(&self, expression: &str) -> Vec<Value> {
        let (query, began, now) = (encoded(expression), self.began, now());
        let query = format!("query_range?query={query}&start={began}&end={now}&step=0.4");
        self.result(&query, expression).await
    }

    /// Waits until an expression is there.
    pub(crate) async fn until(&self, expression: &str) -> Vec<Value> {
        eventually(expression, async || {
            let found = self.now(expression).await;
            (!found.is_empty()).then_some(found)
        })
        .await
    }

    /// Each rule as Prometheus understood it.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let mut answer = self.ask("rules").await;
        let Value::Array(groups) = answer["data"]["groups"].take() else {
            panic!("{answer}")
        };
        let rules = groups.into_iter().map(|mut group| group["rules"].take());
        rules
            .flat_map(|rules| rules.as_array().cloned().unwrap())
            .collect()
    }

    async fn result(&self, query: &str, expression: &str) -> Vec<Value> {
        let mut answer = self.ask(query).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        match answer["data"]["result"].take() {
            Value::Array(series) => series,
            other => panic!("{expression}: {other}"),
        }
    }

    async fn ask(&self, what: &str) -> Value {
        ask(Method::GET, &format!("{}/{what}", self.url), &[])
            .await
            .json()
    }
}

fn encoded(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "Prometheus goes by the machine's clock"
)]
fn now() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}
