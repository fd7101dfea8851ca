//! The scripts that run on a node: their text, the keys they use, and the calls that run them.
//!
//! The head of each `.lua` file names its keys, arguments and return values. This module knows the
//! messages of `protocol` and nothing of nodes or leases.

mod call;
pub(crate) mod keys;
mod library;
mod reply;

pub(crate) use call::ScriptCall;
pub(crate) use library::Scripts;
pub(crate) use reply::RawVoteReply;
