//! The value that a holder leaves behind for a resource.

/// The value that removes a resource's value from the nodes. It carries the token of its holder as any
/// other value does, so a late holder cannot restore the old value.
pub const REMOVED: &str = "\0";

/// The value that the holder of `token` left behind for a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The fencing token of the lease that wrote the value; 0: none is known.
    pub token: u64,
    /// The value, if that lease left one; [`REMOVED`] if it removed the value.
    pub value: Option<String>,
}
