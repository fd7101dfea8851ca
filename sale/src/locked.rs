//! `STRATEGY=Locked`: the database decides, in one transaction under the lock.

mod drift;
pub(crate) mod order_batch;
pub(crate) mod purchase_batch;
pub(crate) mod stock_reconciler;
