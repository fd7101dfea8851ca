//! The notice of a release, as `release.lua` writes it.

use crate::protocol::LateGrant;

/// What became of a resource that was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextOwner<'a> {
    /// The resource is free.
    Nobody,
    /// Another lease has the resource already: it was renewed, or the lease that ended was over.
    Present,
    /// The resource is reserved for a waiter that needs several resources.
    Reserved,
    /// The node granted the resource to this owner.
    Granted(&'a str),
}

/// One notice of one node.
pub(super) struct Notice<'a> {
    pub(super) resource: &'a str,
    /// The token of the lease that ended; 0: a round was given up.
    pub(super) token: u64,
    pub(super) next_owner: NextOwner<'a>,
    pub(super) grant: LateGrant,
    /// The value that the holder left behind; empty: none.
    pub(super) value: &'a str,
}

impl<'a> Notice<'a> {
    fn parse(text: &'a str, node: usize) -> Option<Self> {
        let mut parts = text.splitn(7, '\n');
        let mut next = || parts.next();
        let (resource, token, next_owner) = (next()?, next()?, next()?);
        let (granted, next_ticket, micros, value) = (next()?, next()?, next()?, next()?);
        let next_ticket = next_ticket.parse().ok().filter(|ticket| *ticket > 0);
        let token_of_grant = granted.parse().ok()?;
        let grant =
            LateGrant { node, token: token_of_grant, next_ticket, micros: micros.parse().ok()? };
        let next_owner = match next_owner {
            "" => NextOwner::Nobody,
            "-" => NextOwner::Reserved,
            "+" => NextOwner::Present,
            owner => NextOwner::Granted(owner),
        };
        Some(Self { resource, token: token.parse().ok()?, next_owner, grant, value })
    }
}

/// The notices of one message, each preceded by its length. Skips what cannot be parsed.
pub(super) fn notices(message: &str, node: usize) -> impl Iterator<Item = Notice<'_>> {
    let mut rest = message;
    let texts = std::iter::from_fn(move || {
        let (length, text) = rest.split_once(':')?;
        let (notice, after) = text.split_at_checked(length.parse().ok()?)?;
        rest = after;
        Some(notice)
    });
    texts.filter_map(move |text| Notice::parse(text, node))
}
