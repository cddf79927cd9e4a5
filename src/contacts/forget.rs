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
        let (list, account) = (self.list.as_ref()?, self.account.as_ref()?);
        ListKey::new(self.stream.as_str(), list.as_str(), account.as_str()).ok()
    }

    /// Whether a list is among them.
    pub fn means(&self, key: &ListKey) -> bool {
        let (list, account) = (self.list.as_ref(), self.account.as_ref());
        self.stream.as_str() == key.stream()
            && list.is_none_or(|list| list.as_str() == key.list())
            && account.is_none_or(|account| account.as_str() == key.account())
    }
}

impl From<ListKey> for Forget {
    fn from(key: ListKey) -> Self {
        Self {
            stream: StreamId::known(key.stream()),
            list: Some(ContactListId::known(key.list())),
            account: Some(AccountId::known(key.account())),
        }
    }
}
