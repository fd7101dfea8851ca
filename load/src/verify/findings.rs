//! The verdict on a sale without load: a pure function of the totals and the copies.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::copies::Copy;
use crate::stores::database::holds::Holds;
use crate::stores::database::limits::{MAX_COUNTED, MAX_LISTED};
use crate::stores::database::totals::{ProductTotals, Totals};

/// Products that have a line of their own even if they are right.
const MAX_SHOWN: usize = 20;

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Every rule holds
    #[serde(rename = "PASS")]
    Pass,
    /// Something could not be read
    #[serde(rename = "UNKNOWN")]
    Unknown,
    /// A rule is violated
    #[serde(rename = "FAIL")]
    Fail,
}

/// What is judged.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The sale's name, if it is known
    pub sale: Option<String>,
    /// Units that the `FlashSale` declares, by product; empty: not known
    pub declared: BTreeMap<String, i64>,
    /// The database, or the error
    pub totals: Option<Result<Totals, String>>,
    /// Units on sale that buyers wait for, by product, or the error; absent: the database is older than waiting lists
    pub unserved: Option<Result<BTreeMap<String, i64>, String>>,
    /// The copies by node and product
    pub nodes: BTreeMap<String, BTreeMap<String, Copy>>,
}

/// One rule.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: String,
    measured: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    expected: String,
    result: Verdict,
    /// Left out of the text while it is right.
    #[serde(skip)]
    minor: bool,
}

/// A product, for tools.
#[derive(Debug, Clone, Serialize)]
struct ProductFinding {
    id: String,
    declared: i64,
    available: i64,
    sold: i64,
    units: BTreeMap<String, i64>,
    lines: BTreeMap<String, i64>,
    deleted: bool,
}

/// The verdict with its reasons.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    sale: Option<String>,
    products: Vec<ProductFinding>,
    checks: Vec<Check>,
    problems: Vec<String>,
}

impl Findings {
    /// Judges.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let mut findings = Self {
            verdict: Verdict::Pass,
            sale: evidence.sale.clone(),
            products: Vec::new(),
            checks: Vec::new(),
            problems: Vec::new(),
        };
        match &evidence.totals {
            Some(Ok(totals)) => findings.database(evidence, totals),
            Some(Err(error)) => findings.unknown("database", error),
            None => findings.unknown("database", "it was not read"),
        }
        findings.nodes(&evidence.nodes);
        let results = findings.checks.iter().map(|check| check.result);
        findings.verdict = results.max().unwrap_or(Verdict::Unknown);
        findings
    }

    /// The result.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// One line for tools.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings, numbers and maps with string keys always serialize; a reader of `{}` sees no verdict.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    fn check(&mut self, name: String, measured: String, expected: String, right: bool) {
        let result = if right { Verdict::Pass } else { Verdict::Fail };
        self.checks.push(Check { name, measured, expected, result, minor: false });
    }

    fn unknown(&mut self, name: &str, error: &str) {
        self.checks.push(Check {
            name: name.to_owned(),
            measured: "unreadable".to_owned(),
            expected: String::new(),
            result: Verdict::Unknown,
            minor: false,
        });
        self.problems.push(format!("{name}: {error}"));
    }

    fn database(&mut self, evidence: &Evidence, totals: &Totals) {
        if let Some(sale) = &evidence.sale
            && totals.owner.as_ref() != Some(sale)
        {
            let owner = totals.owner.as_deref().map_or("no sale", |owner| owner);
            return self.unknown("database", &format!("it belongs to {owner}, not to {sale}"));
        }
        if totals.products.is_empty() {
            return self.unknown("database", "it has no product: the sale is not seeded");
        }
        let many = totals.products.len() > MAX_SHOWN;
        for (id, product) in &totals.products {
            let first = self.checks.len();
            self.product(id, product, evidence.declared.get(id).copied());
            self.checks[first..].iter_mut().for_each(|check| check.minor = many);
        }
        for id in evidence.declared.keys().filter(|id| !totals.products.contains_key(*id)) {
            let name = format!("product {id}: in the database");
            self.check(name, "no".to_owned(), "yes".to_owned(), false);
        }
        self.limits(totals);
        self.holds(totals);
        self.waitlist(evidence);
        let sum = |count: fn(&ProductTotals) -> i64| totals.products.values().map(count).sum();
        let (sold, declared): (i64, i64) =
            (sum(ProductTotals::sold), sum(|product| product.declared));
        let oversold = sum(|product| (product.sold() - product.declared).max(0));
        self.check("oversold".to_owned(), oversold.to_string(), "= 0".to_owned(), oversold == 0);
        let measured = format!("{sold} of {declared}");
        self.check("units of all orders".to_owned(), measured, String::new(), true);
    }

    /// Units of orders and units left are the units that were put on sale.
    fn product(&mut self, id: &str, product: &ProductTotals, declared: Option<i64>) {
        let sold = product.sold();
        if !product.has_stock {
            let name = format!("product {id}: stock row");
            return self.check(name, "missing".to_owned(), "exists".to_owned(), false);
        }
        let sum = sold + product.available;
        // Deleted units are no longer on sale: what is left of them is of no account.
        let right =
            if product.deleted { sold <= product.declared } else { sum == product.declared };
        self.check(
            format!("product {id}: units of orders + stock left"),
            format!("{sold} + {} = {sum}", product.available),
            format!("{} {}", if product.deleted { "<=" } else { "=" }, product.declared),
            right && product.available >= 0,
        );
        if let Some(declared) = declared.filter(|_| !product.deleted) {
            let given = product.declared - product.restocked;
            self.check(
                format!("product {id}: declared stock in the database"),
                given.to_string(),
                format!("= {declared}"),
                given == declared,
            );
        }
        self.products.push(ProductFinding {
            id: id.to_owned(),
            declared: product.declared,
            available: product.available,
            sold,
            units: product.units.clone(),
            lines: product.lines.clone(),
            deleted: product.deleted,
        });
    }

    fn limits(&mut self, totals: &Totals) {
        let number = totals.above_limit.len();
        let measured =
            if number == MAX_COUNTED { format!("{number} or more") } else { number.to_string() };
        let name = "buyers above maxPerBuyer".to_owned();
        self.check(name, measured, "= 0".to_owned(), number == 0);
        for above in totals.above_limit.iter().take(MAX_LISTED) {
            let (who, too) = if above.is_person {
                ("person", "erased accounts and orders from before a limit was lowered count too")
            } else {
                ("buyer", "orders from before a limit was lowered count too")
            };
            self.problems.push(format!(
                "{who} {} has {} units of product {}, whose maxPerBuyer is {} ({too})",
                above.name, above.units, above.product, above.limit
            ));
        }
    }

    /// Units that nobody paid in time must be for sale again.
    fn holds(&mut self, totals: &Totals) {
        let Some(holds) = totals.holds else { return };
        let Holds { open, overdue, overdue_units, endless, endless_units } = holds;
        let measured = format!("{overdue} of {open} open");
        self.check("holds past their end".to_owned(), measured, "= 0".to_owned(), overdue == 0);
        if overdue > 0 {
            self.problems.push(format!(
                "{overdue_units} units are held by orders whose hold ended more than 10 s ago: is a replica running, and \
                 does a majority of the Redis nodes vote?"
            ));
        }
        // They break no rule: a release without holds made them.
        if endless > 0 {
            let name = "unpaid orders without an end".to_owned();
            self.check(name, endless.to_string(), String::new(), true);
            self.problems.push(format!(
                "{endless_units} units are held by {endless} unpaid orders without an end, as a release before holds made \
                 them: they stay held until somebody pays or cancels these orders"
            ));
        }
    }

    /// Nothing may stay unsold that somebody waits for.
    fn waitlist(&mut self, evidence: &Evidence) {
        let name = "units on sale although buyers wait for them";
        let products = match &evidence.unserved {
            Some(Ok(products)) => products,
            Some(Err(error)) => return self.unknown(name, error),
            None => return,
        };
        let units: i64 = products.values().sum();
        self.check(name.to_owned(), units.to_string(), "= 0".to_owned(), units == 0);
        for (product, units) in products.iter().take(MAX_LISTED) {
            self.problems.push(format!(
                "{units} units of product {product} are on sale, and the first who wait would take them: is a replica \
                 running, and does a majority of the Redis nodes vote?"
            ));
        }
    }

    /// Copies decide no purchase under `Locked`, so a minority of the nodes may be away.
    fn nodes(&mut self, nodes: &BTreeMap<String, BTreeMap<String, Copy>>) {
        let away = |copies: &BTreeMap<String, Copy>| {
            copies.values().any(|copy| matches!(copy, Copy::Unread(_)))
        };
        let unread = nodes.values().filter(|copies| away(copies)).count();
        let majority = unread * 2 < nodes.len();
        for (node, copies) in nodes {
            let name = format!("stock on {node}");
            let error = copies.values().find_map(|copy| match copy {
                Copy::Unread(error) => Some(error),
                _ => None,
            });
            if let Some(error) = error {
                self.unknown(&name, error);
                if majority && let Some(check) = self.checks.last_mut() {
                    check.result = Verdict::Pass;
                    "a majority of the nodes agrees".clone_into(&mut check.expected);
                }
                continue;
            }
            let agree = copies.values().filter(|copy| **copy == Copy::Agrees).count();
            let measured = format!("{agree} of {} products agree", copies.len());
            self.check(name.clone(), measured, "all".to_owned(), agree == copies.len());
            for (product, copy) in copies {
                match copy {
                    Copy::Differs(value) => {
                        self.problems.push(format!("{name}: stock:{product} is {value}"));
                    }
                    Copy::Missing => {
                        self.problems.push(format!("{name}: there is no key stock:{product}"));
                    }
                    Copy::Agrees | Copy::Unread(_) => {}
                }
            }
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verify: {}", self.sale.as_deref().unwrap_or("sale"))?;
        let shown = |check: &&Check| !check.minor || check.result != Verdict::Pass;
        let checks: Vec<&Check> = self.checks.iter().filter(shown).collect();
        let width = |column: fn(&Check) -> &str| {
            checks.iter().map(|check| column(check).chars().count()).max().unwrap_or(0)
        };
        let (name, measured, expected) =
            (width(|it| &it.name), width(|it| &it.measured), width(|it| &it.expected));
        for check in &checks {
            let result = match check.result {
                Verdict::Pass if check.expected.is_empty() => "",
                Verdict::Pass => "ok",
                Verdict::Fail => "FAIL",
                Verdict::Unknown => "unknown",
            };
            let line = format!(
                "  {:<name$}  {:>measured$}  {:<expected$}  {result}",
                check.name, check.measured, check.expected
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        if let Some(hidden) = self.checks.len().checked_sub(checks.len()).filter(|&it| it > 0) {
            writeln!(f, "  and {hidden} more that are ok")?;
        }
        for problem in self.problems.iter().take(MAX_SHOWN) {
            writeln!(f, "  - {problem}")?;
        }
        if let Some(more) = self.problems.len().checked_sub(MAX_SHOWN).filter(|&more| more > 0) {
            writeln!(f, "  - and {more} more")?;
        }
        f.write_str(match self.verdict {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
            Verdict::Unknown => "COULD NOT TELL",
        })
    }
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
