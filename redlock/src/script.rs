//! The Lua scripts that run on a node, their arguments and their answers.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};

use crate::call::Call;
use crate::keys::{
    fence_key, limits_key, lock_key, queue_key, requests_key, ticket_key, value_key, version_key,
};
use crate::members::Membership;
use crate::shared::Question;
use crate::turn::Turn;

/// The hash on each node that says which nodes there are: `epoch`, `nodes`, `joining`.
pub(crate) const MEMBERS: &str = "redlock:members";
/// The key on each node whose value is the run id of the process that was admitted to vote.
pub(crate) const ADMITTED: &str = "redlock:admitted";
/// The counter on each node that stands for those it does not know.
pub(crate) const FLOOR: &str = "redlock:floor";
/// The counters that no majority may forget: tokens, tickets, the floor.
pub(crate) const COUNTERS: [&str; 3] = ["fence:*", "ticket:*", FLOOR];
/// The channel on which every release is told; all resources share it.
pub(crate) const CHANNEL: &str = "redlock:released";
/// The channel on which a node tells of a lock that it has given an expiry.
pub(crate) const REPAIRED: &str = "redlock:repaired";
/// The key that is never there: writing to it changes nothing (probe.lua).
const NOTHING: &str = "redlock:nothing";

/// What no counter exceeds; as in counters.lua.
pub(crate) const HIGHEST_COUNTER: u64 = 1 << 52;

/// Whether scripts can compare this counter exactly. What is higher was never counted.
pub(crate) fn is_counter(number: u64) -> bool {
    number <= HIGHEST_COUNTER
}

/// A line that waits and has not been heard of for this long, by a node's own clock, is skipped
/// there. What a waiting request is granted lasts no longer, unless it is extended.
pub(crate) const LINE_LIMIT: Duration = Duration::from_millis(500);
/// A request that waits is granted for this long after it came, by a node's own clock.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_millis(150);

/// What a node says to a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    Granted,
    Held {
        wait_ms: u64,
    },
    Stale,
    /// The membership has changed since.
    Outdated,
}

/// A lease that is asked for or lengthened: what every node is told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hold<'a> {
    pub(crate) epoch: u64,
    pub(crate) owner: &'a str,
    pub(crate) lease: Duration,
    /// What no lease exceeds.
    pub(crate) longest: Duration,
}

/// Where somebody stands who waits.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Under this name it is in the nodes' queues.
    pub(crate) line: Arc<str>,
    /// The lowest comes first. In fair order, the lowest ticket of the line.
    pub(crate) number: f64,
    /// The tickets that it asks for, in fair order: nobody is granted anything before those whose
    /// number is lower.
    pub(crate) fair: Option<TicketsWanted>,
}

/// So many tickets, and the first that is proposed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TicketsWanted {
    pub(crate) count: usize,
    pub(crate) first: u64,
}

/// The node's clock in microseconds, its vote, the fence of each resource on that node, the lowest
/// ticket of another line, and the first ticket that it issued.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) micros: i64,
    pub(crate) vote: Vote,
    pub(crate) fences: Vec<u64>,
    pub(crate) next_place: Option<u64>,
    pub(crate) first_ticket: Option<u64>,
}

/// What a holder leaves behind when it releases a resource.
#[derive(Debug, Clone)]
pub(crate) struct Handover {
    pub(crate) resource: String,
    /// That of the hold; the highest that is known, if it had no quorum. Whoever is granted it next
    /// gets a higher one.
    pub(crate) token: u64,
    pub(crate) value: Option<String>,
}

/// The line in which a hold was asked for, when it ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left {
    pub(crate) line: Arc<str>,
    pub(crate) stays: Stays,
    /// Knows where that is later, in fair order.
    pub(crate) turn: Option<Arc<Turn>>,
    /// It had no quorum, so there is nobody to tell.
    pub(crate) gives_up: bool,
    /// What the line asks for with that, in fair order: its request stands from then on.
    pub(crate) asks: Option<Arc<Question>>,
}

/// Where a line stands when a hold ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stays {
    /// Where it is.
    #[default]
    AsItIs,
    /// With this ticket, the lowest that waits.
    At(u64),
    /// Where it is if that is not below this: none waits, but tickets from this on are under way.
    From(u64),
    /// Nowhere: none waits.
    Nowhere,
}

/// The compiled scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    acquire: Arc<Script>,
    acquire_in_turn: Arc<Script>,
    acquire_one: Arc<Script>,
    change_members: Arc<Script>,
    extend: Arc<Script>,
    leave_turn: Arc<Script>,
    probe: Arc<Script>,
    raise: Arc<Script>,
    release: Arc<Script>,
    repair: Arc<Script>,
    take_tickets: Arc<Script>,
}

/// A script, and what stands before it.
macro_rules! script {
    ($($file:literal),+) => { concat!($(include_str!($file)),+) };
}

const RELEASE: &str = script!("many.lua", "release.lua");
const PROBE: &str = script!("counters.lua", "probe.lua");

impl Scripts {
    pub(crate) fn new() -> Self {
        let compiled = |code| Arc::new(Script::new(code));
        Self {
            acquire: compiled(script!("many.lua", "acquire.lua")),
            acquire_in_turn: compiled(script!("acquire_in_turn.lua")),
            acquire_one: compiled(script!("acquire_one.lua")),
            change_members: compiled(script!("change_members.lua")),
            extend: compiled(script!("extend.lua")),
            leave_turn: compiled(script!("leave_turn.lua")),
            probe: compiled(PROBE),
            raise: compiled(script!("counters.lua", "raise.lua")),
            release: compiled(RELEASE),
            repair: compiled(script!("counters.lua", "repair.lua")),
            take_tickets: compiled(script!("counters.lua", "take_tickets.lua")),
        }
    }

    /// Frees a lock whoever its owner is, which is wrong.
    #[cfg(feature = "ablation")]
    pub(crate) fn without_owner_check(mut self) -> Self {
        let unchecked = RELEASE.replace("present[i] == owner", "true");
        self.release = Arc::new(Script::new(&unchecked));
        self
    }

    /// Loads all of them into a node, so that each call needs one message only.
    pub(crate) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        // Without `..`: a script that is not loaded does not compile.
        let Self {
            acquire,
            acquire_in_turn,
            acquire_one,
            change_members,
            extend,
            leave_turn,
            probe,
            raise,
            release,
            repair,
            take_tickets,
        } = self;
        let all = [acquire, acquire_in_turn, acquire_one, change_members, extend];
        let others = [leave_turn, probe, raise, release, repair, take_tickets];
        for script in all.into_iter().chain(others) {
            script.load_async(connection).await?;
        }
        Ok(())
    }

    /// `resources` with the token proposed for each.
    pub(crate) fn acquire(
        &self,
        hold: Hold<'_>,
        place: &Place,
        resources: &[(String, u64)],
    ) -> Call {
        let [(name, token)] = resources else {
            let mut call = Hold::call(&self.acquire, 2 * resources.len());
            for (name, _) in resources {
                call.key(lock_key(name));
            }
            for (name, _) in resources {
                call.key(fence_key(name));
            }
            hold.describe(&mut call).arg(&*place.line).arg(place.number);
            call.arg(millis(LINE_LIMIT)).arg(millis(REQUEST_LIMIT));
            for (_, token) in resources {
                call.arg(*token);
            }
            return call;
        };
        let (script, keys) =
            if place.fair.is_some() { (&self.acquire_in_turn, 6) } else { (&self.acquire_one, 5) };
        let mut call = Hold::call(script, keys);
        call.key(lock_key(name)).key(fence_key(name));
        call.key(queue_key(name)).key(limits_key(name)).key(requests_key(name));
        if place.fair.is_some() {
            call.key(ticket_key(name));
        }
        hold.describe(&mut call).arg(*token).arg(&*place.line).arg(place.number);
        call.arg(millis(LINE_LIMIT)).arg(millis(REQUEST_LIMIT));
        if let Some(tickets) = place.fair {
            call.arg(tickets.count).arg(tickets.first);
        }
        call
    }

    /// Makes the hold last for its lease from now on.
    pub(crate) fn extend(&self, hold: Hold<'_>, resources: &[(String, u64)]) -> Call {
        let mut call = Hold::call(&self.extend, resources.len());
        for (name, _) in resources {
            call.key(lock_key(name));
        }
        hold.describe(&mut call);
        call
    }

    /// Asks for a sign of life.
    pub(crate) fn probe(&self) -> Call {
        let mut call = Call::in_full(&self.probe, PROBE, 4);
        call.key(MEMBERS).key(ADMITTED).key(FLOOR).key(NOTHING);
        call
    }

    /// Repairs the keys of these resources, with the token and the ticket that are known of each,
    /// and the node's own if they are damaged.
    pub(crate) fn repair(
        &self,
        members: bool,
        admitted: bool,
        resources: &[(&str, (u64, u64))],
    ) -> Call {
        let mut call = Call::new(&self.repair, 3 + 5 * resources.len());
        call.key(MEMBERS).key(ADMITTED).key(FLOOR);
        for (name, _) in resources {
            call.key(fence_key(name)).key(ticket_key(name));
            call.key(queue_key(name)).key(limits_key(name)).key(requests_key(name));
        }
        call.arg(u8::from(members)).arg(u8::from(admitted));
        for (_, (token, ticket)) in resources {
            call.arg(*token).arg(*ticket);
        }
        call
    }

    /// Raises counters, given by their keys, and the membership.
    pub(crate) fn raise(&self, membership: &Membership, counters: &[(&String, &u64)]) -> Call {
        let mut call = Call::new(&self.raise, 1 + counters.len());
        call.key(MEMBERS);
        for (key, _) in counters {
            call.key(key);
        }
        describe(membership, &mut call);
        for (_, counter) in counters {
            call.arg(**counter);
        }
        call
    }

    /// Writes a membership that is changed under the lock on `resource`.
    pub(crate) fn change_members(&self, resource: &str, membership: &Membership) -> Call {
        let mut call = Call::new(&self.change_members, 2);
        call.key(MEMBERS).key(fence_key(resource));
        describe(membership, &mut call);
        call
    }

    /// Asks for tickets for a line whose lowest is `place` (0: it has none).
    pub(crate) fn take_tickets(
        &self,
        epoch: u64,
        resource: &str,
        line: &str,
        place: u64,
        wanted: TicketsWanted,
    ) -> Call {
        let mut call = Call::new(&self.take_tickets, 5);
        call.key(MEMBERS).key(FLOOR).key(ticket_key(resource));
        call.key(queue_key(resource)).key(limits_key(resource));
        call.arg(epoch).arg(line).arg(place).arg(wanted.count).arg(wanted.first);
        call.arg(millis(LINE_LIMIT));
        call
    }

    /// The line waits no longer.
    pub(crate) fn leave_turn(&self, resource: &str, line: &str) -> Call {
        let mut call = Call::new(&self.leave_turn, 2);
        call.key(queue_key(resource)).key(limits_key(resource)).arg(line);
        call
    }

    /// Frees what the owner holds of these, and takes back what it asked for in this line.
    pub(crate) fn release(&self, owner: &str, line: &Left, handovers: &[Handover]) -> Call {
        let names = || handovers.iter().map(|handover| &*handover.resource);
        let mut call = Call::new(&self.release, 1 + 4 * handovers.len());
        call.key(MEMBERS);
        for key in [lock_key, version_key, value_key, queue_key] {
            for name in names() {
                call.key(key(name));
            }
        }
        call.arg(owner).arg(CHANNEL).arg(&*line.line);
        match line.stays {
            Stays::AsItIs => call.arg(""),
            Stays::At(ticket) => call.arg(ticket),
            Stays::From(ticket) => call.arg(format!("-{ticket}")),
            Stays::Nowhere => call.arg(0),
        };
        call.arg(millis(LINE_LIMIT)).arg(u8::from(line.gives_up));
        match line.asks.as_deref() {
            Some(Question { epoch, owner, lease, .. }) => {
                let (lease, limit) = (millis(*lease), millis(REQUEST_LIMIT));
                call.arg(format!("{epoch} {owner} {lease} {limit}"))
            }
            None => call.arg(""),
        };
        for Handover { token, value, .. } in handovers {
            call.arg(*token).arg(value.as_deref().unwrap_or_default());
        }
        call
    }
}

impl Hold<'_> {
    /// So many keys follow, then what the hold is.
    fn call(script: &Arc<Script>, keys: usize) -> Call {
        let mut call = Call::new(script, 2 + keys);
        call.key(MEMBERS).key(FLOOR);
        call
    }

    fn describe<'a>(&self, call: &'a mut Call) -> &'a mut Call {
        call.arg(self.epoch).arg(self.owner).arg(millis(self.lease)).arg(millis(self.longest))
    }
}

fn describe(membership: &Membership, call: &mut Call) {
    call.arg(membership.epoch);
    call.arg(membership.nodes.join(" ")).arg(membership.joining.join(" "));
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
