//! The fault suite of the lock: clients in processes of their own work under faults, every step
//! is recorded, and the history is checked against what `docs/REDLOCK.md` promises.

//!
//! From the inside out: [`section`] is what a client does, [`history`] what it records, [`worker`]
//! a process of some clients, [`suite`] everything that runs, [`fault`] what is done to it,
//! [`play`] how a fault goes, [`check`] what is checked, [`verdict`] what it comes to.

pub mod check;
pub mod clock;
pub mod fault;
pub mod history;
pub mod play;
pub mod process;
pub mod record;
pub mod register;
pub mod round;
pub mod section;
pub mod suite;
pub mod verdict;
pub mod worker;
