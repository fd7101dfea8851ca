//! What a run shows on stderr while it lasts. A terminal has one line that is written anew; the log of a pod gets a
//! line every second at first, and later every ten seconds or every minute. Knows no users.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How far a run is.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// Users that came so far, or all if that is known
    pub users: u32,
    /// Whether others will come
    pub more_come: bool,
    /// Users that are done
    pub done: u32,
    /// Of them: who bought
    pub sold: u32,
    /// Of them: who got no final answer
    pub unanswered: u32,
    /// The longest response time
    pub slowest: Duration,
}

/// Shows states, as often as it is good for the reader.
#[derive(Debug, Default)]
pub struct ProgressDisplay {
    /// When a line was written last, and how many users were done then.
    shown: Mutex<(Duration, u32)>,
}

impl ProgressDisplay {
    /// Shows the state if it is time for it. Callers ask about once a second.
    pub fn show(&self, state: &State, elapsed: Duration) {
        let is_terminal = std::io::stderr().is_terminal();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if is_terminal || elapsed.saturating_sub(shown.0) >= interval(elapsed) {
            write(&line(state, *shown, elapsed), is_terminal, false);
            *shown = (elapsed, state.done);
        }
    }

    /// Shows the end. Its rate is that of the whole run.
    pub fn finish(&self, state: &State, elapsed: Duration) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        write(&line(state, (Duration::ZERO, 0), elapsed), std::io::stderr().is_terminal(), true);
        *shown = (Duration::ZERO, 0);
    }
}

fn write(line: &str, is_terminal: bool, is_last: bool) {
    let mut stderr = std::io::stderr().lock();
    // Progress that cannot be shown is no reason to end a run.
    let _ = match (is_terminal, is_last) {
        // Back to the first column; the rest of the line is removed.
        (true, false) => write!(stderr, "\r{line}\x1b[K"),
        (true, true) => writeln!(stderr, "\r{line}\x1b[K"),
        (false, _) => writeln!(stderr, "{line}"),
    };
    let _ = stderr.flush();
}

fn line(state: &State, (before, done_before): (Duration, u32), elapsed: Duration) -> String {
    let State { users, more_come, done, sold, unanswered, slowest } = *state;
    let seconds = elapsed.saturating_sub(before).as_secs_f64().max(0.001);
    let rate = f64::from(done.saturating_sub(done_before)) / seconds;
    let refused = done.saturating_sub(sold + unanswered);
    let mut line = format!(
        "{:6.1} s  {done}/{users} users done ({rate:.0}/s): {sold} sold, {refused} refused",
        elapsed.as_secs_f64(),
    );
    // Writing to a string cannot fail.
    if unanswered > 0 {
        let _ = write!(line, ", {unanswered} without a final answer");
    }
    if done > 0 {
        let _ = write!(line, "; slowest {:.0} ms", slowest.as_secs_f64() * 1e3);
    }
    let left = users.saturating_sub(done);
    if left > 0 && !more_come && rate > 0.0 {
        let _ = write!(line, "; about {:.0} s left", (f64::from(left) / rate).ceil());
    }
    line
}

/// Time between two lines of a log. A little less than the callers' second, because they come a little early or late.
fn interval(elapsed: Duration) -> Duration {
    match elapsed.as_secs() {
        0..10 => Duration::from_millis(900),
        10..120 => Duration::from_millis(9_900),
        _ => Duration::from_millis(59_900),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_how_long_it_takes() {
        let second = Duration::from_secs(1);
        let slowest = Duration::from_millis(120);
        let state = State { users: 100, done: 50, slowest, ..State::default() };
        assert_eq!(
            line(&state, (Duration::ZERO, 0), second),
            "   1.0 s  50/100 users done (50/s): 0 sold, 50 refused; slowest 120 ms; about 1 s left"
        );
        let later = State { done: 51, unanswered: 1, more_come: true, ..state };
        let line = line(&later, (second, 50), 2 * second);
        assert!(line.contains("51/100 users done (1/s)"), "the last second alone: {line}");
        assert!(line.ends_with("1 without a final answer; slowest 120 ms"), "{line}");
    }

    #[test]
    fn a_long_run_writes_few_lines() {
        let (mut lines, mut last) = (0, Duration::ZERO);
        for second in 1..=3_600 {
            let now = Duration::from_secs(second);
            if now.saturating_sub(last) >= interval(now) {
                (lines, last) = (lines + 1, now);
            }
        }
        assert!((60..100).contains(&lines), "{lines} in an hour");
    }
}
