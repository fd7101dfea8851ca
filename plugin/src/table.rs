//! Text in columns, and times as people read them.

use std::time::Duration;

use jiff::Timestamp;

/// Rows with columns as wide as their widest cell.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|it| it.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// The largest units of a time, as kubectl prints an age.
#[must_use]
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{}s", seconds % 60),
        600..7200 => format!("{minutes}m"),
        7200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// The time since a moment.
#[must_use]
pub fn age(since: Timestamp, now: Timestamp) -> String {
    short(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

/// A moment with its distance from now.
#[must_use]
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    let distance = Duration::try_from(at.duration_since(now));
    match distance {
        Ok(ahead) => format!("{at} (in {})", short(ahead)),
        Err(_) => format!("{at} ({} ago)", age(at, now)),
    }
}

/// `30s`, `10m`, `2h` or `1d`.
///
/// # Errors
/// When the text is no such time.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 30s, 10m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let text = table(&[row(&["NAME", "SOLD"]), row(&["black-friday", "7"]), row(&["x"])]);
        assert_eq!(text, "NAME           SOLD\nblack-friday   7\nx\n");
    }

    #[test]
    fn times_are_short() {
        let text = |seconds| short(Duration::from_secs(seconds));
        assert_eq!([text(5), text(130), text(700), text(7300)], ["5s", "2m10s", "11m", "2h"]);
        assert_eq!(text(200_000), "2d");
        let now: Timestamp = "2026-11-27T00:00:00Z".parse().unwrap();
        assert_eq!(
            moment("2026-11-27T00:01:00Z".parse().unwrap(), now),
            "2026-11-27T00:01:00Z (in 60s)"
        );
        assert_eq!(
            moment("2026-11-26T00:00:00Z".parse().unwrap(), now),
            "2026-11-26T00:00:00Z (24h ago)"
        );
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_hours(2)));
        for wrong in ["", "5", "m", "-1m", "1w", "99999999999999999999d", "1é"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
