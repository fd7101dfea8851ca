//! The text that the command `scenarios` prints.

use std::fmt::Write;
use std::time::Duration;

use crate::scenario::{PODS_APART_MS, Scenario};

/// Nobody waits for the last user of a scenario that takes longer.
const LONG: Duration = Duration::from_hours(2);

/// A scenario with its targets.
#[must_use]
pub fn summary(scenario: &Scenario) -> String {
    let mut text = format!("{}\n  {}\n", scenario.name, scenario.description);
    for (name, target) in targets(scenario) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {name:<30}{target}");
    }
    text
}

fn targets(scenario: &Scenario) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let at_once = scenario.users_per_second.is_none();
    let came = if at_once { format!("= {}", scenario.users) } else { ">= 1".to_owned() };
    rows.push(("users that came", came));
    // Either units are added, or somebody ends the run before the last user comes.
    let until_told = scenario.between_users().is_some_and(|it| it * scenario.users > LONG);
    if scenario.restock.is_some() || until_told {
        rows.push(("sold", "= users that came, less what came back".to_owned()));
        rows.push(("success rate", "= 100.00 %".to_owned()));
    } else {
        let buyers = scenario.expected_buyers(scenario.users, scenario.stock);
        let users = 0..scenario.users as usize;
        let returned = users.filter(|user| scenario.gives_back(*user)).count();
        let held = i64::from(buyers) - i64::try_from(returned).unwrap_or(i64::MAX);
        let success = f64::from(buyers) / f64::from(scenario.users) * 100.0;
        rows.push(("sold", format!("= {}", held * i64::from(scenario.quantity))));
        rows.push(("success rate", format!("= {success:.2} %")));
    }
    rows.push(("oversold", "= 0".to_owned()));
    rows.push(("users without a final answer", "= 0".to_owned()));
    if scenario.in_turn {
        rows.push(("users overtaken", "= 0".to_owned()));
    }
    if let Some(stopped) = scenario.stopped_nodes {
        rows.push(("Redis nodes stopped", format!("= {stopped}")));
    }
    if !scenario.answers.only.is_empty() {
        rows.push(("answers", format!("only {}", scenario.answers.only.join(", "))));
    }
    for code in &scenario.answers.some {
        rows.push(("answers", format!("some {code}")));
    }
    let targets = &scenario.targets;
    let apart = (scenario.job.pods > 1).then_some(PODS_APART_MS);
    for (name, bound, value, unit) in [
        ("pods started within", "<", apart, " ms"),
        ("requests/s", ">=", targets.requests_per_second, ""),
        ("P50", "<", targets.p50_ms, " ms"),
        ("average", "<", targets.average_ms, " ms"),
        ("P99", "<", targets.p99_ms, " ms"),
        ("longest pause", "<", targets.pause_ms, " ms"),
        ("lock attempt a node", "<", targets.lock_node_average_ms, " ms on average"),
        ("quorum success", ">=", targets.quorum_success_percent, " %"),
    ] {
        rows.extend(value.map(|value| (name, format!("{bound} {value}{unit}"))));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_says_what_must_be_sold() {
        let text = |name| summary(&Scenario::named(name).unwrap());
        assert!(text("sustained").contains("= users that came"));
        assert!(text("v3-redlock").contains("= 33.33 %"));
        for (name, users) in [("v3-redlock", "= 300\n"), ("sustained", ">= 1\n")] {
            let row = format!("users that came               {users}");
            assert!(text(name).contains(&row), "{}", text(name));
        }
        let checkout = text("checkout");
        assert!(checkout.contains("sold                          = 50\n"), "{checkout}");
        assert!(text("black-friday").contains("pods started within           < 1000 ms\n"));
        let stopped = text("v3-three-nodes-stopped");
        assert!(
            stopped.contains("= 3\n") && stopped.contains("some quorum_unavailable"),
            "{stopped}"
        );
    }
}
