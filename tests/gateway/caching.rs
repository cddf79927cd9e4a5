//! How long pages are kept, and for whom they do at which age.

mod memory;
