//! The vocabulary: what callers ask for, what identifies a page, what the vendor answered.

mod ask;
mod caller;
pub mod control;
mod date;
mod fields;
mod forget;
mod id;
mod page;

pub(crate) use ask::cut;
pub use ask::{Api, Ask, Forwarded, ListKey, PageKey, Read, Split, Tag};
pub use caller::{Allotment, Caller, Standing};
pub use date::{http_date, unix_seconds};
pub use fields::{Field, Fields, Own};
pub use forget::Forget;
pub use id::{AccountId, ContactListId, Reach, StreamId};
pub use page::{Interim, Millis, Page, SharedPage, opaque};
