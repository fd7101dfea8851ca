//! End-to-end tests on a real cluster that `cargo xtask test` prepares: the operator is installed, its
//! images are there, `$KUBECONFIG` leads to it.
//!
//! This library has what the tests share: a namespace of its own for each, waiting with a deadline, and the
//! load Job. It knows the product from outside only: its manifests, its keys in Redis and its labels.

mod buyers;
mod faults;
mod gone;
mod load;
mod manifest;
mod operator;
mod secrets;
mod shop;
mod signal;
mod wait;

pub use buyers::{Allowed, Buyers};
pub use faults::{Api, Operator, TEMPORARY, operator_pods};
pub use load::{Load, Verdict};
pub use manifest::objects;
pub use operator::reconciliations;
pub use shop::{GONE, READY, SALE, SOON, Shop, Stores, holds};
pub use wait::{condition, unbroken, within};
