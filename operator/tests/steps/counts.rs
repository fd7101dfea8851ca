//! The products in the status.

use flashsale_operator::crd::ProductStatus;
use flashsale_operator::flash_sale::app_client::SaleReport;
use flashsale_operator::flash_sale::counts::MAX_LISTED;
use flashsale_operator::flash_sale::observe::Observed;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::seed::Seed;

use crate::status::{NOON, after, applied};

#[test]
fn the_list_is_bounded_has_the_declared_products_and_the_totals_count_all() {
    let product = |id: String| ProductStatus { id, stock: 10, sold: 4, remaining: 6 };
    let mut products: Vec<_> = (0..5_000).map(|i| product(format!("added-{i:04}"))).collect();
    // Declared, and the last ones by id.
    products.extend(["B", "1"].map(|id| product(id.to_owned())));
    products.push(product("zzz".to_owned()));
    let report = Some(SaleReport { products, ..SaleReport::default() });
    let outcome = Outcome::Applied {
        resources: applied(5, 1, 3),
        seed: Seed::Done,
        observed: Box::new(Observed { report, ..Observed::default() }),
        refusals: Vec::new(),
    };
    let status = after(None, &outcome, NOON);
    let ids: Vec<&str> = status.products.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids.len(), MAX_LISTED);
    assert_eq!(ids[..3], ["1", "B", "added-0000"]);
    assert_eq!(ids.last(), Some(&"added-0097"));
    let totals = status.totals.unwrap();
    assert_eq!((totals.stock, totals.sold, totals.remaining), (50_030, 20_012, 30_018));
}
