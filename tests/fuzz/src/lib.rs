//! What the fuzz targets do with their bytes. The main tests put the corpus through the very same functions.

mod edge;
mod message;

pub mod judge;
pub mod policy;
pub mod route;
