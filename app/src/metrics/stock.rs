//! The stock and who waits for it, as gauges by product. They are made for each scrape: two at once share nothing, and
//! a deleted product is not in them.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};
use sale::Listing;

/// A gauge: its name, its help text and its value for a product.
type Gauge = (&'static str, &'static str, fn(&Listing) -> i64);

const GAUGES: [Gauge; 5] = [
    ("flashsale_stock_declared", "Units ever put on sale, by product.", |it| it.product.declared),
    ("flashsale_stock_remaining", "Units left, by product.", |it| it.remaining),
    ("flashsale_stock_sold", "Units sold since the sale began, by product.", |it| {
        it.product.declared - it.remaining
    }),
    ("flashsale_waitlist_waiting", "Buyers who wait for units, by product.", |it| it.waiting),
    (
        "flashsale_waitlist_servable",
        "Buyers who wait for no more units than are left, by product.",
        |it| it.servable,
    ),
];

/// The gauges of these products.
pub(super) fn families(listings: &[Listing]) -> prometheus::Result<Vec<MetricFamily>> {
    // Without a product there is no family: an empty one cannot be encoded.
    if listings.is_empty() {
        return Ok(Vec::new());
    }
    let mut families = Vec::new();
    for (name, help, value) in GAUGES {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &["product"])?;
        for listing in listings {
            gauge.with_label_values(&[&listing.product.id]).set(value(listing));
        }
        families.extend(gauge.collect());
    }
    Ok(families)
}
