//! Which names are followed.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn every_name_on_the_way_to_a_file_is_followed() {
    let folder = std::env::temp_dir().join(format!("names-{}", std::process::id()));
    fs::create_dir_all(folder.join("..1")).unwrap();
    let folder = fs::canonicalize(folder).unwrap();
    fs::write(folder.join("..1/file"), "").unwrap();
    symlink("./..1", folder.join("..data")).unwrap();
    symlink("..data/file", folder.join("file")).unwrap();
    symlink(folder.join("sub/../file"), folder.join("far")).unwrap();
    symlink("loop", folder.join("loop")).unwrap();
    let within = |file: &str| -> Vec<String> {
        let names = names(&folder.join(file)).into_iter();
        let within = names.filter_map(|name| Some(name.strip_prefix(&folder).ok()?.to_owned()));
        let within = within.map(|name| name.to_str().unwrap().to_owned());
        within.filter(|name| !name.is_empty()).collect()
    };
    assert_eq!(within("file"), ["file", "..data", "..1", "..1/file"]);
    assert_eq!(
        within("far"),
        ["far", "sub", "file", "..data", "..1", "..1/file"]
    );
    assert_eq!(within("none/file"), ["none", "none/file"]);
    assert_eq!(within("loop").len(), 41, "and no more");
    fs::remove_dir_all(&folder).unwrap();
}
