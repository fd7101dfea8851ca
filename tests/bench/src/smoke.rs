//! One short round of the whole path in the test command, so that the bench cannot rot. It judges
//! no time: only that the parts play together, that the books agree and that every figure comes.

use std::path::PathBuf;
use std::time::Duration;

use crate::figures::Section;
use crate::{choose, path, rounds_of};

/// Built by cargo for the app's own tests, next to this test's folder.
fn app() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let app = this.ancestors().nth(2).unwrap().join("flashsale-app");
    assert!(app.exists(), "first: cargo build --package flashsale-app ({})", app.display());
    app
}

fn measure(only: &str) {
    let sections: Vec<&Section> = choose(path::SECTIONS, Some(only)).unwrap();
    let records = rounds_of(&sections, 1, Duration::from_secs(1), &[app()]).unwrap();
    let results = records[0].results(&sections).unwrap();
    let table = results.table(&sections).unwrap();
    for row in sections.iter().flat_map(|section| section.rows) {
        let median = results.rows[&row.name()].median;
        assert!(median.is_finite() && median > 0.0, "{}\n{table}", row.name());
    }
}

#[test]
fn loads_on_postgres_are_measured_and_their_books_agree() {
    measure("64 connections");
}

#[test]
fn a_sale_at_one_moment_is_measured() {
    measure("300 users");
}

#[test]
fn several_products_at_one_moment_are_measured() {
    measure("100 users");
}
