//! Classifies a node's errors: the node refuses writes, or one of its keys is damaged.

use redis::RedisError;

/// What an error says about the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeFault {
    /// The node refused this write and refuses every other one.
    RefusesWrites,
    /// A key has a content that the scripts cannot use.
    Damaged,
}

/// The error codes of a Redis that refuses commands for the time being.
const REFUSALS: [&str; 7] =
    ["OOM", "MISCONF", "NOREPLICAS", "READONLY", "LOADING", "BUSY", "MASTERDOWN"];
/// The error codes for the content of a key. The first one comes from the scripts.
const DAMAGES: [&str; 2] = ["DAMAGED", "WRONGTYPE"];

impl NodeFault {
    /// `None` if the error is not a reply of the node, or says nothing about it.
    pub(crate) fn of(error: &RedisError) -> Option<Self> {
        let code = error.code()?;
        Self::of_reply(code, error.detail().unwrap_or_default())
    }

    fn of_reply(code: &str, detail: &str) -> Option<Self> {
        // Before Redis 7, an error inside a script has the code of the script; the text has its own code.
        let in_script = code == "ERR" && detail.contains("user_script");
        let is_one_of = |codes: &[&str]| {
            let has = |word: &str| codes.contains(&word.trim_start_matches('-'));
            codes.contains(&code) || in_script && detail.split_whitespace().any(has)
        };
        if is_one_of(&REFUSALS) {
            Some(Self::RefusesWrites)
        } else if in_script || is_one_of(&DAMAGES) {
            Some(Self::Damaged)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_redis_6_and_7_are_classified() {
        let refused = [
            (
                "OOM",
                "command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:9.",
            ),
            ("LOADING", "Redis is loading the dataset in memory"),
            (
                "ERR",
                "Error running script (call to f_1f): @user_script:9: @user_script: 9: -OOM command not allowed",
            ),
        ];
        for (code, detail) in refused {
            assert_eq!(
                NodeFault::of_reply(code, detail),
                Some(NodeFault::RefusesWrites),
                "{detail}"
            );
        }
        let damaged = [
            ("DAMAGED", "fence:x is no counter"),
            ("WRONGTYPE", "Operation against a key holding the wrong kind of value script: 1f"),
            ("ERR", "user_script:12: attempt to compare number with nil script: 1f"),
            ("ERR", "Error running script (call to f_1f): @user_script:7: WRONGTYPE Operation"),
        ];
        for (code, detail) in damaged {
            assert_eq!(NodeFault::of_reply(code, detail), Some(NodeFault::Damaged), "{detail}");
        }
        assert_eq!(NodeFault::of_reply("NOSCRIPT", "No matching script"), None);
        assert_eq!(NodeFault::of_reply("ERR", "unknown command"), None);
    }

    #[test]
    fn a_lost_connection_is_no_fault() {
        let lost = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(NodeFault::of(&lost), None);
    }
}
