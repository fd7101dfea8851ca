//! Queue slots and tickets: a client's place in the queue of a resource, in fair order.
//!
//! Each node issues tickets above the highest that it has issued, and a ticket counts if a majority
//! issued it. So tickets are unique and in real-time order, as fencing tokens are.

mod backoff;
mod issued;
mod slot;
mod tickets;

pub(crate) use backoff::Backoff;
pub(crate) use issued::IssuedTickets;
pub(crate) use slot::{QueueSlot, SlotTicket};
pub(crate) use tickets::{TicketsFuture, take_tickets, take_tickets_with_lock};
