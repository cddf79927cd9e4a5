//! What labels can be: the values, where the code counts by them.

/// What answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBy {
    /// Memory, with a fresh page.
    Hit,
    /// Memory, with a page that is no longer fresh.
    Stale,
    /// A call to the vendor.
    Miss,
    /// Somebody else's call.
    Collapsed,
    /// A call that said that the page still holds.
    Revalidated,
    /// A call although memory would have done, because the caller asked for a newer page.
    Bypass,
}

impl ReadBy {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 6] = [
        Self::Hit,
        Self::Stale,
        Self::Miss,
        Self::Collapsed,
        Self::Revalidated,
        Self::Bypass,
    ];

    /// In metrics and in traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Revalidated => "revalidated",
            Self::Bypass => "bypass",
        }
    }
}

/// How reading settings and secrets again ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// They are in effect.
    Ok,
    /// They cannot be used; those before them stay in effect.
    Failed,
}

impl Reload {
    /// In metrics and in `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// How shaking hands with a caller, by TLS, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Requests can come.
    Ok,
    /// Its certificate was not taken, or it showed none.
    ClientCertificate,
    /// It did not take ours.
    ServerCertificate,
    /// In any other way, or not in time.
    Failed,
}

impl Handshake {
    /// All there are.
    pub(super) const ALL: [Self; 4] = [
        Self::Ok,
        Self::ClientCertificate,
        Self::ServerCertificate,
        Self::Failed,
    ];

    /// In metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientCertificate => "client_certificate",
            Self::ServerCertificate => "server_certificate",
            Self::Failed => "failed",
        }
    }
}
