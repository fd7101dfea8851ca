//! The load job itself: whether it keeps up with `wrk`, and whether its percentiles are true.

mod truth;

use crate::figures::Section;
use crate::path;

/// All of them, in the order of the table.
pub const SECTIONS: &[Section] = &[path::LOAD_JOB, truth::SPREAD, truth::STALL];
