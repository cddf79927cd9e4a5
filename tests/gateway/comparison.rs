//! `tests/bench/run`, which compares the gateway with others, is in order. The figures are nobody's business here.

use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use crate::support::{is_there, left_out};

#[test]
fn the_comparison_has_everybody_answered_right() {
    compare("stampede", "Checked: every caller got the vendor's page");
}

#[test]
fn the_comparison_sees_the_gateway_start() {
    compare("start", "Checked: 1 of 1 starts");
}

/// Of the gateway alone, once.
fn compare(what: &str, checked: &str) {
    if !is_there("python3") || !is_there("taskset") {
        return;
    }
    if available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        left_out("two cores");
        return;
    }
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/run");
    let compared = Command::new(run)
        .args([what, "--only", "", "--rounds", "1", "--binary"])
        .arg(env!("CARGO_BIN_EXE_contacts-gateway"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stdout);
    assert!(compared.status.success(), "{compared:?}");
    assert!(said.contains(checked), "{said}");
}
