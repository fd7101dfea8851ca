//! The scripts on a real Redis, and the damage without their checks.

use testkit::RedisServer;

use super::*;
use crate::metrics::Metrics;

async fn connected(server: &RedisServer) -> SharedBudgets {
    let node = redlock::NodeConfig { address: server.address(), password: None };
    let endpoint = Endpoint::new(&node, None).unwrap();
    let metrics = Metrics::new().unwrap();
    let budgets = SharedBudgets::new(endpoint, "a key", Arc::clone(metrics.clients())).unwrap();
    *budgets.lock() = Some(budgets.connect().await.unwrap());
    budgets
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// How many attempts are accepted until one is refused, and for how long.
async fn spend(budgets: &SharedBudgets, charges: &Charges) -> (usize, Duration) {
    for made in 0..1_000 {
        match budgets.charge(charges).await {
            Charged::Yes => {}
            Charged::No(TooManyAttempts { retry_after }) => return (made, retry_after),
            Charged::Unknown => panic!("the node is there"),
        }
    }
    panic!("there is no limit")
}

#[tokio::test]
async fn an_id_at_an_address_has_five_attempts_and_what_succeeded_costs_nothing() {
    let server = RedisServer::start().unwrap();
    let budgets = connected(&server).await;
    let (ann, elsewhere) =
        (budgets.log_in("ann", address("192.0.2.66")), budgets.log_in("ann", address("192.0.2.1")));
    let (made, wait) = spend(&budgets, &ann).await;
    assert_eq!(made, 5);
    assert!(wait <= PER_ID_AND_ADDRESS.refill, "{wait:?}");
    assert_eq!(spend(&budgets, &budgets.log_in("bob", address("192.0.2.66"))).await.0, 5);
    for _ in 0..20 {
        assert!(matches!(budgets.charge(&elsewhere).await, Charged::Yes));
        budgets.settle(&elsewhere, true).await;
        assert!(matches!(budgets.charge(&elsewhere).await, Charged::Yes));
        budgets.settle(&elsewhere, false).await;
    }
    assert_eq!(spend(&budgets, &elsewhere).await.0, 5);
}

#[tokio::test]
async fn many_addresses_never_lock_out_the_owners_address() {
    let server = RedisServer::start().unwrap();
    let budgets = connected(&server).await;
    let home = budgets.log_in("ann", address("192.0.2.1"));
    assert!(matches!(budgets.charge(&home).await, Charged::Yes));
    budgets.settle(&home, true).await;
    let mut accepted = 0;
    for n in 0..60_u8 {
        let from = budgets.log_in("ann", IpAddr::from([198, 51, 100, n]));
        accepted += usize::from(matches!(budgets.charge(&from).await, Charged::Yes));
    }
    // One more comes back every ten seconds.
    assert!((50..60).contains(&accepted), "{accepted}");
    assert_eq!(spend(&budgets, &home).await.0, 5);
}

#[tokio::test]
async fn the_node_knows_neither_ids_nor_addresses_and_forgets_what_is_over() {
    let server = RedisServer::start().unwrap();
    let budgets = connected(&server).await;
    let charges = budgets.log_in("ann", address("192.0.2.66"));
    spend(&budgets, &charges).await;
    budgets.settle(&charges, true).await;
    spend(&budgets, &budgets.sign_up(address("192.0.2.66"))).await;
    let mut connection = budgets.connect().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert_eq!(keys.len(), 4, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("limits:"), "{key}");
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        assert!(ttl > 0, "{key} stays for ever");
        let members: Vec<String> = redis::cmd("ZRANGE")
            .arg(&key)
            .arg(0)
            .arg(-1)
            .query_async(&mut connection)
            .await
            .unwrap();
        let is_hash =
            |member: &String| member.len() == 32 && member.bytes().all(|it| it.is_ascii_hexdigit());
        assert!(members.iter().all(is_hash), "{key} {members:?}");
    }
}

/// Members of a set after this many addresses, at most 50 of which may stay; and whether the budget that was spent
/// first is still spent.
async fn after_many(script: &Script, addresses: u32) -> (usize, bool) {
    let server = RedisServer::start().unwrap();
    let budgets = connected(&server).await;
    let mut connection = budgets.connect().await.unwrap();
    let mut charge = async |member: &str, attempts: u32| -> i64 {
        let mut call = script.prepare_invoke();
        call.key("limits:test").arg(50).arg(1).arg(member).arg(attempts).arg(600_000).arg("");
        call.invoke_async(&mut connection).await.unwrap()
    };
    while charge("spent", 5).await == 0 {}
    for n in 0..addresses {
        charge(&n.to_string(), 5).await;
    }
    let is_spent = charge("spent", 5).await > 0;
    let count = redis::cmd("ZCARD").arg("limits:test").query_async(&mut connection).await.unwrap();
    (count, is_spent)
}

#[tokio::test]
async fn memory_is_bounded_and_spent_budgets_stay_spent() {
    let script = include_str!("../charge_attempt.lua");
    let (count, is_spent) = after_many(&Script::new(script), 500).await;
    assert!(count <= 51 && is_spent, "{count} {is_spent}");
    let check = "redis.call('ZCARD', KEYS[i]) > most";
    assert!(script.contains(check));
    let unbounded = Script::new(&script.replace(check, "false"));
    assert_eq!(after_many(&unbounded, 500).await.0, 501);
}

/// Budgets whose script lacks a check.
async fn without(check: &str, server: &RedisServer) -> SharedBudgets {
    let script = include_str!("../charge_attempt.lua");
    assert!(script.contains(check), "{check}");
    let charge = Script::new(&script.replace(check, "if false then"));
    SharedBudgets { charge, ..connected(server).await }
}

#[tokio::test]
async fn without_the_check_an_address_may_try_and_sign_up_for_ever() {
    let server = RedisServer::start().unwrap();
    let budgets = without("if wait > 0 then", &server).await;
    let from = address("192.0.2.66");
    for charges in [budgets.log_in("ann", from), budgets.sign_up(from)] {
        for made in 0..500 {
            assert!(matches!(budgets.charge(&charges).await, Charged::Yes), "{made}");
        }
    }
}

#[tokio::test]
async fn without_the_exemption_many_addresses_lock_out_the_owners_address() {
    let server = RedisServer::start().unwrap();
    let exemption = "if exempt ~= '' and redis.call('ZSCORE', KEYS[count + 1], exempt) then";
    let budgets = without(exemption, &server).await;
    let home = budgets.log_in("ann", address("192.0.2.1"));
    assert!(matches!(budgets.charge(&home).await, Charged::Yes));
    budgets.settle(&home, true).await;
    for n in 0..60_u8 {
        let from = budgets.log_in("ann", IpAddr::from([198, 51, 100, n]));
        let _spent = budgets.charge(&from).await;
    }
    // One more comes back every ten seconds.
    let (made, _) = spend(&budgets, &home).await;
    assert!(made <= 1, "{made}");
}

#[tokio::test]
async fn nobody_waits_for_a_clock_that_was_set_back() {
    let server = RedisServer::start().unwrap();
    let budgets = connected(&server).await;
    let charges = budgets.sign_up(address("192.0.2.66"));
    let (set, member, budget) = &charges.budgets[0];
    let far: i64 = 4_000_000_000_000;
    server.command(&format!("ZADD {set} {far} {member}")).unwrap();
    let Charged::No(refused) = budgets.charge(&charges).await else { panic!("it is spent") };
    assert!(refused.retry_after <= budget.refill, "{refused:?}");
}

#[tokio::test]
async fn a_node_that_is_away_or_refuses_decides_nothing() {
    let mut server = RedisServer::start().unwrap();
    let budgets = connected(&server).await;
    let charges = budgets.sign_up(address("192.0.2.66"));
    server.command("SET limits:sign-ups:address x").unwrap();
    assert!(matches!(budgets.charge(&charges).await, Charged::Unknown));
    assert!(budgets.lock().is_some(), "the connection is good");
    server.kill().unwrap();
    assert!(matches!(budgets.charge(&charges).await, Charged::Unknown));
    assert!(budgets.lock().is_none());
}
