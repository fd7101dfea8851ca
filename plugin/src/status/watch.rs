//! A sale as it changes: a screen that is drawn again in a terminal, lines elsewhere.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Error, Result, bail};
use flashsale_operator::crd::FlashSale;
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::time::Instant;

use super::screen::{Rate, line, screen};
use crate::cluster::{Cluster, is_refused};
use crate::terminal::note;
use crate::ticks::ticks;

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
    // After an error, the next attempt is made after a pause, which grows to half a minute.
    let watch = watcher::watcher(cluster.api::<FlashSale>(), only).default_backoff();
    let mut events = watch.boxed();
    let mut clock = ticks(REDRAW);
    let started = Instant::now();
    let mut view = View { terminal, started, last: String::new(), counts: Vec::new() };
    if terminal {
        write!(std::io::stdout(), "{CLEAR}")?;
    }
    let mut shown = sale;
    let mut changes = Changes::default();
    view.count(&shown);
    view.show(&shown)?;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => match changes.read(event) {
                    Some(Change::Is(sale)) => {
                        shown = *sale;
                        view.count(&shown);
                        view.show(&shown)?;
                    }
                    Some(Change::Deleted) => {
                        note(format_args!("the sale {name} was deleted"));
                        return Ok(());
                    }
                    None => {}
                },
                Some(Err(error)) => {
                    let error = passing(cluster, error)?;
                    note(format_args!("the watch is interrupted: {error:#}"));
                }
                None => bail!("the watch of the sale ended"),
            },
            _ = clock.tick(), if terminal => view.show(&shown)?,
        }
    }
}

/// An error after which the watcher tries again, for a person. One that stays ends the command.
fn passing(cluster: &Cluster, error: watcher::Error) -> Result<Error> {
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        error @ watcher::Error::NoResourceVersion => return Ok(Error::new(error)),
    };
    let no_such_kind = matches!(&error, kube::Error::Api(status) if status.code == 404);
    let stays = no_such_kind || is_refused(&error);
    let error = cluster.explain(error);
    if stays { Err(error) } else { Ok(error) }
}

/// What became of the watched sale.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Its present state.
    Is(Box<FlashSale>),
    /// It does not exist any more.
    Deleted,
}

/// Reads the events of a watch of one sale.
#[derive(Default)]
pub struct Changes {
    /// Whether the present list had the sale. A watch that begins anew does not tell what was deleted meanwhile.
    is_listed: bool,
}

impl Changes {
    /// `None`: nothing has changed.
    pub fn read(&mut self, event: Event<FlashSale>) -> Option<Change> {
        match event {
            Event::Init => {
                self.is_listed = false;
                None
            }
            Event::InitApply(sale) => {
                self.is_listed = true;
                Some(Change::Is(Box::new(sale)))
            }
            Event::Apply(sale) => Some(Change::Is(Box::new(sale))),
            Event::InitDone if self.is_listed => None,
            Event::InitDone | Event::Delete(_) => Some(Change::Deleted),
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
