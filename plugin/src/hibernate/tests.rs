//! Which sales may have buyers.

use super::*;

/// A sale with this end, phase and number of ready replicas.
fn sale(ends_at: Option<&str>, phase: Phase, ready: i32) -> FlashSale {
    let mut sale = json!({
        "apiVersion": "flashsale.dev/v1beta1",
        "kind": "FlashSale",
        "metadata": { "name": "black-friday", "namespace": "shop", "generation": 1 },
        "spec": { "products": [{ "id": "1", "name": "Console", "stock": 100, "maxPerBuyer": 1 }] },
        "status": {
            "observedGeneration": 1, "phase": phase.as_str(),
            "app": { "ready": ready, "replicas": ready, "summary": format!("{ready}/3") },
        },
    });
    if let Some(end) = ends_at {
        sale["spec"]["endsAt"] = json!(end);
    }
    serde_json::from_value(sale).unwrap()
}

#[test]
fn only_a_sale_that_has_surely_no_buyers_ends_without_a_question() {
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    let (past, future) = (Some("2026-11-27T11:00:00Z"), Some("2026-11-27T13:00:00Z"));
    for phase in Phase::ALL {
        let expected = match phase {
            Phase::Scheduled | Phase::Ended | Phase::Hibernated => [false; 4],
            // The operator reports the end itself, unless a replica still sells.
            Phase::Open | Phase::SoldOut | Phase::Degraded => [true; 4],
            Phase::Pending | Phase::Provisioning | Phase::Failed => [true, true, false, false],
        };
        let cases = [(None, 1), (future, 3), (past, 3), (None, 0)];
        let found = cases.map(|(end, ready)| may_have_buyers(&sale(end, phase, ready), now));
        assert_eq!(found, expected, "{phase}");
    }
    let mut unseen = sale(None, Phase::Open, 3);
    unseen.status = None;
    assert!(!may_have_buyers(&unseen, now));
}
