//! One short round of about a third of the sections in the test command. It judges no time: only that the parts play
//! together, that the books agree and that every figure comes. The other sections, and all of the lock's, are only
//! compiled here: run them after a change of what they use.

use std::path::PathBuf;
use std::time::Duration;

use crate::figures::Section;
use crate::{choose, load, path, rounds_of};

/// Built by cargo for its own tests, next to this test's folder.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join(name);
    assert!(program.exists(), "first: cargo build --package {name} ({})", program.display());
    program
}

fn measure(all: &'static [Section], only: &str) {
    let sections: Vec<&Section> = choose(all, Some(only)).unwrap();
    let (app, load) = (program("flashsale-app"), program("flashsale-load"));
    let records = rounds_of(&sections, 1, Duration::from_secs(1), &[app], &load).unwrap();
    let results = records[0].results(&sections).unwrap();
    let table = results.table(&sections).unwrap();
    for row in sections.iter().flat_map(|section| section.rows) {
        let median = results.rows[&row.name()].median;
        assert!(median.is_finite() && median > 0.0, "{}\n{table}", row.name());
    }
}

#[test]
fn loads_on_postgres_are_measured_and_their_books_agree() {
    measure(path::SECTIONS, "64 connections");
}

#[test]
fn a_sale_at_one_moment_is_measured() {
    measure(path::SECTIONS, "300 users");
}

#[test]
fn several_products_at_one_moment_are_measured() {
    measure(path::SECTIONS, "100 users");
}

#[test]
fn the_load_job_and_wrk_are_measured_on_one_core() {
    measure(load::SECTIONS, "by wrk");
}

#[test]
fn the_percentiles_of_the_load_job_are_measured() {
    measure(load::SECTIONS, "answers nothing for a second");
}

#[test]
fn the_cost_of_traces_is_measured() {
    measure(path::SECTIONS, "Traces");
}

#[test]
fn the_cost_of_metrics_is_measured() {
    measure(path::SECTIONS, "Metrics");
}

#[test]
fn the_cost_of_events_and_holds_is_measured() {
    measure(path::SECTIONS, "Events, 512");
}
