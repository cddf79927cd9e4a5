//! A caching reverse proxy for one endpoint of Kore.ai's, `getAllContacts`.

pub mod clock;
pub mod contacts;
pub mod error;
pub mod secret;
