//! What the chart has for operators: the alerts, as they are committed.

use std::path::PathBuf;

/// A file of the chart.
pub(crate) fn chart(file: &str) -> PathBuf {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("helm/contacts-gateway");
    chart.join(file)
}

/// The alerts' rules.
pub(crate) fn rules() -> String {
    std::fs::read_to_string(chart("alerts/contacts-gateway.rules.yaml")).unwrap()
}
