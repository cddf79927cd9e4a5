//! The Helm chart follows the crate, and `tests/helm/check.py` finds what it makes in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use contacts_gateway::config::Config;
use serde_json::Value;

use crate::support::left_out;

#[test]
fn the_charts_version_is_the_crates() {
    let chart = read("Chart.yaml");
    for line in [
        concat!("version: ", env!("CARGO_PKG_VERSION")),
        concat!("appVersion: \"", env!("CARGO_PKG_VERSION"), "\""),
    ] {
        assert!(chart.lines().any(|l| l == line), "{line}:\n{chart}");
    }
}

#[test]
fn the_charts_schema_holds_the_programs_own_settings() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    assert!(
        schema["properties"]["config"] == Config::schema(),
        "values.schema.json is behind the program: `just chart-schema`, or .ci/chart-schema"
    );
}

#[test]
fn the_chart_keeps_its_promises() {
    let Some(python) = python() else { return };
    let checked = Command::new(python)
        .arg(root().join("tests/helm/check.py"))
        .arg(env!("CARGO_BIN_EXE_contacts-gateway"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}

/// The one that has Helm's engine and Kubernetes' schemas.
#[expect(clippy::disallowed_methods, reason = "`tests/run` tells where")]
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TESTS_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let there = Command::new(&python)
        .args(["-c", "import helm_python, kubernetes_validate, yaml"])
        .output()
        .is_ok_and(|tried| tried.status.success());
    (there || left_out("helm-python-sdk and kubernetes-validate")).then_some(python)
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join("helm/contacts-gateway").join(name)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
