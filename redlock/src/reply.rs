//! What a node answers to a proposal.

use redis::{ErrorKind, FromRedisValue, ParsingError, RedisError, RedisResult, Value};

use crate::script::{Answer, Vote};

/// What `acquire.lua`, `acquire_one.lua` or `acquire_in_turn.lua` returns.
pub(crate) enum Reply {
    /// All granted, at this time.
    Granted(i64),
    /// See the scripts.
    Table(Vec<i64>),
}

impl FromRedisValue for Reply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match value {
            Value::Int(micros) => Ok(Self::Granted(micros)),
            value => Ok(Self::Table(redis::from_redis_value(value)?)),
        }
    }
}

impl Reply {
    /// The answer to these proposals.
    pub(crate) fn parse(&self, proposals: &[(String, u64)]) -> RedisResult<Answer> {
        let reply = match self {
            Self::Granted(micros) => {
                let fences = proposals.iter().map(|(_, token)| *token).collect();
                return Ok(Answer {
                    micros: *micros,
                    vote: Vote::Granted,
                    fences,
                    next_place: None,
                    first_ticket: None,
                });
            }
            Self::Table(reply) => reply,
        };
        let resources = proposals.len();
        let ([micros, vote, wait, fences @ ..], true) = (&reply[..], reply.len() >= 3 + resources)
        else {
            let error = (ErrorKind::UnexpectedReturnType, "a node's vote is too short");
            return Err(RedisError::from(error));
        };
        let (fences, fair) = fences.split_at(resources);
        let unsigned = |value: &i64| u64::try_from(*value).unwrap_or(0);
        let vote = match vote {
            1 => Vote::Granted,
            0 => Vote::Held { wait_ms: unsigned(wait) },
            -1 => Vote::Stale,
            _ => Vote::Outdated,
        };
        Ok(Answer {
            micros: *micros,
            vote,
            fences: fences.iter().map(unsigned).collect(),
            next_place: fair.first().map(unsigned).filter(|place| *place > 0),
            first_ticket: fair.get(1).map(unsigned).filter(|first| *first > 0),
        })
    }
}
