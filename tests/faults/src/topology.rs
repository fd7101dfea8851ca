//! The size of the suite: how many nodes, and how many clients in each process.

/// How many nodes there are.
pub const NODES: usize = 5;
/// How many clients each process has: 8 in 3 processes, for each resource.
pub const PROCESSES: [usize; 3] = [3, 3, 2];
