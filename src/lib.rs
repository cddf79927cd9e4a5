//! A caching reverse proxy for one endpoint of Kore.ai's, `getAllContacts`.

pub mod admin;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contacts;
pub mod edge;
pub mod error;
pub mod secret;
pub mod server;
pub mod setting;
pub mod stack;
pub mod telemetry;
pub mod upstream;
pub mod vendor;
