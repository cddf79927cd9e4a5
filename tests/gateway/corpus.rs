//! The fuzz targets' corpus, through the fuzz targets' functions.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "a library's, where there is a fuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn whatever_the_vendor_answers_only_what_may_be_is_passed_on() {
    each("judge", fuzz::judge::fuzz);
}

#[test]
fn whatever_fields_a_page_has_the_policy_keeps_its_own_rules() {
    each("policy", fuzz::policy::fuzz);
}

#[test]
fn whatever_a_caller_sends_what_is_let_in_can_be_asked_of_the_vendor() {
    each("route", fuzz::route::fuzz);
}

fn each(target: &str, fuzz: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    // What libFuzzer added of itself has no ending.
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    assert!(files.len() > 20, "{target}: {} files", files.len());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let outcome = std::panic::catch_unwind(|| fuzz(&bytes));
        assert!(outcome.is_ok(), "{}", file.display());
    }
}
