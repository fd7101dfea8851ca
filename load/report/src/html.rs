//! The report as one HTML file. It loads nothing and runs no script. `maud` escapes every text.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::plot::{PlotError, number};
use crate::plots::{self, Plot, colors};
use crate::report::{Report, Row, Status};
use crate::rules::p99_rule;
use crate::text::{PROBLEMS_SHOWN, word};

const STYLE: &str = include_str!("report.css");
/// Should a text become markup after all, it could do nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn page(report: &Report) -> Result<String, PlotError> {
    let plots = plots::all(report)?;
    let title = format!("{}: {}", report.verdict().word(), report.figures().scenario);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                (key_figures(report))
                h2 { "Plots" }
                div.plots { @for plot in &plots { (figure(plot)) } }
                h2 { "Answers by kind" }
                (answers(report))
                h2 { "All figures" }
                (table(report.checks()))
                (problems(report))
            }
        }
    };
    Ok(page.into_string())
}

fn head(report: &Report) -> Markup {
    let figures = report.figures();
    let class = if report.passed() { "pass" } else { "fail" };
    html! {
        header {
            p { span.verdict.(class) { (report.verdict().word()) } }
            h1 { (figures.scenario) ": " (report.description()) }
            @for (word, names) in [("Wrong", report.wrong()), ("Slow", report.slow())] {
                @if !names.is_empty() { p.fail { strong { (word) ": " } (names.join(", ")) } }
            }
            p.soft {
                @if let Some(started) = figures.series.started_at {
                    (started.strftime("%Y-%m-%d %H:%M:%S UTC")) " · "
                }
                "flashsale-load " (report.tool_version())
            }
        }
    }
}

fn key_figures(report: &Report) -> Markup {
    let figures = report.figures();
    let count = |value: i64| number(whole(value));
    let millis = |value: f64| format!("{value:.1} ms");
    let small = report.is_of_a_small_crowd();
    html! {
        dl.figures {
            (tile("sold", &count(figures.sold), &format!("of {} units", count(figures.stock))))
            (tile("oversold", &count(figures.oversold), "units"))
            (tile("users", &count(figures.users.into()), &format!("{} without a final answer", figures.unanswered)))
            (tile("requests", &count(figures.requests.into()), &format!("{:.0}/s", figures.requests_per_second)))
            (tile("longest", &millis(figures.max_ms), "response time"))
            (tile("last answer", &millis(figures.elapsed_seconds * 1e3), "after the first user started"))
            (tile("P50", &millis(figures.p50_ms), "nearest rank"))
            // A lone P99 of few answers would be taken for more than it says.
            @if !small { (tile("P99", &millis(figures.p99_ms), "nearest rank")) }
        }
        @if small && figures.requests > 0 {
            p.soft { "P99 " (millis(figures.p99_ms)) ": " (p99_rule(figures)) "." }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn whole(value: i64) -> f64 {
    value as f64
}

fn tile(name: &str, value: &str, note: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) small { (note) } } } }
}

fn figure(plot: &Plot) -> Markup {
    html! {
        figure {
            h3 { (plot.title) }
            div role="img" aria-label=(format!("{}. {}", plot.title, plot.caption)) {
                // Made by `plot`, which escapes its texts.
                (PreEscaped(&plot.svg))
            }
            @if !plot.legend.is_empty() {
                ul.legend {
                    @for (name, color) in &plot.legend {
                        li { span.swatch style=(format!("background:{}", color.css())) {} (name) }
                    }
                }
            }
            figcaption { (plot.caption) }
        }
    }
}

fn answers(report: &Report) -> Markup {
    let answers = &report.figures().answers;
    let colors = colors(report);
    let all: u32 = answers.values().sum();
    html! {
        div.scroll { table {
            thead { tr { th { "code" } th { "answers" } th { "share" } th {} } }
            tbody {
                @for (code, &count) in answers {
                    @let share = f64::from(count) / f64::from(all.max(1)) * 100.0;
                    @let color = colors.get(code).map_or_else(String::new, |color| color.css());
                    tr {
                        td { (code) }
                        td.number { (number(count.into())) }
                        td.number { (format!("{share:.1} %")) }
                        td style="width:40%" {
                            span.bar style=(format!("width:{share:.1}%;background:{color}")) {}
                        }
                    }
                }
            }
        } }
    }
}

fn table(checks: &[Row]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "figure" } th { "measured" } th { "target" } th { "result" } th { "rule" } } }
            tbody {
                @for row in checks {
                    tr {
                        td { (row.name) }
                        td.number { (row.measured) }
                        td.target { (row.target.as_deref().unwrap_or_default()) }
                        td.(class(row.status)) { (word(row.status)) }
                        td.rule { (row.rule.as_deref().unwrap_or_default()) }
                    }
                }
            }
        } }
    }
}

fn class(status: Status) -> &'static str {
    match status {
        Status::Info | Status::Missed => "soft",
        Status::Ok => "pass",
        Status::Wrong | Status::Slow => "fail",
    }
}

fn problems(report: &Report) -> Markup {
    let problems = report.problems();
    html! {
        @if !problems.is_empty() {
            h2 { "Problems" }
            ul { @for problem in problems.iter().take(PROBLEMS_SHOWN) { li { (problem) } } }
            @if problems.len() > PROBLEMS_SHOWN { p { "and " (problems.len() - PROBLEMS_SHOWN) " more" } }
        }
    }
}
