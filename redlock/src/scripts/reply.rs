//! Decodes what the scripts return.

use redis::{ErrorKind, FromRedisValue, ParsingError, RedisError, RedisResult, Value};

use crate::protocol::{Membership, Probe, Vote, VoteReply};

/// The return value of `acquire.lua`, `acquire_one.lua` or `acquire_fair.lua`.
pub(crate) enum RawVoteReply {
    /// The node granted everything, at this time in microseconds.
    Granted(i64),
    /// The table that the head of each script describes.
    Table(Vec<i64>),
}

impl FromRedisValue for RawVoteReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match value {
            Value::Int(micros) => Ok(Self::Granted(micros)),
            value => Ok(Self::Table(redis::from_redis_value(value)?)),
        }
    }
}

impl RawVoteReply {
    /// The reply to a request with these proposals.
    pub(crate) fn parse(&self, proposals: &[(String, u64)]) -> RedisResult<VoteReply> {
        let reply = match self {
            Self::Granted(micros) => {
                let fences = proposals.iter().map(|(_, token)| *token).collect();
                return Ok(VoteReply {
                    micros: *micros,
                    vote: Vote::Granted,
                    fences,
                    next_ticket: None,
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
            _ => Vote::OldEpoch,
        };
        Ok(VoteReply {
            micros: *micros,
            vote,
            fences: fences.iter().map(unsigned).collect(),
            next_ticket: fair.first().map(unsigned).filter(|ticket| *ticket > 0),
            first_ticket: fair.get(1).map(unsigned).filter(|first| *first > 0),
        })
    }
}

impl FromRedisValue for Membership {
    /// Reads the result of `HMGET epoch nodes joining`.
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (epoch, nodes, joining): (Option<u64>, Option<String>, Option<String>) =
            redis::from_redis_value(value)?;
        let text = Option::unwrap_or_default;
        Ok(Self::new(epoch.unwrap_or(0), &text(nodes), &text(joining)))
    }
}

impl FromRedisValue for Probe {
    /// Reads the return value of `probe.lua`.
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        type Parts = (i64, u64, String, String, String, String, Vec<String>);
        let (micros, epoch, nodes, joining, admitted, refusal, damaged): Parts =
            redis::from_redis_value(value)?;
        let membership = Membership::new(epoch, &nodes, &joining);
        Ok(Self { micros, membership, admitted, refusal, damaged })
    }
}
