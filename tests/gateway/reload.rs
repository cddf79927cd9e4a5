//! Settings and secrets that change while the gateway serves.

mod files;
mod program;
mod secrets;
mod settings;
mod state;
