//! The units of the orders in the database.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ledger::orders::{OrderState, OrderedUnits};
use prometheus::{IntGaugeVec, Opts, Registry};
use sale::Listing;

/// A metric's help text is its documentation.
#[derive(Debug)]
pub(super) struct OrderedMetrics {
    units: IntGaugeVec,
    /// The products of the last count.
    products: Mutex<BTreeSet<String>>,
}

impl OrderedMetrics {
    pub(super) fn registered(registry: &Registry) -> prometheus::Result<Self> {
        let units = IntGaugeVec::new(
            Opts::new(
                "flashsale_order_units",
                "Units of the orders in the database, by product and state; counted at each comparison.",
            ),
            &["product", "state"],
        )?;
        registry.register(Box::new(units.clone()))?;
        Ok(Self { units, products: Mutex::default() })
    }

    /// Takes over a count of all orders. A product on sale without orders has 0; one that is neither on sale nor in
    /// the count has no series.
    pub(super) fn set(&self, listings: &[Listing], units: &[OrderedUnits]) {
        let on_sale = listings.iter().map(|listing| &listing.product.id);
        let in_orders = units.iter().map(|units| &units.product_id);
        let products: BTreeSet<String> = on_sale.chain(in_orders).cloned().collect();
        for product in &products {
            for state in OrderState::HOLDING {
                let of = |it: &&OrderedUnits| it.product_id == *product && it.state == state;
                let units = units.iter().find(of).map_or(0, |it| it.units);
                self.units.with_label_values(&[product.as_str(), state.name()]).set(units);
            }
        }
        let mut last = self.products.lock().unwrap_or_else(PoisonError::into_inner);
        for product in last.difference(&products) {
            for state in OrderState::HOLDING {
                // The last count made this series.
                let _ = self.units.remove_label_values(&[product.as_str(), state.name()]);
            }
        }
        *last = products;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_is_no_longer_counted_has_no_series() {
        let registry = Registry::new();
        let metrics = OrderedMetrics::registered(&registry).unwrap();
        let series =
            || -> usize { registry.gather().iter().map(|family| family.get_metric().len()).sum() };
        let of = |product: &str| OrderedUnits {
            product_id: product.to_owned(),
            state: OrderState::Pending,
            units: 2,
        };
        metrics.set(&[], &[of("1"), of("2")]);
        assert_eq!(series(), 2 * OrderState::HOLDING.len());
        metrics.set(&[], &[of("2")]);
        assert_eq!(series(), OrderState::HOLDING.len());
        metrics.set(&[], &[]);
        assert_eq!(series(), 0);
    }
}
