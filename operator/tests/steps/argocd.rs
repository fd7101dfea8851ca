//! The health check for Argo CD. It runs in Redis, whose Lua is of the same version (5.1) as Argo CD's.

use std::process::Command;

use flashsale_operator::crd::{FlashSale, FlashSaleStatus};
use flashsale_operator::flash_sale::not_ready::NotReady;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::seed::Seed;
use testkit::RedisServer;

use crate::sale;
use crate::status::{NOON, after, applied, condition, outcome, rolls_out};

const SCRIPT: &str = include_str!("../../../manifests/argocd/flashsale-health.lua");

/// Status and message.
fn health(redis: &RedisServer, generation: i64, status: Option<FlashSaleStatus>) -> [String; 2] {
    let mut sale = FlashSale { status, ..sale("") };
    sale.metadata.generation = Some(generation);
    let script = format!(
        "local function check(obj) {SCRIPT} end \
         local health = check(cjson.decode(ARGV[1])) \
         return {{health.status, health.message}}"
    );
    let output = Command::new("redis-cli")
        .args(["-u", &format!("redis://{}", redis.address()), "EVAL", &script, "0"])
        .arg(serde_json::to_string(&sale).unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::to_owned);
    [lines.next().unwrap(), lines.next().unwrap_or_default()]
}

#[test]
fn argo_cd_sees_progress_success_and_failure() {
    let redis = RedisServer::start().unwrap();
    let health = |generation, status| health(&redis, generation, status);
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let starting = after(None, &outcome(0, 0, 0, Seed::Running), NOON);
    let degraded = after(Some(ready.clone()), &outcome(4, 1, 3, Seed::Done), NOON);
    let mut resources = applied(5, 1, 3);
    rolls_out(&mut resources.redis, 4);
    let (observed, refusals) = (Box::default(), Vec::new());
    let restarts = Outcome::Applied { resources, seed: Seed::Done, observed, refusals };
    let rolling = after(Some(ready.clone()), &restarts, NOON);
    let reason = "NameTaken";
    let message = "Service black-friday is another's".to_owned();
    let taken =
        Outcome::Waiting(NotReady { reason, message: message.clone(), requeue_after: None });
    let stalled = after(None, &taken, NOON);

    assert_eq!(health(3, None)[0], "Progressing");
    assert_eq!(health(4, Some(ready.clone()))[0], "Progressing", "a change that nobody has seen");
    let said = condition(&starting, "Ready").2;
    assert_eq!(health(3, Some(starting)), ["Progressing".to_owned(), said]);
    let said = "4 of 5 nodes ready; the other one restarts".to_owned();
    assert_eq!(health(3, Some(rolling)), ["Progressing".to_owned(), said]);
    assert_eq!(health(3, Some(ready)), ["Healthy".to_owned(), "all parts are ready".to_owned()]);
    let said = "4 of 5 nodes ready; the quorum holds".to_owned();
    assert_eq!(health(3, Some(degraded)), ["Degraded".to_owned(), said]);
    assert_eq!(health(3, Some(stalled)), ["Degraded".to_owned(), message]);
}
