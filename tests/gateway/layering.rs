//! The architecture, as a table, and that the code keeps to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, outermost first. Each may use those below it in this table, and no other.
const TIERS: [(&str, &str); 18] = [
    ("main", "flags, then one call; exit codes"),
    ("cli", "the subcommands, a function each"),
    ("server", "binds the ports, serves connections, drains"),
    ("admin", "the operators' port"),
    ("stack", "the request path, read from top to bottom"),
    ("config", "every tier's settings, put together"),
    ("edge", "HTTP in, HTTP out, never an error out"),
    ("cache", "an ask in, a page out: from memory where it may"),
    ("upstream", "a page's key in, a page out: one signed call"),
    ("fleet", "what replicas share; nothing else knows Redis"),
    ("contacts", "the vocabulary of all of them"),
    ("error", "everything that can go wrong with a request"),
    ("gcra", "so many a minute, evenly"),
    ("clock", "the one place that reads a clock"),
    ("secret", "bytes that cannot be printed"),
    ("setting", "how a value is written in the settings"),
    ("soon", "what is there at once, or is waited for"),
    ("telemetry", "logs, metrics and traces"),
];

/// The lowest ones are one row: leaves, of which only the vocabulary may know others: the errors of its ids, and how a
/// caller's quota counts.
const LEAVES: [&str; 8] = [
    "contacts",
    "error",
    "gcra",
    "clock",
    "secret",
    "setting",
    "soon",
    "telemetry",
];

/// The stand-in vendor is no part of the gateway: nobody sees it but the one who starts it.
const STAND_IN: &str = "vendor";
const STARTS_THE_STAND_IN: [&str; 1] = ["cli"];
const STAND_IN_USES: [&str; 2] = ["contacts", "clock"];

#[test]
fn each_module_uses_only_those_further_in() {
    let uses = uses();
    let broken: Vec<_> = uses.iter().filter(|one| !one.allowed()).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    // That the paths are found at all: a few that everybody expects.
    for (from, to) in [
        ("main", "cli"),
        ("cli", "server"),
        ("stack", "edge"),
        ("edge", "cache"),
        ("cache", "upstream"),
        ("upstream", "contacts"),
    ] {
        let found = uses.iter().any(|one| one.from == from && one.to == to);
        assert!(found, "{from} uses {to}");
    }
}

#[test]
fn no_module_is_left_by_climbing() {
    for source in sources() {
        let out = "super::".repeat(source.depth);
        let climbs = |line: &&str| !line.starts_with(' ') && line.contains(&out);
        let found = without_comments(&source.text);
        assert_eq!(found.lines().find(climbs), None, "{}", source.name());
    }
}

#[test]
fn every_module_has_its_row() {
    let rows = TIERS.iter().map(|(name, _)| *name);
    let rows: BTreeSet<_> = rows.chain([STAND_IN]).map(str::to_owned).collect();
    let modules = sources().into_iter().map(|source| source.module);
    let modules: BTreeSet<_> = modules.filter(|name| name != "lib").collect();
    assert_eq!(modules, rows);
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{}", source.name());
    }
}

#[test]
fn what_has_to_be_read_in_one_go_is_short() {
    for (file, most) in [("stack.rs", 150), ("main.rs", 80)] {
        let lines = read(&folder().join(file)).lines().count();
        assert!(lines <= most, "{file} has {lines} lines, {most} at most");
    }
}

/// That a module names another.
#[derive(Debug)]
struct Use {
    from: String,
    to: String,
    /// File and line.
    #[expect(dead_code, reason = "shown where the test fails")]
    at: String,
}

impl Use {
    fn allowed(&self) -> bool {
        let (from, to) = (self.from.as_str(), self.to.as_str());
        if from == to {
            return true;
        }
        if to == STAND_IN {
            return STARTS_THE_STAND_IN.contains(&from);
        }
        if from == STAND_IN {
            return STAND_IN_USES.contains(&to);
        }
        if LEAVES.contains(&from) {
            return from == "contacts" && ["error", "gcra"].contains(&to);
        }
        let row = |module| TIERS.iter().position(|(name, _)| *name == module);
        matches!((row(from), row(to)), (Some(from), Some(to)) if from < to)
    }
}

/// Every `crate::a` and `crate::{a, b}` in src/, and what the binary names of the library.
fn uses() -> Vec<Use> {
    let mut found = Vec::new();
    for source in sources() {
        let code = without_comments(&source.text);
        let roots = ["crate::", "contacts_gateway::"];
        for (at, root) in roots.into_iter().flat_map(|root| code.match_indices(root)) {
            // `$crate::`, and longer names that end like a root, are other crates' affairs.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = 1 + code[..at].matches('\n').count();
            for to in named(&code[at + root.len()..]) {
                found.push(Use {
                    from: source.module.clone(),
                    to,
                    at: format!("{}:{line}", source.name()),
                });
            }
        }
    }
    found
}

/// The first names of a path, which are several where it goes on in braces.
fn named(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            ',' | '}' if depth == 0 => {
                let one = name(group[start..at].trim());
                names.extend(Some(one).filter(|one| !one.is_empty()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

/// The same lines, without what is said about the code.
fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| {
        let comment = line.trim_start().starts_with("//");
        if comment { "" } else { line }
    });
    code.collect::<Vec<_>>().join("\n")
}

/// A file of src/.
struct Source {
    path: PathBuf,
    /// The module of the crate's root that it belongs to.
    module: String,
    /// How far below the root it stands: 1 for `cache.rs`, 2 for `cache/store.rs`.
    depth: usize,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        let within = self.path.strip_prefix(folder()).unwrap();
        format!("src/{}", within.display())
    }
}

fn sources() -> Vec<Source> {
    let mut folders = vec![folder()];
    let mut found = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let within = path.strip_prefix(folder()).unwrap().with_extension("");
                let first = within.iter().next().unwrap();
                found.push(Source {
                    module: first.to_str().unwrap().to_owned(),
                    depth: within.iter().count(),
                    text: read(&path),
                    path,
                });
            }
        }
    }
    found
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
