//! A real Prometheus, and gateways that fare well and badly: whatever the dashboard asks for is there, and each alert fires for its
//! cause and for nothing else.

mod gateway;

use std::collections::BTreeSet;
use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Message};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::chart::{panels, queries, rules};
use crate::support::prometheus::Prometheus;
use crate::support::{SECRET, STREAM, answering, is_there, path_of, saying};
use gateway::Gateway;

/// What the rules take for a minute takes this long here, so that an hour is twelve seconds.
const MINUTE_IN_MS: u64 = 200;

#[tokio::test]
async fn an_hour_of_good_and_bad_fills_every_panel_and_fires_each_alert_for_its_cause() {
    if !is_there("prometheus") {
        return;
    }
    let well = Gateway::new(
        SECRET,
        "[allowance]\ncalls = 3000\n[cache]\nfresh_for = \"2s\"",
    )
    .await;
    let badly = Gateway::new(
        SECRET,
        "[allowance]\ncalls = 30\nwindow = \"6s\"\npause = \"1s\"\n[cache]\nfresh_for = \"4s\"",
    )
    .await;
    // Nothing listens at that port.
    let away = "[shared]\nurl = \"redis://127.0.0.1:1\"";
    let locked = Gateway::new("not what the gateway has", away).await;
    let prometheus = Prometheus::watching(
        &[("well", &well), ("badly", &badly), ("locked", &locked)]
            .map(|(namespace, gateway)| gateway.watched_as(namespace)),
        &squeezed(&rules()),
    )
    .await;
    let watch = Watch(prometheus);
    tokio::select! {
        () = well.is_asked() => {}
        () = well.is_asked_for_more() => {}
        () = badly.is_asked() => {}
        () = badly.is_asked_too_much() => {}
        () = locked.is_asked_for_nothing() => {}
        () = watch.sees(&badly) => {}
    }
    let down = watch.fires("Down", "locked");
    drop(locked);
    down.await;
    watch.saw_each_alert_where_its_cause_was().await;
    watch.has_data_for_every_panel().await;
}

/// The rules with every duration in them shortened.
fn squeezed(rules: &str) -> String {
    let mut squeezed = String::new();
    for line in rules.lines() {
        let mut rest = line;
        while let Some(at) = rest
            .find('[')
            .or_else(|| rest.find("for: ").map(|at| at + 4))
        {
            let (before, after) = rest.split_at(at + 1);
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let minutes = match after.as_bytes().get(digits) {
                Some(b'm') => 1,
                Some(b'h') => 60,
                Some(b'd') => 24 * 60,
                _ => 0,
            };
            squeezed += before;
            rest = after;
            if digits > 0 && minutes > 0 {
                let number: u64 = after[..digits].parse().unwrap();
                squeezed += &format!("{}ms", number * minutes * MINUTE_IN_MS);
                rest = &after[digits + 1..];
            }
        }
        squeezed += rest;
        squeezed.push('\n');
    }
    squeezed
}

/// Looks at a Prometheus.
struct Watch(Prometheus);

impl Watch {
    /// Each cause after the other, at a gateway that is asked meanwhile.
    async fn sees(&self, badly: &Gateway) {
        self.0.until("sum(rate(contacts_gateway_cache_requests_total{namespace=\"badly\",result=\"hit\"}[2s])) > 10").await;
        self.sees_refusals(badly).await;
        self.sees_old_pages(badly).await;
        self.sees_an_outage(badly).await;
        self.sees_calls_run_short(badly).await;
        self.sees_slow_calls(badly).await;
        self.sees_a_mistake(badly).await;
        // These had their causes all the time.
        self.fires("QuotaRefusing", "badly").await;
        for alert in [
            "NothingServed",
            "CredentialsRefused",
            "AnswersFailing",
            "AnswersFailingSlowly",
        ] {
            self.fires(alert, "locked").await;
        }
    }

    async fn sees_refusals(&self, badly: &Gateway) {
        self.is_silent("VendorRefusing").await;
        badly.vendor.behave(Behaviour {
            refuse: Some(Message::PerMinute),
            ..Behaviour::default()
        });
        self.fires("VendorRefusing", "badly").await;
        badly.vendor.behave(Behaviour::default());
    }

    async fn sees_old_pages(&self, badly: &Gateway) {
        self.is_silent("AnswersOld").await;
        // Pages that are never fresh are a cause for this one too.
        self.is_silent("AllowanceShort").await;
        badly.vendor.behave(saying(&[("age", "2400")]));
        self.fires("AnswersOld", "badly").await;
        badly.vendor.behave(Behaviour::default());
    }

    async fn sees_an_outage(&self, badly: &Gateway) {
        self.is_silent("AnswersFailing").await;
        self.is_silent("VendorFailing").await;
        badly
            .vendor
            .behave(answering(StatusCode::INTERNAL_SERVER_ERROR));
        tokio::select! {
            () = badly.is_asked_for_nothing() => {}
            () = self.fires("AnswersFailing", "badly") => {}
        }
        tokio::select! {
            () = badly.is_asked_for_nothing() => {}
            () = self.fires("VendorFailing", "badly") => {}
        }
        badly.vendor.behave(Behaviour::default());
    }

    async fn sees_calls_run_short(&self, badly: &Gateway) {
        let asked = async {
            for n in 0.. {
                let new = (0..30).map(|m| path_of(STREAM, &format!("cl-n6-{n}-{m}"), "account"));
                let new: Vec<_> = new.collect();
                join_all(new.iter().map(|path| badly.get("reports", path))).await;
            }
        };
        tokio::select! {
            () = asked => {}
            () = self.fires("AllowanceShort", "badly") => {}
        }
    }

    async fn sees_slow_calls(&self, badly: &Gateway) {
        self.is_silent("VendorSlow").await;
        badly.vendor.behave(Behaviour {
            delay: Duration::from_secs(3),
            ..Behaviour::default()
        });
        let asked = async {
            for n in 0.. {
                let accounts =
                    (0..12).map(|m| path_of(STREAM, "cl-n6-a", &format!("account-{n}-{m}")));
                let accounts: Vec<_> = accounts.collect();
                join_all(accounts.iter().map(|path| badly.get("reports", path))).await;
            }
        };
        tokio::select! {
            () = asked => {}
            () = self.fires("VendorSlow", "badly") => {}
        }
        badly.vendor.behave(Behaviour::default());
    }

    async fn sees_a_mistake(&self, badly: &Gateway) {
        self.is_silent("ReloadFailed").await;
        badly.has_a_mistake();
        self.fires("ReloadFailed", "badly").await;
        badly.is_mended();
        self.0
            .until("contacts_gateway_config_reloads_total{namespace=\"badly\",outcome=\"ok\"} > 0")
            .await;
    }

    async fn fires(&self, alert: &str, namespace: &str) {
        let firing = format!(
            "ALERTS{{alertname=\"ContactsGateway{alert}\",alertstate=\"firing\",namespace={namespace:?}}}"
        );
        self.0.until(&firing).await;
    }

    /// At the gateway whose causes come one after the other.
    async fn is_silent(&self, alert: &str) {
        let alerts = format!("ALERTS{{alertname=\"ContactsGateway{alert}\",namespace=\"badly\"}}");
        assert_eq!(
            self.0.now(&alerts).await,
            [] as [Value; 0],
            "before its cause"
        );
    }

    /// No alert fired at the gateway that did well, and none but these at the others.
    async fn saw_each_alert_where_its_cause_was(&self) {
        let fired = self
            .0
            .now("max_over_time(ALERTS{alertstate=\"firing\"}[10m])")
            .await;
        let fired: BTreeSet<_> = fired
            .iter()
            .map(|series| {
                ["namespace", "alertname"].map(|label| series["metric"][label].as_str().unwrap())
            })
            .collect();
        let mut expected = BTreeSet::from([
            ["badly", "ContactsGatewayAllowanceShort"],
            ["badly", "ContactsGatewayAnswersFailing"],
            ["badly", "ContactsGatewayAnswersOld"],
            ["badly", "ContactsGatewayQuotaRefusing"],
            ["badly", "ContactsGatewayReloadFailed"],
            ["badly", "ContactsGatewayVendorFailing"],
            ["badly", "ContactsGatewayVendorRefusing"],
            ["badly", "ContactsGatewayVendorSlow"],
            ["locked", "ContactsGatewayAnswersFailing"],
            ["locked", "ContactsGatewayAnswersFailingSlowly"],
            ["locked", "ContactsGatewayCredentialsRefused"],
            ["locked", "ContactsGatewayDown"],
            ["locked", "ContactsGatewayNothingServed"],
            ["locked", "ContactsGatewaySharedStoreAway"],
        ]);
        // How long the outage lasts is the machine's doing.
        let perhaps = ["badly", "ContactsGatewayAnswersFailingSlowly"];
        if fired.contains(&perhaps) {
            expected.insert(perhaps);
        }
        assert_eq!(fired, expected);
        for rule in self.0.rules().await {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }

    async fn has_data_for_every_panel(&self) {
        let mut kept = Vec::new();
        for panel in panels() {
            for (n, query) in queries(&panel).into_iter().enumerate() {
                let title = &panel["title"];
                let query = with_values(query);
                let series = self.0.ever(&query).await;
                assert!(series.iter().any(has_a_number), "{title} is empty: {query}");
                kept.push(json!({"panel": panel["id"], "query": n, "series": series}));
            }
        }
        keep(&kept);
    }
}

/// A query as Grafana would send it.
fn with_values(query: &str) -> String {
    let values = [
        ("$__rate_interval", "2s"),
        ("$namespace", "well|badly"),
        ("$pod", ".*"),
        ("$account", ".*"),
    ];
    let query = values
        .iter()
        .fold(query.to_owned(), |query, (name, value)| {
            query.replace(name, value)
        });
    assert!(!query.contains('$'), "a variable without a value: {query}");
    query
}

fn has_a_number(series: &Value) -> bool {
    let values = series["values"].as_array().unwrap();
    values.iter().any(|value| value[1] != "NaN")
}

/// For the pictures of the dashboard, which are drawn from what was seen here.
#[expect(clippy::disallowed_methods, reason = "helm/dashboard/draw tells where")]
fn keep(seen: &[Value]) {
    if let Ok(file) = std::env::var("DASHBOARD_DATA") {
        std::fs::write(file, Value::from(seen).to_string()).unwrap();
    }
}
