//! What the chart has for operators: the dashboard and the alerts, as they are committed.

use std::path::PathBuf;

use serde_json::Value;

/// A file of the chart.
pub(crate) fn chart(file: &str) -> PathBuf {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("helm/contacts-gateway");
    chart.join(file)
}

/// The panels of the dashboard, rows included, in their order.
pub(crate) fn panels() -> Vec<Value> {
    let Value::Array(panels) = dashboard()["panels"].take() else {
        panic!("a dashboard has panels")
    };
    panels
}

/// The dashboard.
pub(crate) fn dashboard() -> Value {
    let file = std::fs::read(chart("dashboards/contacts-gateway.json")).unwrap();
    serde_json::from_slice(&file).unwrap()
}

/// The expressions that a panel asks for.
pub(crate) fn queries(panel: &Value) -> Vec<&str> {
    let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
    targets
        .iter()
        .map(|target| target["expr"].as_str().unwrap())
        .collect()
}

/// The alerts' rules.
pub(crate) fn rules() -> String {
    std::fs::read_to_string(chart("alerts/contacts-gateway.rules.yaml")).unwrap()
}
