//! The alerts as a file: Prometheus' own tool takes and tries them, and the README says what to do for each.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::chart::{chart, rules};
use crate::support::is_there;

/// What the addresses of runbooks begin with; whoever installs the alerts puts the address of a README there.
const README: &str = "https://contacts-gateway.example/README.md";

#[test]
fn prometheus_own_tool_finds_no_fault_with_the_rules() {
    promtool("check", "alerts/contacts-gateway.rules.yaml");
}

#[test]
fn each_alert_fires_for_its_cause_and_is_silent_otherwise() {
    let tests = std::fs::read_to_string(chart("alerts/contacts-gateway.rules.test.yaml")).unwrap();
    for alert in alerts(&rules()) {
        let fires = format!("#{}", alert.to_lowercase());
        assert!(tests.contains(&fires), "no test shows that {alert} fires");
    }
    promtool("test", "alerts/contacts-gateway.rules.test.yaml");
}

#[test]
fn each_alert_has_a_severity_and_a_runbook_in_the_readme() {
    let (rules, readme) = (
        rules(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"),
    );
    let readme = std::fs::read_to_string(readme).unwrap();
    let alerts = alerts(&rules);
    let runbooks = readme.lines().filter_map(|line| line.strip_prefix("#### "));
    let runbooks: BTreeSet<_> = runbooks
        .filter(|name| name.starts_with("Contacts"))
        .collect();
    assert_eq!(runbooks, alerts.iter().copied().collect());
    for rule in rules.split("- alert: ").skip(1) {
        let alert = rule.lines().next().unwrap();
        let of = |name: &str| {
            let value = rule.lines().find_map(|line| line.trim().strip_prefix(name));
            value.unwrap_or_else(|| panic!("{alert} has no {name}"))
        };
        assert!(
            ["critical", "warning", "info"].contains(&of("severity: ")),
            "{alert}"
        );
        assert!(of("summary: ").ends_with('.'), "{alert}");
        assert!(of("description: ").contains("$value") || of("description: ").contains("$labels"));
        let runbook = format!("{README}#{}", alert.to_lowercase());
        assert_eq!(of("runbook_url: "), runbook, "{alert}");
    }
}

fn alerts(rules: &str) -> Vec<&str> {
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<_> = names.collect();
    assert!(names.iter().all(|name| name.starts_with("ContactsGateway")));
    names
}

fn promtool(what: &str, file: &str) {
    if !is_there("promtool") {
        return;
    }
    let said = Command::new("promtool")
        .args([what, "rules"])
        .arg(chart(file))
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:#?}");
}
