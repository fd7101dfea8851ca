//! All scripts, and one method for each that builds its call.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};

use super::call::ScriptCall;
use super::keys::{
    ADMITTED, FLOOR, MEMBERS, NOTHING, RELEASES, fence_key, limits_key, lock_key, queue_key,
    requests_key, ticket_key, value_key, version_key,
};
use crate::protocol::{
    AfterRelease, Departure, Handover, LeaseSpec, Membership, REQUEST_LIMIT, SLOT_LIMIT,
    TicketRequest, VoteRequest,
};

/// The compiled scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    acquire: Arc<Script>,
    acquire_fair: Arc<Script>,
    acquire_one: Arc<Script>,
    change_members: Arc<Script>,
    extend: Arc<Script>,
    leave_queue: Arc<Script>,
    probe: Arc<Script>,
    raise_counters: Arc<Script>,
    release: Arc<Script>,
    renew: Arc<Script>,
    repair: Arc<Script>,
    take_tickets: Arc<Script>,
}

/// The text of a script after the text of its shared functions.
macro_rules! script {
    ($($file:literal),+) => { concat!($(include_str!($file)),+) };
}

const RELEASE: &str = script!("bulk.lua", "release.lua");
const PROBE: &str = script!("counters.lua", "probe.lua");

impl Scripts {
    /// Compiles all scripts.
    pub(crate) fn new() -> Self {
        let compiled = |code| Arc::new(Script::new(code));
        Self {
            acquire: compiled(script!("bulk.lua", "acquire.lua")),
            acquire_fair: compiled(script!("acquire_fair.lua")),
            acquire_one: compiled(script!("acquire_one.lua")),
            change_members: compiled(script!("change_members.lua")),
            extend: compiled(script!("extend.lua")),
            leave_queue: compiled(script!("leave_queue.lua")),
            probe: compiled(PROBE),
            raise_counters: compiled(script!("counters.lua", "raise_counters.lua")),
            release: compiled(RELEASE),
            renew: compiled(script!("renew.lua")),
            repair: compiled(script!("counters.lua", "repair.lua")),
            take_tickets: compiled(script!("counters.lua", "take_tickets.lua")),
        }
    }

    /// Makes a release free locks of other owners too, which is wrong.
    #[cfg(feature = "ablation")]
    pub(crate) fn without_owner_check(mut self) -> Self {
        let unchecked = RELEASE.replace("present[i] == owner", "true");
        self.release = Arc::new(Script::new(&unchecked));
        self
    }

    /// Loads all scripts into a node, so that each call takes one message.
    pub(crate) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        // Without `..`, so that a script missing here does not compile.
        let Self {
            acquire,
            acquire_fair,
            acquire_one,
            change_members,
            extend,
            leave_queue,
            probe,
            raise_counters,
            release,
            renew,
            repair,
            take_tickets,
        } = self;
        let all = [acquire, acquire_fair, acquire_one, change_members, extend];
        let others = [leave_queue, probe, raise_counters, release, renew, repair, take_tickets];
        for script in all.into_iter().chain(others) {
            script.load_async(connection).await?;
        }
        Ok(())
    }

    /// Votes on a request.
    pub(crate) fn acquire(&self, request: &VoteRequest, longest: Duration) -> ScriptCall {
        let VoteRequest { epoch, owner, lease, proposals, entry, renews } = request;
        let spec = LeaseSpec { epoch: *epoch, owner, lease: *lease, longest };
        if let (Some(renewed), [(name, token)], None) = (renews, &proposals[..], entry.tickets) {
            let mut call = keyed_call(&self.renew, 3);
            call.key(lock_key(name)).key(fence_key(name)).key(limits_key(name));
            add_spec(spec, &mut call).arg(*token).arg(renewed).arg(millis(SLOT_LIMIT));
            return call;
        }
        let [(name, token)] = &proposals[..] else {
            let mut call = keyed_call(&self.acquire, 2 * proposals.len());
            for (name, _) in proposals {
                call.key(lock_key(name));
            }
            for (name, _) in proposals {
                call.key(fence_key(name));
            }
            add_spec(spec, &mut call).arg(&*entry.slot).arg(entry.rank);
            call.arg(millis(SLOT_LIMIT)).arg(millis(REQUEST_LIMIT));
            for (_, token) in proposals {
                call.arg(*token);
            }
            return call;
        };
        let (script, keys) =
            if entry.tickets.is_some() { (&self.acquire_fair, 6) } else { (&self.acquire_one, 5) };
        let mut call = keyed_call(script, keys);
        call.key(lock_key(name)).key(fence_key(name));
        call.key(queue_key(name)).key(limits_key(name)).key(requests_key(name));
        if entry.tickets.is_some() {
            call.key(ticket_key(name));
        }
        add_spec(spec, &mut call).arg(*token).arg(&*entry.slot).arg(entry.rank);
        call.arg(millis(SLOT_LIMIT)).arg(millis(REQUEST_LIMIT));
        if let Some(tickets) = entry.tickets {
            call.arg(tickets.count).arg(tickets.first);
            call.arg(renews.as_deref().unwrap_or_default());
        }
        call
    }

    /// Extends the locks on these resources by the lease, from the time of the call. A lock may also be that of the
    /// lease that renews this one.
    pub(crate) fn extend(
        &self,
        spec: LeaseSpec<'_>,
        resources: &[(String, u64)],
        renewed_by: Option<&String>,
    ) -> ScriptCall {
        let mut call = keyed_call(&self.extend, resources.len());
        for (name, _) in resources {
            call.key(lock_key(name));
        }
        add_spec(spec, &mut call).arg(renewed_by.map_or("", String::as_str));
        call
    }

    /// Reads the node's clock and own keys, and checks whether it accepts writes.
    pub(crate) fn probe(&self) -> ScriptCall {
        let mut call = ScriptCall::in_full(&self.probe, PROBE, 4);
        call.key(MEMBERS).key(ADMITTED).key(FLOOR).key(NOTHING);
        call
    }

    /// Repairs the keys of these resources and, where `members` or `admitted` says so, the node's own.
    /// Each resource comes with the highest token and ticket that the client knows.
    pub(crate) fn repair(
        &self,
        members: bool,
        admitted: bool,
        resources: &[(&str, (u64, u64))],
    ) -> ScriptCall {
        let mut call = ScriptCall::new(&self.repair, 3 + 5 * resources.len());
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

    /// Raises these counters, named by their keys, and the membership.
    pub(crate) fn raise_counters(
        &self,
        membership: &Membership,
        counters: &[(&String, &u64)],
    ) -> ScriptCall {
        let mut call = ScriptCall::new(&self.raise_counters, 1 + counters.len());
        call.key(MEMBERS);
        for (key, _) in counters {
            call.key(key);
        }
        add_membership(membership, &mut call);
        for (_, counter) in counters {
            call.arg(**counter);
        }
        call
    }

    /// Writes a membership. The lock on `resource` guards it.
    pub(crate) fn change_members(&self, resource: &str, membership: &Membership) -> ScriptCall {
        let mut call = ScriptCall::new(&self.change_members, 2);
        call.key(MEMBERS).key(fence_key(resource));
        add_membership(membership, &mut call);
        call
    }

    /// Issues tickets to a slot whose lowest ticket is `lowest` (0: none).
    pub(crate) fn take_tickets(
        &self,
        epoch: u64,
        resource: &str,
        slot: &str,
        lowest: u64,
        tickets: TicketRequest,
    ) -> ScriptCall {
        let mut call = ScriptCall::new(&self.take_tickets, 5);
        call.key(MEMBERS).key(FLOOR).key(ticket_key(resource));
        call.key(queue_key(resource)).key(limits_key(resource));
        call.arg(epoch).arg(slot).arg(lowest).arg(tickets.count).arg(tickets.first);
        call.arg(millis(SLOT_LIMIT));
        call
    }

    /// Removes a slot from the queue.
    pub(crate) fn leave_queue(&self, resource: &str, slot: &str) -> ScriptCall {
        let mut call = ScriptCall::new(&self.leave_queue, 2);
        call.key(queue_key(resource)).key(limits_key(resource)).arg(slot);
        call
    }

    /// Frees the locks of this owner and withdraws the request of its slot.
    pub(crate) fn release(
        &self,
        owner: &str,
        departure: &Departure,
        handovers: &[Handover],
    ) -> ScriptCall {
        let names = || handovers.iter().map(|handover| &*handover.resource);
        let mut call = ScriptCall::new(&self.release, 1 + 4 * handovers.len());
        call.key(MEMBERS);
        for key in [lock_key, version_key, value_key, queue_key] {
            for name in names() {
                call.key(key(name));
            }
        }
        call.arg(owner).arg(RELEASES).arg(&*departure.slot);
        match departure.after {
            AfterRelease::Unchanged => call.arg(""),
            AfterRelease::WaitsWith(ticket) => call.arg(ticket),
            AfterRelease::WaitsFrom(ticket) => call.arg(format!("-{ticket}")),
            AfterRelease::Leaves => call.arg(0),
        };
        call.arg(millis(SLOT_LIMIT)).arg(u8::from(departure.gives_up));
        match departure.next_request.as_deref() {
            Some(VoteRequest { epoch, owner, lease, .. }) => {
                let (lease, limit) = (millis(*lease), millis(REQUEST_LIMIT));
                call.arg(format!("{epoch} {owner} {lease} {limit}"))
            }
            None => call.arg(""),
        };
        for Handover { token, highest, value, .. } in handovers {
            call.arg(*token).arg(*highest).arg(value.as_deref().unwrap_or_default());
        }
        call
    }
}

/// A call that begins with the membership and the floor; `keys` more keys must follow.
fn keyed_call(script: &Arc<Script>, keys: usize) -> ScriptCall {
    let mut call = ScriptCall::new(script, 2 + keys);
    call.key(MEMBERS).key(FLOOR);
    call
}

fn add_spec<'a>(spec: LeaseSpec<'_>, call: &'a mut ScriptCall) -> &'a mut ScriptCall {
    let LeaseSpec { epoch, owner, lease, longest } = spec;
    call.arg(epoch).arg(owner).arg(millis(lease)).arg(millis(longest))
}

fn add_membership(membership: &Membership, call: &mut ScriptCall) {
    call.arg(membership.epoch);
    call.arg(membership.nodes.join(" ")).arg(membership.joining.join(" "));
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
