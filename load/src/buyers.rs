//! Those who buy: when they come, what they send, and what their answers mean.

pub mod arrivals;
pub mod buyer;
pub mod connections;
pub mod moments;
pub mod request;
pub mod tickets;
pub mod users;
