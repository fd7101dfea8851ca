//! The units of the orders in the database, with those that were put on sale. The gauges are made for each scrape, so
//! all of them are of one count, and a product that is not in it has no series.

use std::sync::{Mutex, PoisonError};

use ledger::orders::{OrderState, UnitCount};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// The last count.
#[derive(Debug, Default)]
pub(super) struct OrderedMetrics {
    count: Mutex<UnitCount>,
}

impl OrderedMetrics {
    /// Takes over a count of all orders.
    pub(super) fn set(&self, count: UnitCount) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) = count;
    }

    /// The gauges of the last count. A product on sale without orders has 0; one that is neither on sale nor in orders
    /// has no series.
    pub(super) fn families(&self) -> prometheus::Result<Vec<MetricFamily>> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        let units = gauge(
            "flashsale_order_units",
            "Units of the orders in the database, by product and state; counted at each comparison.",
            &["product", "state"],
        )?;
        let declared = gauge(
            "flashsale_order_units_declared",
            "Units ever put on sale when flashsale_order_units was counted, by product.",
            &["product"],
        )?;
        let without_hold = gauge(
            "flashsale_order_units_without_hold",
            "Units of unpaid orders that hold them without an end, by product; counted with flashsale_order_units.",
            &["product"],
        )?;
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        for (product, stock) in &count.declared {
            declared.with_label_values(&[product]).set(*stock);
        }
        let in_orders = count.ordered.iter().map(|ordered| &ordered.product_id);
        for product in count.declared.keys().chain(in_orders) {
            for state in OrderState::HOLDING {
                units.with_label_values(&[product.as_str(), state.name()]);
            }
            without_hold.with_label_values(&[product]);
        }
        for ordered in &count.ordered {
            let product = ordered.product_id.as_str();
            units.with_label_values(&[product, ordered.state.name()]).set(ordered.units);
            if ordered.state == OrderState::Pending {
                without_hold.with_label_values(&[product]).set(ordered.without_hold);
            }
        }
        let families = [&units, &declared, &without_hold].into_iter().flat_map(Collector::collect);
        // A family without a product cannot be encoded.
        Ok(families.filter(|family| !family.get_metric().is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use ledger::Product;
    use ledger::orders::OrderedUnits;
    use sale::Listing;

    use super::*;
    use crate::metrics::{Exposition, Metrics};

    fn ordered(product: &str, state: OrderState, units: i64) -> OrderedUnits {
        OrderedUnits { product_id: product.to_owned(), state, units, without_hold: units }
    }

    fn series(metrics: &OrderedMetrics) -> usize {
        metrics.families().unwrap().iter().map(|family| family.get_metric().len()).sum()
    }

    #[test]
    fn a_product_that_is_no_longer_counted_has_no_series() {
        let metrics = OrderedMetrics::default();
        let of = |product| ordered(product, OrderState::Pending, 2);
        let count = |ordered| UnitCount { ordered, ..UnitCount::default() };
        let of_a_product = OrderState::HOLDING.len() + 1;
        metrics.set(count(vec![of("1"), of("2")]));
        assert_eq!(series(&metrics), 2 * of_a_product);
        metrics.set(count(vec![of("2")]));
        assert_eq!(series(&metrics), of_a_product);
        metrics.set(UnitCount::default());
        assert_eq!(series(&metrics), 0);
        metrics.set(UnitCount { declared: [("3".to_owned(), 5)].into(), ordered: Vec::new() });
        assert_eq!(series(&metrics), of_a_product + 1, "on sale, without orders");
    }

    /// Of 100 sold units, 60 came back after the count, and an administrator made the product again with 5.
    #[test]
    fn what_was_on_sale_is_of_the_moment_of_the_count() {
        let metrics = Metrics::new().unwrap();
        metrics.set_ordered(UnitCount {
            declared: [("1".to_owned(), 100)].into(),
            ordered: vec![ordered("1", OrderState::Confirmed, 100)],
        });
        let product = Product {
            id: "1".to_owned(),
            name: "Console".to_owned(),
            max_per_buyer: None,
            wait_timeout_ms: None,
            lease_time_ms: None,
            hold_seconds: None,
            price: None,
            currency: None,
            declared: 45,
            available: 5,
            fence: 9,
        };
        let now = Listing { product, remaining: 5, waiting: 0, servable: 0 };
        let text = metrics.encode(&[now], Exposition::Text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "flashsale_stock_declared{product=\"1\"} 45",
            "flashsale_order_units_declared{product=\"1\"} 100",
            "flashsale_order_units{product=\"1\",state=\"confirmed\"} 100",
            "flashsale_order_units{product=\"1\",state=\"paid\"} 0",
            "flashsale_order_units_without_hold{product=\"1\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line}: {text}");
        }
    }
}
