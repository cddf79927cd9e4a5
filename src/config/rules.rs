//! Rules that hold between keys, and for a value in its place.

use std::net::SocketAddr;

use http::header::AUTHORIZATION;
use humantime::format_duration;
use toml::Value;

use super::Config;
use super::layers::Layers;
use super::mistake::Way;
use crate::edge::callers;
use crate::upstream::{self, allowance::Settings as Allowance};

/// Lets defaults follow what is written: who writes few calls need not write a floor below them.
pub(super) fn follow(layers: &mut Layers) {
    let written = layers.place(&key("allowance", "floor")).is_some();
    let allowance = layers.table.get_mut("allowance");
    if let Some(Value::Table(allowance)) = allowance.filter(|_| !written) {
        let number = |key| allowance.get(key).and_then(Value::as_integer);
        if let (Some(calls), Some(floor)) = (number("calls"), number("floor"))
            && (1..floor).contains(&calls)
        {
            allowance.insert("floor".into(), calls.into());
        }
    }
}

/// Notes each rule that is broken, where one of its keys is written.
pub(super) fn check(config: &Config, layers: &mut Layers) {
    let Config {
        listen,
        admin,
        upstream,
        cache,
        callers,
        allowance,
        ..
    } = config;

    for (table, less, less_for, more, more_for) in [
        (
            "cache",
            "fresh_for",
            cache.fresh_for,
            "usable_for",
            cache.usable_for,
        ),
        (
            "cache",
            "usable_for",
            cache.usable_for,
            "stale_if_error",
            cache.stale_if_error,
        ),
        (
            "upstream",
            "connect_timeout",
            upstream.connect_timeout,
            "timeout",
            upstream.timeout,
        ),
    ] {
        let broken = less_for > more_for;
        let (less_for, more_for) = (format_duration(less_for), format_duration(more_for));
        note(
            layers,
            broken,
            [&key(table, less), &key(table, more)],
            [
                format!("{less_for} is more than {table}.{more}, which is {more_for}"),
                format!("{more_for} is less than {table}.{less}, which is {less_for}"),
            ],
        );
    }

    let (calls, floor) = (allowance.calls.get(), allowance.floor.get());
    if calls > Allowance::MOST_CALLS {
        let most = Allowance::MOST_CALLS;
        let what = format!("{calls} is more than {most}: memory is kept for each call of a window");
        layers.note_at(&key("allowance", "calls"), what);
    }
    let (reserve, hourly) = (allowance.reserve, allowance.hourly);
    for (broken, name, value, than, otherwise) in [
        (floor > calls, "floor", floor, "more than", "less than"),
        (
            reserve >= calls,
            "reserve",
            reserve,
            "not less than",
            "not more than",
        ),
        (
            hourly > 0 && hourly < calls,
            "hourly",
            hourly,
            "less than",
            "more than",
        ),
    ] {
        note(
            layers,
            broken,
            [&key("allowance", name), &key("allowance", "calls")],
            [
                format!("{value} is {than} allowance.calls, which is {calls}"),
                format!("{calls} is {otherwise} allowance.{name}, which is {value}"),
            ],
        );
    }

    let same = same_port(listen.address, admin.address);
    note(
        layers,
        same,
        [&key("admin", "address"), &key("listen", "address")],
        [
            format!("takes the port of listen.address, {}", listen.address),
            format!("takes the port of admin.address, {}", admin.address),
        ],
    );

    if let Some(index) = authorization(upstream) {
        let at = key("upstream", "forward_headers").index(index);
        if !upstream.accept_any_body {
            layers.note_at(
                &at,
                "\"Authorization\" is never sent on to the vendor, which is shown only the gateway's own token: leave \
                 it out, or set upstream.accept_any_body if this is an upstream of another kind",
            );
        } else if callers.iter().any(|caller| caller.token_sha256.is_some()) {
            layers.note_at(
                &at,
                "\"Authorization\" is where callers show the gateway their tokens, which are not for others: leave it \
                 out, or configure no [[callers]] with token_sha256",
            );
        }
    }

    tell_apart(callers, listen.tls.asks_for_certificates(), layers);
    for (table, tls) in [("listen", &listen.tls), ("admin", &admin.tls)] {
        for (name, file) in [
            ("certificate_file", &tls.certificate_file),
            ("key_file", &tls.key_file),
        ] {
            let at = key(table, "tls").key(name);
            if tls.is_on() && file.as_os_str().is_empty() && !in_doubt(layers, &at) {
                layers.note_at(
                    &at,
                    "is empty: TLS needs certificate_file and key_file, cleartext none of the keys of tls",
                );
            }
        }
    }

    let max_bytes = key("cache", "max_bytes");
    let small = || "is less than any page takes: write a size such as \"64MiB\"".to_owned();
    note(
        layers,
        cache.max_bytes < LEAST_CACHE,
        [&max_bytes, &max_bytes],
        [small(), small()],
    );
}

/// Notes callers that cannot be told apart, or not be known at all.
fn tell_apart(callers: &[callers::Settings], certificates: bool, layers: &mut Layers) {
    let all = Way::default().key("callers");
    // Where an entry is wrong by itself it was left out here, and the others do not stand where they were written.
    if in_doubt(layers, &all) {
        return;
    }
    for (i, caller) in callers.iter().enumerate() {
        let at = all.index(i);
        match (&caller.token_sha256, &caller.certificate) {
            (None, None) => layers.note_at(
                &at,
                "nothing tells who this is: write token_sha256, or certificate",
            ),
            (Some(_), Some(_)) => layers.note_at(
                &at.key("certificate"),
                "stands beside token_sha256: write one of them, or two callers",
            ),
            (None, Some(_)) if !certificates => layers.note_at(
                &at.key("certificate"),
                "is never seen: name the authorities of callers' certificates in listen.tls.client_ca_file",
            ),
            (Some(_), None) | (None, Some(_)) => {}
        }
        let before = &callers[..i];
        let first = |same: &dyn Fn(&callers::Settings) -> bool| before.iter().position(same);
        for (key, same) in [
            ("name", first(&|other| other.name == caller.name)),
            (
                "token_sha256",
                caller
                    .token_sha256
                    .and_then(|token| first(&|other| other.token_sha256 == Some(token))),
            ),
            (
                "certificate",
                caller
                    .certificate
                    .as_ref()
                    .and_then(|name| first(&|other| other.certificate.as_ref() == Some(name))),
            ),
        ] {
            if let Some(first) = same {
                layers.note_at(
                    &at.key(key),
                    format!("is the same as that of callers[{first}]: give each caller its own"),
                );
            }
        }
    }
}

/// Where `Authorization` is among the fields that are sent on.
pub(super) fn authorization(upstream: &upstream::Settings) -> Option<usize> {
    let mut fields = upstream.forward_headers.iter();
    fields.position(|field| *field.name() == AUTHORIZATION)
}

/// Notes a broken rule between two keys: at the first that somebody wrote, with the text about that one.
///
/// Nothing is noted about a key that is wrong by itself, nor where a file could not be read: the rule may be
/// kept by what was meant.
fn note(layers: &mut Layers, broken: bool, keys: [&Way; 2], whats: [String; 2]) {
    if !broken || keys.into_iter().any(|key| in_doubt(layers, key)) {
        return;
    }
    let [first, second] = whats;
    match layers.place(keys[0]).is_none() && layers.place(keys[1]).is_some() {
        true => layers.note_at(keys[1], second),
        false => layers.note_at(keys[0], first),
    }
}

/// Whether something is wrong with a key itself, with what stands around it, or in it.
fn in_doubt(layers: &Layers, key: &Way) -> bool {
    let key = key.to_string();
    let within = |one: &str, other: &str| {
        let rest = one.strip_prefix(other);
        other.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let mut mistakes = layers.mistakes.iter();
    mistakes.any(|mistake| within(&key, &mistake.key) || within(&mistake.key, &key))
}

fn same_port(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() != 0
        && one.port() == other.port()
        && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn key(table: &str, key: &str) -> Way {
    Way::default().key(table).key(key)
}

const LEAST_CACHE: u64 = 1024;
