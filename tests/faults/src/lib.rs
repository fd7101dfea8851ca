//! The fault suite of the lock: clients in processes of their own work under faults and record every
//! step; the history is checked against the promises of `docs/REDLOCK.md`.
//!
//! From the inside out: [`section`] has the steps of a client, [`history`] its records, [`worker`] a
//! process of some clients, [`topology`] the number of nodes and clients, [`suite`] all running
//! processes, [`fault`] the kinds of fault, [`play`] the course of one fault, [`check`] the checks of a
//! history, and [`verdict`] their results.

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
pub mod topology;
pub mod verdict;
pub mod worker;
