//! What the sale recorded: its Redis nodes and its database, read from outside.

pub mod database;
pub mod redis_nodes;
