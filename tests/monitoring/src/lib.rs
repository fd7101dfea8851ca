//! Real `prometheus` and `promtool` processes, a sale of real processes with its operator, the chart's dashboards and
//! alerts, and the table of metrics in `docs/OPERATIONS.md`, for the tests of this crate.
//!
//! `cargo xtask test monitoring` builds and installs what the tests start.

mod buyers;
mod chart;
mod cluster;
mod dashboards;
mod documented;
mod exposition;
mod faults;
mod live;
mod programs;
mod prometheus;
mod promtool;
mod selectors;
mod shop;
mod stripe;
mod wait;
mod webhook;

pub use buyers::Buyers;
pub use chart::{Alert, Rules};
pub use cluster::{Cluster, OPERATOR_JOB, OPERATOR_NAMESPACE};
pub use dashboards::{Dashboard, Panel, Target, Variables};
pub use documented::{Documented, documented};
pub use exposition::{Exposition, Labels};
pub use faults::{certificate_of_the_stores_expires, no_operator_leads, sale_unreadable};
pub use live::{Live, spec};
pub use programs::{Version, repository};
pub use prometheus::{Prometheus, Sample, Target as ScrapeTarget};
pub use promtool::promtool;
pub use selectors::{Matcher, Selector, selectors};
pub use shop::{NAMESPACE, Replica, SALE, Shop};
pub use wait::eventually;
pub use webhook::{Receiver, event_given_up, event_not_taken, events_taken, webhook_settings};
