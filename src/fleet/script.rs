//! The scripts that the store runs, each of them atomic: what replicas have to agree on is decided there.

use redis::{Cmd, FromRedisValue, Value, cmd};

/// A script, and the hash that the store knows it by.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Scripts {
    /// I am here: who else is?
    pub(super) beat: Script,
    /// A page for the others.
    pub(super) keep: Script,
    /// A forget.
    pub(super) forget: Script,
    /// Forgets that the store has lost.
    pub(super) remember: Script,
    /// The pages of a list go.
    pub(super) drop: Script,
    /// May a call go?
    pub(super) decide: Script,
    /// A call has ended.
    pub(super) settle: Script,
    /// A replica tells what it knows of an account.
    pub(super) join: Script,
    /// A fetch has brought nothing to share.
    pub(super) release: Script,
}

/// A script that begins with what is known of the account.
macro_rules! about_an_account {
    ($name:literal) => {
        concat!(
            include_str!("scripts/account.lua"),
            include_str!(concat!("scripts/", $name, ".lua"))
        )
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            beat: Script::of(include_str!("scripts/beat.lua")),
            keep: Script::of(include_str!("scripts/keep.lua")),
            forget: Script::of(include_str!("scripts/forget.lua")),
            remember: Script::of(include_str!("scripts/remember.lua")),
            drop: Script::of(include_str!("scripts/drop.lua")),
            decide: Script::of(about_an_account!("decide")),
            settle: Script::of(about_an_account!("settle")),
            join: Script::of(about_an_account!("join")),
            release: Script::of(include_str!("scripts/release.lua")),
        }
    }
}

impl Script {
    fn of(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    pub(super) fn by_hash(&self, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
        invoke("EVALSHA", &self.hash, keys, arguments)
    }

    pub(super) fn whole(&self, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
        invoke("EVAL", self.text, keys, arguments)
    }
}

fn invoke(how: &str, script: &str, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
    let mut command = cmd(how);
    command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}

/// Arguments of a script, as bytes.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { vec![$($argument.to_string().into_bytes()),*] };
}
pub(super) use arguments;

/// What a script answered, item by item. An item that is not there, or is something else, is nothing.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(super) fn new(value: Value) -> Self {
        let items = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        Self(items.into_iter())
    }

    pub(super) fn next<T: FromRedisValue>(&mut self) -> Option<T> {
        T::from_redis_value(self.0.next()?).ok()
    }
}
