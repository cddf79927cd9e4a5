//! Every command that README.md shows is run, or what it would run is looked at; one that is not known here is a
//! failure, so that no command stands there that nobody has tried.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::Folder;
use crate::support::process::Program;

#[tokio::test]
async fn every_command_in_the_readme_works() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md is there");
    let commands: Vec<_> = blocks(&text)
        .iter()
        .flat_map(|(language, block)| lines(block).into_iter().map(move |line| (*language, line)))
        .collect();
    assert!(!commands.is_empty(), "README.md shows how to run it");
    let mut demo = None;
    for (language, command) in commands {
        match known(&command) {
            Ok(Known::Elsewhere) => assert_eq!(language, "bash", "{command} cannot be run here"),
            Ok(Known::Gateway(flags)) => gateway(&flags).await,
            Ok(Known::Script(path)) => script(&path),
            Ok(Known::Curl(line)) => {
                if demo.is_none() {
                    demo = Some(Demo::start().await);
                }
                curl(demo.as_ref().unwrap(), &line).await;
            }
            Err(why) => panic!("README.md: {command:?}: {why}"),
        }
    }
}

#[test]
fn commands_are_found_and_told_apart() {
    let text = "```sh\n# try\n$ cargo run --release -- demo # now\n\ntests/run\n```\ntext\n\
                ```toml\nx = 1\n```\n  ```bash\n  curl -i \\\n    'http://127.0.0.1:8080/'\n  ```\n";
    let blocks = blocks(text);
    let commands: Vec<_> = blocks.iter().flat_map(|(_, block)| lines(block)).collect();
    let gateway = |flags: &[&str]| Known::Gateway(flags.iter().map(|&f| f.to_owned()).collect());
    let curl = "curl -i 'http://127.0.0.1:8080/'";
    assert_eq!(commands, ["cargo run --release -- demo", "tests/run", curl]);
    for (command, is) in [
        (&*commands[0], gateway(&["demo"])),
        ("cargo run --release --locked", gateway(&[])),
        ("contacts-gateway check", gateway(&["check"])),
        (
            "./target/release/contacts-gateway check",
            gateway(&["check"]),
        ),
        ("tests/run lint", Known::Script("tests/run".into())),
        (".ci/image docker x:dev", Known::Script(".ci/image".into())),
        (curl, Known::Curl(curl.into())),
        ("docker run --rm x:dev", Known::Elsewhere),
    ] {
        assert_eq!(known(command), Ok(is), "{command}");
    }
    for unknown in [
        "rm -rf target",
        "cargo install contacts-gateway",
        "cargo run -- check | less",
        "cargo run --features x -- check",
        "curl http://127.0.0.1:8080/ > file",
        "/bin/true",
    ] {
        assert!(known(unknown).is_err(), "{unknown}");
    }
}

/// A command that this test knows how to try.
#[derive(Debug, PartialEq)]
enum Known {
    /// The program with these flags.
    Gateway(Vec<String>),
    /// A script of the repository's. It is not run: this test is run by one of them, and others need a container engine.
    Script(PathBuf),
    /// A request to a gateway that runs.
    Curl(String),
    /// What needs a cluster or a container engine.
    Elsewhere,
}

fn known(command: &str) -> Result<Known, String> {
    let unquoted: String = command.split('\'').step_by(2).collect();
    if let Some(special) = unquoted.chars().find(|c| "|&;<>$`\"(){}*".contains(*c)) {
        return Err(format!("{special} is for a shell, and this test is none"));
    }
    let words: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
    let program = words.first().map(String::as_str).unwrap_or_default();
    match program {
        "cargo" => match words.iter().position(|word| word == "--") {
            Some(dashes) if own_run(&words[1..dashes]) => {
                Ok(Known::Gateway(words[dashes + 1..].to_vec()))
            }
            None if own_run(&words[1..]) => Ok(Known::Gateway(Vec::new())),
            _ => {
                Err("of cargo, only `cargo run [--release] [--locked] [-- FLAGS]` is known".into())
            }
        },
        "curl" => Ok(Known::Curl(command.to_owned())),
        "docker" | "helm" | "kubectl" => Ok(Known::Elsewhere),
        _ if Path::new(program).file_name() == Some("contacts-gateway".as_ref()) => {
            Ok(Known::Gateway(words[1..].to_vec()))
        }
        _ if program.contains('/') && !program.starts_with('/') => {
            Ok(Known::Script(program.into()))
        }
        _ => Err("teach tests/gateway/readme.rs how to try it".into()),
    }
}

fn own_run(words: &[String]) -> bool {
    let (run, flags) = words.split_first().unzip();
    let flags = flags.into_iter().flatten();
    run.is_some_and(|run| run == "run")
        && flags
            .into_iter()
            .all(|flag| flag == "--release" || flag == "--locked")
}

/// Runs the program as it is told: to its end, or, where it is one that goes on, until it is at work and told to stop.
async fn gateway(flags: &[String]) {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let at_work = match flags.iter().find(|flag| !flag.starts_with('-')) {
        Some(&"vendor") => Some("secret "),
        Some(&"demo" | &"serve") | None => Some("serving"),
        Some(_) => None,
    };
    // The documented ports may be taken on this machine.
    let env = [
        ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    let asks_only = flags
        .iter()
        .any(|flag| ["--help", "--version"].contains(flag));
    let mut program = Program::start(&flags, &env);
    if let Some(at_work) = at_work.filter(|_| !asks_only) {
        program.line(at_work).await;
        program.signal("TERM");
    }
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{flags:?}: {}", ended.err);
}

fn script(path: &Path) {
    let script = root().join(path);
    let there = fs::metadata(&script).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        there.is_file() && there.permissions().mode() & 0o111 == 0o111,
        "{path:?} can be run"
    );
}

/// A demonstration that runs, and the line that it prints.
struct Demo {
    _program: Program,
    url: String,
    admin: String,
    _folder: Folder,
}

impl Demo {
    async fn start() -> Self {
        // Ended without a chance to tidy up, it leaves its files in here.
        let folder = Folder::new();
        let env = [("TMPDIR", folder.path().to_str().unwrap())];
        let mut program = Program::start(&["demo"], &env);
        let admin = program.line("operators").await;
        let line = program.line("curl ").await;
        program.line("serving").await;
        let admin = admin.split_whitespace().nth(1).unwrap();
        Self {
            url: line.split('\'').nth(1).unwrap().to_owned(),
            admin: admin.strip_suffix("/metrics").unwrap().to_owned(),
            _program: program,
            _folder: folder,
        }
    }

    /// A line of the README's, with the demonstration's ports and stream in place of those that are written there.
    fn instead(&self, line: &str) -> String {
        let (gateway, path) = self.url.split_once("/agentassist/").unwrap();
        let own = path
            .split('/')
            .find(|part| part.starts_with("st-"))
            .unwrap();
        let ported = line
            .replace("http://127.0.0.1:8080", gateway)
            .replace("http://localhost:8080", gateway)
            .replace("http://127.0.0.1:9090", &self.admin)
            .replace("http://localhost:9090", &self.admin);
        let id = |c: char| c.is_ascii_alphanumeric() || "._-…".contains(c);
        let mut parts = ported.split("st-");
        let mut all = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // Not every "st-" begins a stream: "request-…" has one too.
            if all.ends_with(['/', '=']) {
                all.push_str(own);
                all.push_str(part.trim_start_matches(id));
            } else {
                all.push_str("st-");
                all.push_str(part);
            }
        }
        all
    }
}

/// Runs it by a shell, which knows about quotes. An answer that says no is a failure.
async fn curl(demo: &Demo, line: &str) {
    let line = demo
        .instead(line)
        .replacen("curl ", "curl --fail --silent --show-error ", 1);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &line])
        .current_dir(root())
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || shell.output())
        .await
        .unwrap()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
}

/// The fenced blocks of commands, and the language that they name.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block = lines.by_ref().take_while(|line| *line != "```").collect();
        if ["sh", "bash", "shell", "console"].contains(&language) {
            blocks.push((language, block));
        }
    }
    blocks
}

/// A block's commands: a line each, unless it ends in a backslash. Comments and prompts are no part of them.
fn lines(block: &[&str]) -> Vec<String> {
    let (mut commands, mut open) = (Vec::new(), String::new());
    for line in block {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        let line = line.split(" # ").next().unwrap_or_default().trim();
        if open.is_empty() && (line.is_empty() || line.starts_with('#')) {
            continue;
        }
        let ended = line.strip_suffix('\\');
        open.push_str(ended.unwrap_or(line));
        if ended.is_none() {
            commands.push(std::mem::take(&mut open));
        }
    }
    assert!(open.is_empty(), "goes on after the block: {open}");
    commands
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
