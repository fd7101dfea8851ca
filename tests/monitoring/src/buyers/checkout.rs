//! What happens between an order and its payment: buyers pay by Stripe, too late or not at all, and others wait for
//! units that come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Buyers, Caller};
use crate::shop::{Shop, token};
use crate::stripe;

const ADMIN: (&str, &str) = ("admin", "admin");
const WAITLIST: &str = "/v1/products/2/waitlist";
/// Units of product `2` that unpaid orders hold, one each.
const HELD: i64 = 8;
/// Buyers who wait for one unit.
const WAITERS: usize = 16;
/// Seconds for which an order of product `2` holds its units: the shortest hold that is allowed.
const HOLD_SECONDS: u32 = 5;
/// Price of product `1`, in cents.
const PRICE: i64 = 49_900;
/// Between two payments.
const PACE: Duration = Duration::from_millis(250);
/// Between two attempts to wait.
const WAIT_PACE: Duration = Duration::from_secs(1);

impl Buyers {
    /// Starts them, and others: who pay by Stripe, who pay too late or not at all, and who wait. Product `2` is sold out
    /// from the beginning, and unpaid orders hold some of it.
    ///
    /// # Errors
    /// When the products cannot be changed, or a buyer can neither order nor wait.
    pub async fn start_with_checkout(shop: &Shop) -> Result<Self> {
        set_terms(shop).await?;
        let unpaid = hold_what_is_left(shop).await?;
        let waiters: Vec<String> = (0..WAITERS).map(|number| format!("waiter-{number}")).collect();
        // Is passed over, because that many units never come back.
        join(shop, "patient", HELD + 1).await?;
        for waiter in &waiters {
            join(shop, waiter, 1).await?;
        }
        let caller = |name: &str, role: &str| {
            anyhow::Ok(Caller::new(shop, &shop.replicas[0], token(name, role)?))
        };
        let waiters = waiters.iter().map(|waiter| caller(waiter, "buyer"));
        let waiters = waiters.collect::<Result<Vec<_>>>()?;
        let Self { stopped, mut tasks } = Self::start(shop).await?;
        tasks.spawn(wait(waiters, Arc::clone(&stopped)));
        tasks.spawn(pay(caller("payer", "buyer")?, Arc::clone(&stopped)));
        tasks.spawn(pay_late(caller("admin", "admin")?, unpaid, Arc::clone(&stopped)));
        Ok(Self { stopped, tasks })
    }
}

/// Product `1` gets a price, and product `2` a short hold.
async fn set_terms(shop: &Shop) -> Result<()> {
    for (product, terms) in [
        ("1", json!({ "name": "Console", "price": { "amount": PRICE, "currency": "EUR" } })),
        ("2", json!({ "name": "Limited", "hold_seconds": HOLD_SECONDS })),
    ] {
        let revised = shop.call(ADMIN, "PUT", &format!("/v1/products/{product}"), terms).await?;
        ensure!(revised.0 == 200, "{revised:?}");
    }
    Ok(())
}

/// Sells product `2` but for a few units, which orders hold. Returns the orders.
async fn hold_what_is_left(shop: &Shop) -> Result<Vec<String>> {
    let left = shop.number("SELECT available FROM stock WHERE product_id = '2'").await?;
    let purchase = json!({ "product_id": "2", "quantity": left - HELD });
    let sold = shop.call(("collector", "buyer"), "POST", "/v1/purchases", purchase).await?;
    ensure!(sold.0 == 201, "{sold:?}");
    let mut orders = Vec::new();
    for number in 0..HELD {
        orders.push(shop.place(&format!("holder-{number}"), "2").await?);
    }
    Ok(orders)
}

async fn join(shop: &Shop, buyer: &str, quantity: i64) -> Result<()> {
    let wish = json!({ "quantity": quantity });
    let joined = shop.call((buyer, "buyer"), "POST", WAITLIST, wish).await?;
    ensure!(joined.0 == 201, "{joined:?}");
    Ok(())
}

/// A waiter who is served does not pay, and joins the list again. In the end all waiters leave it.
async fn wait(waiters: Vec<Caller>, stopped: Arc<AtomicBool>) {
    while !stopped.load(Ordering::Relaxed) {
        tokio::time::sleep(WAIT_PACE).await;
        for waiter in &waiters {
            waiter.post(WAITLIST, &json!({}), "").await;
        }
    }
    for waiter in &waiters {
        waiter.send(waiter.http.delete(format!("{}{WAITLIST}", waiter.api))).await;
    }
}

/// Orders product `1`, and Stripe reports the payment.
async fn pay(payer: Caller, stopped: Arc<AtomicBool>) {
    let items = json!({ "items": [{ "product_id": "1" }] });
    for round in 0_u32.. {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let placed = payer.post("/v1/orders", &items, &format!("payer-{round}")).await;
        if let Some(order) = placed["order_id"].as_str() {
            for event in events(round, order) {
                // Replicas may be away: then there is no answer.
                let _ = stripe::deliver(&payer.http, &payer.api, &event).await;
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// The order is paid, reported twice, refunded, paid with another amount, or not paid.
fn events(round: u32, order: &str) -> Vec<Value> {
    const COMPLETED: &str = "checkout.session.completed";
    let paid = stripe::session(&format!("evt_paid_{round}"), COMPLETED, order, PRICE);
    match round % 5 {
        0 => vec![paid],
        1 => vec![paid.clone(), paid],
        2 => vec![paid, stripe::refund(&format!("evt_refunded_{round}"), order, PRICE)],
        // The id is always the same, so one event waits for an administrator.
        3 => vec![stripe::session("evt_other_amount", COMPLETED, order, PRICE - 1)],
        _ => {
            let kind = "checkout.session.async_payment_failed";
            vec![stripe::session(&format!("evt_failed_{round}"), kind, order, PRICE)]
        }
    }
}

/// Reports that each order is paid, after its hold. Somebody else has its unit by then, so a refund is due.
async fn pay_late(admin: Caller, orders: Vec<String>, stopped: Arc<AtomicBool>) {
    for order in orders {
        let path = format!("/v1/orders/{order}");
        let url = format!("{}{path}", admin.api);
        while admin.send(admin.http.get(&url)).await["state"] != "expired" {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(PACE).await;
        }
        admin.post(&format!("{path}/payment"), &json!({ "result": "paid" }), "").await;
    }
}
