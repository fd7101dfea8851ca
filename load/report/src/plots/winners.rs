//! Who bought, by the order of asking.

use std::collections::BTreeMap;

use super::style::{Plot, SOLD, SOLD_COLOR, SOLD_OUT_COLOR, float, seconds};
use crate::plot::{Axis, Mark, PlotError, draw};
use crate::report::Report;
use crate::series::{Point, Series, Slots};

/// A user of a small crowd.
struct User<'a> {
    /// When this user asked first
    asked_us: u64,
    /// The purchase; without one, the last answer
    answer: &'a Point,
}

impl User<'_> {
    fn has_bought(&self) -> bool {
        self.answer.code == SOLD
    }
}

fn users(points: &[Point]) -> Vec<User<'_>> {
    let mut users: BTreeMap<u32, User<'_>> = BTreeMap::new();
    for point in points {
        let user =
            users.entry(point.user).or_insert(User { asked_us: point.asked_us, answer: point });
        user.asked_us = user.asked_us.min(point.asked_us);
        // An order that is paid or cancelled after the purchase has further answers.
        let is_later = point.asked_us >= user.answer.asked_us;
        if !user.has_bought() && (is_later || point.code == SOLD) {
            user.answer = point;
        }
    }
    let mut users: Vec<User<'_>> = users.into_values().collect();
    users.sort_by_key(|user| user.asked_us);
    users
}

pub(super) fn winners(report: &Report) -> Result<Option<Plot>, PlotError> {
    let series = &report.figures().series;
    let any_sold = series.asked.slots.iter().any(|slot| slot.codes.contains_key(SOLD));
    if !any_sold || all_at_once(series) {
        return Ok(None);
    }
    let (svg, caption) =
        if series.has_all_points() { each_user(series)? } else { share_of_winners(&series.asked)? };
    let legend = vec![("bought".to_owned(), SOLD_COLOR), ("did not".to_owned(), SOLD_OUT_COLOR)];
    Ok(Some(Plot { title: "Winners by the order of asking", caption, svg, legend }))
}

/// Whether all users asked at the very same moment, as far as the report knows: then nobody was first.
fn all_at_once(series: &Series) -> bool {
    if series.has_all_points() {
        let users = users(&series.points);
        let asked = |user: Option<&User<'_>>| user.map(|user| user.asked_us);
        return asked(users.first()) == asked(users.last());
    }
    let slots = series.asked.slots.iter();
    slots.filter(|slot| !slot.codes.is_empty()).count() <= 1
}

fn each_user(series: &Series) -> Result<(String, String), PlotError> {
    let users = users(&series.points);
    let answered = |user: &User<'_>| seconds(user.answer.asked_us + user.answer.took_us) * 1e3;
    let is_winner = |user: &&User<'_>| user.has_bought();
    let winners = users.iter().filter(is_winner).count();
    let early = users.iter().take(winners).filter(is_winner).count();
    let marks: Vec<Mark> = (1_u32..)
        .zip(&users)
        .map(|(rank, user)| {
            let (x, y) = (f64::from(rank), answered(user));
            if user.has_bought() {
                Mark::Dot(x, y, SOLD_COLOR)
            } else {
                Mark::Cross(x, y, SOLD_OUT_COLOR)
            }
        })
        .collect();
    let latest = users.iter().map(answered).fold(0.0, f64::max);
    let count = float(u64::try_from(users.len()).unwrap_or_default());
    let x = Axis::counts(count, "users, in the order of asking");
    let svg = draw(&x, &Axis::linear(latest, "answered after, ms"), &marks)?;
    let asked = |user: Option<&User<'_>>| user.map_or(0, |user| user.asked_us);
    let span = seconds(asked(users.last()) - asked(users.first())) * 1e3;
    let caption = format!(
        "{early} of the {winners} users who asked first bought one; all asked within {span:.0} ms. With order: Fair a \
         buyer is served before everybody who asked after that buyer had a ticket; users who asked at the same moment \
         may be in any order."
    );
    Ok((svg, caption))
}

fn share_of_winners(asked: &Slots) -> Result<(String, String), PlotError> {
    let width = seconds(asked.width_us);
    let mut marks = Vec::new();
    for (index, slot) in (0_u32..).zip(&asked.slots) {
        let sold = f64::from(slot.codes.get(SOLD).copied().unwrap_or_default());
        let all: f64 = slot.codes.values().map(|&count| f64::from(count)).sum();
        if all > 0.0 {
            let (from, to) = (f64::from(index) * width, f64::from(index + 1) * width);
            let share = sold / all * 100.0;
            marks.push(Mark::Cell((from, 0.0), (to, share), SOLD_COLOR, 0.9));
            marks.push(Mark::Cell((from, share), (to, 100.0), SOLD_OUT_COLOR, 0.5));
        }
    }
    let end = float(u64::try_from(asked.slots.len()).unwrap_or_default()) * width;
    let x = Axis::linear(end, "seconds until the user asked first");
    let svg = draw(&x, &Axis::linear(100.0, "% of the users"), &marks)?;
    let caption = format!("Users who asked in the same {width} s, by whether they bought.");
    Ok((svg, caption))
}
