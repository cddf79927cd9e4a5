//! What a purge is about.

use super::{AccountId, ContactListId, ListKey, StreamId};

/// What a forget is about. Parts that are not named stand for all.
#[derive(Clone, Debug)]
pub struct Forget {
    /// The app.
    pub stream: StreamId,
    /// One of its lists.
    pub list: Option<ContactListId>,
    /// One of the accounts.
    pub account: Option<AccountId>,
}

impl Forget {
    /// The list, where it is one of one account.
    pub fn one_list(&self) -> Option<ListKey> {
        Some(ListKey {
            stream: self.stream.clone(),
            list: self.list.clone()?,
            account: self.account.clone()?,
        })
    }

    /// Whether a list is among them.
    pub fn means(&self, key: &ListKey) -> bool {
        key.stream == self.stream
            && self.list.as_ref().is_none_or(|list| *list == key.list)
            && self
                .account
                .as_ref()
                .is_none_or(|account| *account == key.account)
    }
}

impl From<ListKey> for Forget {
    fn from(key: ListKey) -> Self {
        Self {
            stream: key.stream,
            list: Some(key.list),
            account: Some(key.account),
        }
    }
}
