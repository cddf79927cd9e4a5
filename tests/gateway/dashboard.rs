//! The dashboard as a file: complete, in order, and about metrics that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::chart::{chart, dashboard, panels, queries, rules};
use crate::support::is_there;

#[test]
fn the_dashboard_is_what_its_generator_writes() {
    if !is_there("python3") {
        return;
    }
    let generator = chart("../dashboard/generate");
    let written = Command::new("python3").arg(generator).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    let committed = std::fs::read(chart("dashboards/contacts-gateway.json")).unwrap();
    assert!(
        written.stdout == committed,
        "run helm/dashboard/generate > helm/contacts-gateway/dashboards/contacts-gateway.json"
    );
}

#[test]
fn the_dashboard_can_be_installed_anywhere() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "contacts-gateway");
    assert_eq!(
        dashboard["graphTooltip"], 1,
        "a crosshair that all panels share"
    );
    assert_eq!(dashboard["id"], Value::Null, "an id is an instance's");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["datasource", "namespace", "pod", "account"]);
    assert_eq!(variables[0]["type"], "datasource");
    let sources = panels().into_iter().chain(variables[1..].iter().cloned());
    for one in sources.filter(|one| one["type"] != "row") {
        let targets = one["targets"].as_array().cloned().unwrap_or_default();
        for it in targets.iter().chain([&one]) {
            let source = &it["datasource"];
            assert_eq!(
                (&source["type"], &source["uid"]),
                (&"prometheus".into(), &"${datasource}".into()),
                "{it}"
            );
        }
    }
}

#[test]
fn every_panel_says_what_is_normal_and_what_its_values_are() {
    for panel in panels().iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let says = panel["description"].as_str().unwrap();
        let enough = says.contains("Normal:") || says.contains("normal");
        assert!(enough && says.len() > 60, "{title}: {says}");
        let defaults = &panel["fieldConfig"]["defaults"];
        assert!(defaults["unit"].is_string(), "{title} has no unit");
        assert!(!queries(panel).is_empty(), "{title} asks nothing");
        let coloured = defaults["color"].is_object() || panel["type"] == "table";
        assert!(coloured, "{title} has no colours");
    }
}

#[test]
fn panels_have_ids_and_places_of_their_own_and_the_first_row_fits_a_screen() {
    let (mut ids, mut taken, mut titles) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    let mut rows = Vec::new();
    for panel in &panels() {
        let title = panel["title"].as_str().unwrap().to_owned();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert!(
            titles.insert(title.clone()),
            "two panels are called {title}"
        );
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is too wide");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let before = taken.insert(place, title.clone());
            assert_eq!(before, None, "under {title}");
        }
        if panel["type"] == "row" {
            rows.push((title, y));
        }
    }
    let titles: Vec<_> = rows.iter().map(|(title, _)| &**title).collect();
    let wanted = [
        "Answers",
        "Allowance",
        "Vendor",
        "Cache",
        "Callers",
        "Process",
    ];
    assert_eq!(titles, wanted);
    // 1920×1080 shows twenty lines of the grid.
    assert!(rows[1].1 <= 20, "{rows:?}");
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_is_one_that_the_gateway_has() {
    let there: BTreeSet<_> = include_str!("metrics.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    let mut missing = BTreeSet::new();
    let panels = panels();
    let asked = panels.iter().flat_map(queries).map(str::to_owned);
    let asked: Vec<_> = asked.chain([rules()]).collect();
    for name in asked.iter().flat_map(|text| metrics(text)) {
        let family = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|name| there.contains(name)));
        if !there.contains(family.unwrap_or(name)) {
            missing.insert(name);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// The metrics that a text names. What rules record has colons in its name.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    names.filter(|name| {
        let ours = [
            "contacts_gateway_",
            "http_server_",
            "http_client_",
            "process_",
        ];
        !name.contains(':') && ours.iter().any(|start| name.starts_with(start))
    })
}
