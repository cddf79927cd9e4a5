//! A caching reverse proxy for one endpoint of Kore.ai's, `getAllContacts`.
//!
//! The vendor allows 60 calls a minute per account and 50 contacts a call, to everybody together. The gateway stands
//! beside each service, holds the secrets, answers the vendor's own URL, and asks the vendor only when it must.
//!
//! # How a request goes
//!
//! [`stack`] is the page to read first: the whole path, rung by rung. A request narrows three times on its way in,
//! each time into a type that leaves out what is no longer of interest, and what comes back widens in the same way:
//!
//! ```text
//! caller      http::Request ─┐                             ┌─▶ http::Response
//!                            ▼                             │
//! edge        who asks, and what: quotas, ids, rights  problems, Age, Cache-Status, 304
//!                           Ask ─┐                     ┌─ Answer
//!                                ▼                     │
//! cache           fresh? at once. usable? at once, and refreshed. else one fetch for all who wait
//!                              Fetch ─┐            ┌─ Page
//!                                     ▼            │
//! upstream              a signed call, judged: success, the vendor's no, or a failure
//!                         http::Request ─┐   ┌─▶ http::Response
//! vendor                                 └───┘
//! ```
//!
//! - A purge is an [`Ask`](contacts::Ask) but never a [`PageKey`](contacts::PageKey): by its type it cannot reach the vendor.
//! - A connection over TLS gives each of its requests who is at the other end ([`edge::peer`]). Which caller that is, is found out for
//!   each request anew ([`edge::identify`]), so that open connections follow the settings.
//! - The vendor's request is built from a `PageKey` alone, so nothing that is not in the key reaches the vendor.
//! - A fetch is a task of its own. Callers wait for it; none of them owns it.
//! - A [`Fetch`](upstream::Fetch) has a [`Permit`](upstream::allowance::Permit), which only the account's [`allowance`](upstream::allowance)
//!   gives out: by its type no call to the vendor goes uncounted, or before its turn.
//! - Replicas that share a store act as one gateway. What they share is [`fleet`]'s: nothing else knows Redis, and whoever
//!   is alone uses the same paths without it.
//! - Every failure is an [`Error`](error::Error), named by what happened. One rung, [`edge::rescue`], turns them into statuses.
//! - Whether a request is traced is decided once, outermost ([`edge::trace`]); what further in has to say goes onto the span
//!   that is under way, if there is one ([`telemetry::traces`]).
//! - Time is an argument. Only [`clock`] reads one.
//! - Settings change while requests go on ([`config::watch`]): a whole new path is built and put in place of the other. A request
//!   goes by the one it came in by, a fetch by the one there is when it begins ([`cache::coalesce::Ways`]).
//!
//! # Where things are
//!
//! Modules stand in the order in which they may use each other: each knows only those after it.

pub mod cli;

pub mod admin;
pub mod server;

pub mod stack;

pub mod config;

pub mod edge;

pub mod cache;

pub mod upstream;

pub mod fleet;

pub mod clock;
pub mod contacts;
pub mod error;
pub mod gcra;
pub mod secret;
pub mod setting;
pub mod soon;
pub mod telemetry;

pub mod vendor;
