//! The subcommands, a function each.

use std::cell::OnceCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::sources::{Loaded, Sources};
use crate::config::{Config, environment};
use crate::contacts::StreamId;
use crate::server::{Gateway, StartError};
use crate::telemetry::logs::EACH;
use crate::telemetry::{self, Logs};
use crate::upstream::credentials::{By, Credentials};
use crate::vendor::{self, Vendor};

mod demo;
mod health;

/// A caching reverse proxy for Kore.ai's getAllContacts: it holds the secrets, answers from memory and keeps to the
/// vendor's allowance.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// Settings file (TOML); without one the defaults and the environment count
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, then drain; a second signal ends at once (the default)
    Serve,
    /// Read settings and secrets, and show what would be used
    Check,
    /// A stand-in vendor and the gateway before it, in one process on loopback, to try things out
    Demo,
    /// The stand-in vendor alone: it behaves as the vendor's documentation says
    Vendor {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:0")]
        address: SocketAddr,
        /// Calls allowed an account in each window
        #[arg(long, default_value_t = 60)]
        calls: u32,
        /// The window
        #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
        window: Duration,
    },
    /// Ask the admin port whether the gateway is ready: 0 if it is, 1 if not
    Health,
    /// Mint a token for the vendor, for a person with curl
    Token {
        /// The stream to mint it for
        #[arg(long)]
        stream: StreamId,
    },
    /// Print the JSON Schema of the settings file
    Schema,
    /// Print a completion script
    Completions {
        /// For this shell
        shell: Shell,
    },
}

/// `EX_CONFIG` of sysexits.h.
const BAD_SETTINGS: u8 = 78;

/// What ends a subcommand early.
#[derive(Debug)]
enum Failure {
    /// Something in the settings, the environment included, or the secrets they name: a line per mistake.
    Settings(String),
    /// Anything else.
    Other(String),
}

impl Cli {
    /// Runs the subcommand and says how it ended.
    pub fn run(self) -> ExitCode {
        // redis and others build TLS set-ups of their own and take the process's default.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let log = Log::default();
        let ended = match self.command.as_ref().unwrap_or(&Command::Serve) {
            Command::Serve => self.serve(&log),
            Command::Check => self.check(),
            Command::Demo => self.demo(&log),
            Command::Vendor {
                address,
                calls,
                window,
            } => stand_in(*address, *calls, *window),
            Command::Health => self.health(),
            Command::Token { stream } => self.token(stream),
            Command::Schema => print(&format!("{:#}\n", Config::schema())),
            Command::Completions { shell } => completions(*shell),
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Settings(mistakes)) => {
                complain(&mistakes);
                ExitCode::from(BAD_SETTINGS)
            }
            Err(Failure::Other(what)) => {
                complain(&what);
                ExitCode::FAILURE
            }
        }
    }

    fn sources(&self) -> Sources {
        Sources::new(self.config.as_deref(), environment())
    }

    fn config(&self) -> Result<Config, Failure> {
        settings(&self.sources())
    }

    fn serve(&self, log: &Log) -> Result<(), Failure> {
        let sources = self.sources();
        let config = settings(&sources)?;
        let clock = Clock::system();
        let logs = log.start(&config, &clock)?;
        raise_limit_of_files(config.listen.max_connections);
        let start = async {
            // Until it is served nothing has to come of this, but it is not to end the process.
            let _hangups = signal(SignalKind::hangup()).map_err(other)?;
            let gateway = Gateway::bind(config, clock).await?;
            Ok(gateway.following(sources, Some(logs))?)
        };
        block_on(until_signal(Box::pin(start)))
    }

    fn check(&self) -> Result<(), Failure> {
        let loaded = Loaded::of(self.config()?).map_err(StartError::from)?;
        let (config, credentials) = (loaded.config, loaded.credentials);
        let mut shown = config.to_toml();
        for credential in credentials.iter() {
            shown += &format!("# {credential}\n");
        }
        for warning in credentials.warnings() {
            shown += &format!("# warning: {warning}\n");
        }
        print(&shown)
    }

    fn demo(&self, log: &Log) -> Result<(), Failure> {
        block_on(demo::run(self.config.as_deref(), log))
    }

    fn health(&self) -> Result<(), Failure> {
        let admin = self.config()?.admin;
        block_on(async { health::ask(&admin).await.map_err(Failure::Other) })
    }

    fn token(&self, stream: &StreamId) -> Result<(), Failure> {
        let credentials = Credentials::load(&self.config()?.credentials);
        let credentials = credentials.map_err(|mistakes| {
            let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            Failure::Settings(mistakes.join("\n"))
        })?;
        let credential = credentials
            .find(stream.as_str())
            .ok_or_else(|| Failure::Other(crate::error::Error::StreamUnknown.to_string()))?;
        block_on(async {
            let token = credential
                .token(By::Own, &Clock::system())
                .await
                .map_err(other)?;
            let text = String::from_utf8_lossy(token.value.as_bytes()).into_owned();
            print(&format!("{text}\n"))
        })
    }
}

/// What ended the program, a line each: in the log where there is one already.
fn complain(what: &str) {
    if tracing::dispatcher::has_been_set() {
        for line in what.lines() {
            error!(name: EACH, error = line, "ended in failure");
        }
    } else {
        let _ = writeln!(io::stderr(), "{what}");
    }
}

/// Each connection is an open file. The system lets a process have more of them than it begins with, if it asks.
fn raise_limit_of_files(connections: NonZeroUsize) {
    // Ports, calls to the vendor, the shared store, and files that are read.
    const OTHERS: usize = 100;
    let wanted = connections.saturating_add(OTHERS).get() as u64;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(most) if most < wanted => warn!(
            most,
            wanted,
            "fewer files may be open than listen.max_connections needs, and then nobody can connect, operators \
             neither: raise the limit (ulimit -n, LimitNOFILE=), or lower max_connections"
        ),
        Ok(_) => {}
        Err(error) => warn!(%error, "the limit of open files could not be raised"),
    }
}

/// The log, once there is one. However the program ends, by a defect too, its last lines come out.
#[derive(Default)]
struct Log(OnceCell<Logs>);

impl Log {
    fn start(&self, config: &Config, clock: &Clock) -> Result<Logs, Failure> {
        let clock = clock.clone();
        let now = Arc::new(move || clock.both());
        let logs = telemetry::start(&config.telemetry, now).map_err(other)?;
        Ok(self.0.get_or_init(|| logs).clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(logs) = self.0.get() {
            logs.close();
        }
    }
}

fn settings(sources: &Sources) -> Result<Config, Failure> {
    let config = sources.config();
    config.map_err(|mistakes| Failure::Settings(mistakes.to_string()))
}

fn stand_in(address: SocketAddr, calls: u32, window: Duration) -> Result<(), Failure> {
    block_on(async {
        let (mut settings, credentials) = vendor::Settings::demo().map_err(other)?;
        settings.address = address;
        settings.limit.calls = calls;
        settings.limit.window = window;
        let vendor = Vendor::start(settings).map_err(other)?;
        print(&format!(
            "A stand-in for the vendor: it behaves as the vendor's documentation says, and holds made-up contacts.\n\
             url        {}\nstream     {}\nclient_id  {}\nsecret     {}\n",
            vendor.url(),
            credentials.stream,
            credentials.client_id,
            credentials.secret,
        ))?;
        let mut signals = Signals::new()?;
        signals.next().await;
        vendor.shutdown().await;
        Ok(())
    })
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "contacts-gateway", &mut script);
    io::stdout().write_all(&script).map_err(other)
}

/// Starts, serves until a signal comes, then drains. A second signal ends the process at once.
async fn until_signal(
    start: impl Future<Output = Result<Gateway, Failure>>,
) -> Result<(), Failure> {
    // First of all: a signal that nobody waits for ends the process where it stands, or is passed over if that is a
    // container's first.
    let mut signals = Signals::new()?;
    let gateway = tokio::select! {
        gateway = start => gateway?,
        signal = signals.next() => {
            info!("{signal}: leaving before anything was served");
            return Ok(());
        }
    };
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let leave = async {
        // An error says that nobody will tell any more, which cannot be before the end.
        let _ = told.await;
    };
    let signalled = async {
        // Not within the macro, which does not evaluate what it does not log.
        let signal = signals.next().await;
        info!("{signal}: leaving");
        let _ = tell.send(());
        signals.next().await
    };
    tokio::select! {
        ended = gateway.run(leave) => ended.map_err(other),
        signal = signalled => Err(Failure::Other(format!("a second signal, {signal}: ended at once"))),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(other)?,
            interrupt: signal(SignalKind::interrupt()).map_err(other)?,
        })
    }

    /// The next of either.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime().enable_all().build().map_err(other)?;
    let ended = runtime.block_on(work);
    // What is still running belongs to connections that were cut off.
    runtime.shutdown_background();
    ended
}

/// As many threads as there are CPUs, or as the container's limit is worth of them: the standard library knows of both.
///
/// One CPU has no use for a scheduler of many: 6,891 instructions for a request to bare hyper, not 7,650. For more than one,
/// a runtime of one thread for each, with a listener of its own (SO_REUSEPORT), was no better: on two CPUs, 64 connections,
/// CPU time for a request 6.5 µs, not 6.4, and 99 of 100 answered within 7.0 ms, not 6.1, because the kernel deals connections
/// out unevenly and none moves. Medians of twelve rounds, taken in turn.
fn runtime() -> runtime::Builder {
    match std::thread::available_parallelism() {
        Ok(NonZeroUsize::MIN) => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(other)
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Unusable(_) => Self::Settings(error.to_string()),
            StartError::Bind { .. } | StartError::Signals(_) | StartError::Metrics(_) => {
                Self::Other(error.to_string())
            }
        }
    }
}
