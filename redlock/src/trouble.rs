//! What a node's error says about the node: that it takes no writes now, or that a key of it holds
//! something else than it should.

use redis::RedisError;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It did nothing, and will take no other write either.
    RefusesWrites,
    /// A script could not go on with what a key holds.
    Damaged,
}

/// The codes of Redis's errors for commands that it does not execute now.
const REFUSALS: [&str; 7] =
    ["OOM", "MISCONF", "NOREPLICAS", "READONLY", "LOADING", "BUSY", "MASTERDOWN"];
/// The codes of errors that come of what a key holds; the first is the scripts' own.
const DAMAGES: [&str; 2] = ["DAMAGED", "WRONGTYPE"];

impl Trouble {
    /// `None`: the error is no answer of the node, or says nothing about it.
    pub(crate) fn of(error: &RedisError) -> Option<Self> {
        let code = error.code()?;
        Self::of_answer(code, error.detail().unwrap_or_default())
    }

    fn of_answer(code: &str, detail: &str) -> Option<Self> {
        // Before Redis 7 an error inside a script has the script's code, and its own in the text.
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
    fn answers_of_redis_6_and_7_are_told_apart() {
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
            assert_eq!(Trouble::of_answer(code, detail), Some(Trouble::RefusesWrites), "{detail}");
        }
        let damaged = [
            ("DAMAGED", "fence:x is no counter"),
            ("WRONGTYPE", "Operation against a key holding the wrong kind of value script: 1f"),
            ("ERR", "user_script:12: attempt to compare number with nil script: 1f"),
            ("ERR", "Error running script (call to f_1f): @user_script:7: WRONGTYPE Operation"),
        ];
        for (code, detail) in damaged {
            assert_eq!(Trouble::of_answer(code, detail), Some(Trouble::Damaged), "{detail}");
        }
        assert_eq!(Trouble::of_answer("NOSCRIPT", "No matching script"), None);
        assert_eq!(Trouble::of_answer("ERR", "unknown command"), None);
    }

    #[test]
    fn a_lost_connection_says_nothing() {
        let lost = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(Trouble::of(&lost), None);
    }
}
