//! What makes a sale right, wrong, or neither.

use super::*;
use crate::stores::database::limits::AboveLimit;

/// 60 of 100 units sold, 10 more cancelled; five nodes agree.
fn evidence() -> Evidence {
    let product = ProductTotals {
        declared: 100,
        restocked: 0,
        available: 40,
        max_per_buyer: Some(1),
        deleted: false,
        has_stock: true,
        units: [("paid", 20), ("confirmed", 40), ("cancelled", 10)]
            .map(|(state, units)| (state.to_owned(), units))
            .into(),
        lines: BTreeMap::new(),
    };
    let copies = BTreeMap::from([("1".to_owned(), Copy::Agrees)]);
    Evidence {
        sale: Some("shop/sale".to_owned()),
        declared: [("1".to_owned(), 100)].into(),
        totals: Some(Ok(Totals {
            owner: Some("shop/sale".to_owned()),
            products: [("1".to_owned(), product)].into(),
            above_limit: Vec::new(),
            holds: Some(Holds { open: 3, ..Holds::default() }),
        })),
        unserved: Some(Ok(BTreeMap::new())),
        nodes: (0..5).map(|node| (format!("redis-{node}"), copies.clone())).collect(),
    }
}

fn judged(change: impl FnOnce(&mut Evidence)) -> Findings {
    let mut evidence = evidence();
    change(&mut evidence);
    Findings::of(&evidence)
}

fn totals(evidence: &mut Evidence) -> &mut Totals {
    evidence.totals.as_mut().unwrap().as_mut().unwrap()
}

fn product(evidence: &mut Evidence) -> &mut ProductTotals {
    totals(evidence).products.get_mut("1").unwrap()
}

fn copy(evidence: &mut Evidence, node: usize, copy: Copy) {
    evidence.nodes.get_mut(&format!("redis-{node}")).unwrap().insert("1".to_owned(), copy);
}

#[test]
fn an_honest_sale_passes() {
    let findings = judged(|_| {});
    assert_eq!(findings.verdict(), Verdict::Pass, "{findings}");
    let json: serde_json::Value = serde_json::from_str(&findings.json()).unwrap();
    assert_eq!(
        (json["verdict"].as_str(), json["products"][0]["sold"].as_i64()),
        (Some("PASS"), Some(60))
    );
    assert!(findings.to_string().ends_with("PASS"), "{findings}");
}

fn above_limit(evidence: &mut Evidence, is_person: bool) {
    let (product, name) = ("1".to_owned(), "b".to_owned());
    let above = AboveLimit { product, name, is_person, units: 2, limit: 1 };
    totals(evidence).above_limit.push(above);
}

type Change = fn(&mut Evidence);

#[test]
fn each_broken_rule_fails() {
    let broken: [(&str, Change); 10] = [
        ("60 + 39 = 99", |it| product(it).available = 39),
        ("oversold", |it| {
            product(it).units.insert("paid".to_owned(), 90);
        }),
        ("declared stock in the database", |it| product(it).restocked = 1),
        ("product 2: in the database", |it| {
            it.declared.insert("2".to_owned(), 5);
        }),
        ("product 3: stock row", |it| {
            totals(it).products.insert("3".to_owned(), ProductTotals::default());
        }),
        ("buyer b has 2 units of product 1", |it| above_limit(it, false)),
        ("person b has 2 units of product 1", |it| above_limit(it, true)),
        ("7 units of product 1 are on sale", |it| {
            it.unserved = Some(Ok([("1".to_owned(), 7)].into()));
        }),
        ("stock on redis-3: stock:1 is 7", |it| copy(it, 3, Copy::Differs(7))),
        ("there is no key stock:1", |it| copy(it, 3, Copy::Missing)),
    ];
    for (expected, change) in broken {
        let findings = judged(change);
        assert_eq!(findings.verdict(), Verdict::Fail, "{expected}: {findings}");
        assert!(findings.to_string().contains(expected), "{expected}: {findings}");
    }
}

#[test]
fn what_could_not_be_read_is_no_verdict() {
    let unread = || Copy::Unread("refused".to_owned());
    let database = judged(|it| it.totals = Some(Err("refused".to_owned())));
    assert_eq!(database.verdict(), Verdict::Unknown, "{database}");
    assert!(database.to_string().ends_with("COULD NOT TELL"), "{database}");
    let waitlist = judged(|it| it.unserved = Some(Err("refused".to_owned())));
    assert_eq!(waitlist.verdict(), Verdict::Unknown, "{waitlist}");
    let other = judged(|it| totals(it).owner = Some("shop/other".to_owned()));
    assert!(other.to_string().contains("belongs to shop/other, not to shop/sale"), "{other}");
    assert_eq!(other.verdict(), Verdict::Unknown);

    let minority = judged(|it| (0..2).for_each(|node| copy(it, node, unread())));
    assert_eq!(minority.verdict(), Verdict::Pass, "{minority}");
    let majority = judged(|it| (0..3).for_each(|node| copy(it, node, unread())));
    assert_eq!(majority.verdict(), Verdict::Unknown, "{majority}");
    // What is wrong stays wrong, whatever else could not be read.
    let wrong = judged(|it| {
        (0..3).for_each(|node| copy(it, node, unread()));
        product(it).available = 41;
    });
    assert_eq!(wrong.verdict(), Verdict::Fail, "{wrong}");
}

#[test]
fn unpaid_orders_without_an_end_are_told() {
    let findings = judged(|it| {
        totals(it).holds = Some(Holds { endless: 2, endless_units: 3, ..Holds::default() });
    });
    assert_eq!(findings.verdict(), Verdict::Pass, "{findings}");
    let expected = "3 units are held by 2 unpaid orders without an end";
    assert!(findings.to_string().contains(expected), "{findings}");
    assert!(!judged(|_| {}).to_string().contains("without an end"));
}

#[test]
fn a_deleted_product_has_no_units_left_to_sell() {
    let findings = judged(|it| {
        it.declared.clear();
        let product = product(it);
        (product.deleted, product.available) = (true, 0);
    });
    assert_eq!(findings.verdict(), Verdict::Pass, "{findings}");
}
