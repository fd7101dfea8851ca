//! A sale as it changes: a screen that is drawn again in a terminal, lines elsewhere.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use flashsale_operator::crd::FlashSale;
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use tokio::time::{Instant, interval};

use super::screen::{Rate, line, screen};
use crate::cluster::Cluster;

/// Ages on the screen are not older than this.
const REDRAW: Duration = Duration::from_secs(1);
/// The rate is that of at least this time: the operator counts every ten seconds.
const RATE_OVER: Duration = Duration::from_secs(20);
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_REST: &str = "\x1b[J";

/// Shows the sale until it is deleted.
pub async fn run(cluster: &Cluster, sale: FlashSale, terminal: bool) -> Result<()> {
    let name = sale.name_any();
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher::watcher(cluster.api::<FlashSale>(), only).boxed();
    let mut clock = interval(REDRAW);
    let started = Instant::now();
    let mut view = View { terminal, started, last: String::new(), counts: Vec::new() };
    if terminal {
        print!("{CLEAR}");
    }
    let mut shown = sale;
    view.count(&shown);
    view.show(&shown)?;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Apply(sale) | Event::InitApply(sale))) => {
                    shown = sale;
                    view.count(&shown);
                    view.show(&shown)?;
                }
                Some(Ok(Event::Delete(_))) => {
                    eprintln!("the sale {name} was deleted");
                    return Ok(());
                }
                Some(Ok(Event::Init | Event::InitDone)) => {}
                // The watcher tries again by itself.
                Some(Err(watcher::Error::InitialListFailed(error))) => return Err(cluster.explain(error)),
                Some(Err(error)) => eprintln!("the watch is interrupted: {error}"),
                None => bail!("the watch of the sale ended"),
            },
            _ = clock.tick(), if terminal => view.show(&shown)?,
        }
    }
}

struct View {
    terminal: bool,
    started: Instant,
    /// The last line outside of a terminal.
    last: String,
    /// Units sold, by time.
    counts: Vec<(Instant, i64)>,
}

impl View {
    fn count(&mut self, sale: &FlashSale) {
        let totals = sale.status.as_ref().and_then(|status| status.totals);
        if let Some(totals) = totals {
            self.counts.push((Instant::now(), totals.sold));
        }
        // One count before the time of the rate is its start.
        while self.counts.get(1).is_some_and(|(at, _)| at.elapsed() >= RATE_OVER) {
            self.counts.remove(0);
        }
    }

    fn rate(&self) -> Option<Rate> {
        let (&(from, before), &(_, now)) = (self.counts.first()?, self.counts.last()?);
        let seconds = from.elapsed().as_secs_f64();
        let units = i32::try_from(now - before).unwrap_or(i32::MAX);
        (seconds >= 1.0).then(|| Rate { units: f64::from(units) / seconds, seconds })
    }

    fn show(&mut self, sale: &FlashSale) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.terminal {
            let text = screen(sale, self.rate(), Timestamp::now());
            write!(out, "{HOME}{}{CLEAR_REST}", text.replace('\n', CLEAR_LINE))?;
        } else {
            let text = line(sale);
            if text != self.last {
                writeln!(out, "{:>6} s  {text}", self.started.elapsed().as_secs())?;
                self.last = text;
            }
        }
        out.flush()?;
        Ok(())
    }
}
