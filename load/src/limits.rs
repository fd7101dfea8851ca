//! The limits of this process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::terminal::note;

/// Allows as many open files as the system lets this process have: each user has a connection. Without it, users who find
/// no file fail as lost answers, which the report shows.
pub fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        note(format_args!("at most {soft} connections at once: {error}"));
    }
}
