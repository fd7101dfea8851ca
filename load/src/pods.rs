//! Several pods that share the users of a run.

pub mod team;
pub mod wire;
pub mod worker;
