//! The Lua scripts that run on a node, their arguments and their answers.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Script, ScriptInvocation};

/// The channel on which every release is told; all resources share it.
pub(crate) const CHANNEL: &str = "redlock:released";

/// A client that waits its turn and has not been heard of for this long, by a node's own clock, is
/// skipped there.
const TURN_LIMIT: Duration = Duration::from_millis(500);

/// What a node says to a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    Granted,
    Held { wait_ms: u64 },
    Stale,
}

/// A vote, the fence of each resource on that node, and the lowest ticket of another client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) vote: Vote,
    pub(crate) fences: Vec<u64>,
    pub(crate) next_ticket: Option<u64>,
}

/// What a holder leaves behind when it releases a resource.
#[derive(Debug, Clone)]
pub(crate) struct Handover {
    pub(crate) resource: String,
    /// 0: the hold had no quorum, so there is nobody to tell.
    pub(crate) token: u64,
    pub(crate) value: Option<String>,
}

/// The compiled scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    acquire: Script,
    acquire_in_turn: Script,
    leave_turn: Script,
    release: Script,
    take_tickets: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            acquire: Script::new(include_str!("acquire.lua")),
            acquire_in_turn: Script::new(include_str!("acquire_in_turn.lua")),
            leave_turn: Script::new(include_str!("leave_turn.lua")),
            release: Script::new(include_str!("release.lua")),
            take_tickets: Script::new(include_str!("take_tickets.lua")),
        }
    }

    /// Loads all of them into a node, so that each call needs one message only.
    pub(crate) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Self { acquire, acquire_in_turn, leave_turn, release, take_tickets } = self;
        for script in [acquire, acquire_in_turn, leave_turn, release, take_tickets] {
            script.load_async(connection).await?;
        }
        Ok(())
    }

    /// `resources` with the token proposed for each.
    pub(crate) fn acquire<'a>(
        &'a self,
        owner: &str,
        lease: Duration,
        resources: &[(String, u64)],
    ) -> ScriptInvocation<'a> {
        let mut call = self.acquire.prepare_invoke();
        call.arg(owner).arg(millis(lease));
        for (name, token) in resources {
            call.key(lock_key(name)).key(fence_key(name)).arg(*token);
        }
        call
    }

    /// As [`Scripts::acquire`] for one resource, for the client whose turn it is.
    pub(crate) fn acquire_in_turn<'a>(
        &'a self,
        owner: &str,
        lease: Duration,
        resource: &str,
        token: u64,
        client: &str,
        ticket: u64,
    ) -> ScriptInvocation<'a> {
        let mut call = self.acquire_in_turn.prepare_invoke();
        call.key(lock_key(resource)).key(fence_key(resource));
        call.key(queue_key(resource)).key(limits_key(resource));
        call.arg(owner).arg(millis(lease)).arg(token);
        call.arg(client).arg(ticket).arg(millis(TURN_LIMIT));
        call
    }

    /// Proposes tickets from `first` on.
    pub(crate) fn take_tickets<'a>(
        &'a self,
        resource: &str,
        client: &str,
        first: u64,
        count: usize,
    ) -> ScriptInvocation<'a> {
        let mut call = self.take_tickets.prepare_invoke();
        call.key(format!("ticket:{resource}"));
        call.key(queue_key(resource)).key(limits_key(resource));
        call.arg(client).arg(first).arg(count).arg(millis(TURN_LIMIT));
        call
    }

    /// The client's lowest ticket is now this one (0: it waits no longer).
    pub(crate) fn leave_turn<'a>(
        &'a self,
        resource: &str,
        client: &str,
        ticket: u64,
    ) -> ScriptInvocation<'a> {
        let mut call = self.leave_turn.prepare_invoke();
        call.key(queue_key(resource)).key(limits_key(resource));
        call.arg(client).arg(ticket).arg(millis(TURN_LIMIT));
        call
    }

    /// Frees what the owner holds of these.
    pub(crate) fn release<'a>(
        &'a self,
        owner: &str,
        client: &str,
        handovers: &[Handover],
    ) -> ScriptInvocation<'a> {
        let mut call = self.release.prepare_invoke();
        call.arg(owner).arg(client).arg(CHANNEL);
        for Handover { resource, token, value } in handovers {
            call.key(lock_key(resource)).key(resource).key(format!("version:{resource}"));
            call.arg(resource).arg(*token).arg(value.as_deref().unwrap_or_default());
        }
        call
    }
}

/// The key whose value is the current owner: `lock:<resource>`.
fn lock_key(resource: &str) -> String {
    format!("lock:{resource}")
}

fn fence_key(resource: &str) -> String {
    format!("fence:{resource}")
}

fn queue_key(resource: &str) -> String {
    format!("queue:{resource}")
}

fn limits_key(resource: &str) -> String {
    format!("queue-limits:{resource}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads what `acquire.lua` or `acquire_in_turn.lua` returns for so many resources.
pub(crate) fn parse_answer(reply: &[i64], resources: usize) -> RedisResult<Answer> {
    let ([vote, wait, fences @ ..], true) = (reply, reply.len() >= 2 + resources) else {
        let error = (ErrorKind::UnexpectedReturnType, "a node's vote is too short");
        return Err(RedisError::from(error));
    };
    let (fences, next_ticket) = fences.split_at(resources);
    let vote = match vote {
        1 => Vote::Granted,
        0 => Vote::Held { wait_ms: u64::try_from(*wait).unwrap_or(0) },
        _ => Vote::Stale,
    };
    let unsigned = |value: &i64| u64::try_from(*value).unwrap_or(0);
    Ok(Answer {
        vote,
        fences: fences.iter().map(unsigned).collect(),
        next_ticket: next_ticket.first().map(unsigned).filter(|ticket| *ticket > 0),
    })
}
