//! Merges the lines of several logs by time. Each log is in order, so one line of each is enough. Takes no client.

use std::io;
use std::pin::Pin;

use futures::{Stream, TryStreamExt};
use jiff::Timestamp;

/// A line of a pod's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The pod.
    pub pod: String,
    /// When the kubelet received it; absent: the line has no time.
    pub at: Option<Timestamp>,
    /// Without the time.
    pub text: String,
}

impl Line {
    /// Splits the time off that the kubelet puts before each line.
    pub fn read(pod: &str, text: &str) -> Self {
        let read = text.split_once(' ').and_then(|(at, rest)| Some((at.parse().ok()?, rest)));
        let (at, text) = match read {
            Some((at, rest)) => (Some(at), rest),
            // An empty line is its time alone.
            None => text.parse().map_or((None, text), |at| (Some(at), "")),
        };
        Self { pod: pod.to_owned(), at, text: text.to_owned() }
    }
}

/// Logs of several pods as one.
pub struct Merged<S> {
    logs: Vec<Log<S>>,
}

struct Log<S> {
    lines: Pin<Box<S>>,
    next: Option<Line>,
    /// The time of a line without one is that of the line before.
    time: Timestamp,
}

impl<S: Stream<Item = io::Result<Line>>> Merged<S> {
    /// Reads the first line of each.
    pub async fn of(streams: Vec<S>) -> io::Result<Self> {
        let mut logs = Vec::new();
        for stream in streams {
            let mut log = Log { lines: Box::pin(stream), next: None, time: Timestamp::MIN };
            log.advance().await?;
            logs.push(log);
        }
        Ok(Self { logs })
    }

    /// The earliest line that is left.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        let open = self.logs.iter_mut().filter(|log| log.next.is_some());
        match open.min_by_key(|log| log.time) {
            Some(log) => {
                let line = log.next.take();
                log.advance().await?;
                Ok(line)
            }
            None => Ok(None),
        }
    }
}

impl<S: Stream<Item = io::Result<Line>>> Log<S> {
    async fn advance(&mut self) -> io::Result<()> {
        self.next = self.lines.try_next().await?;
        self.time = self.next.as_ref().and_then(|line| line.at).unwrap_or(self.time);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[test]
    fn the_time_is_split_off() {
        let line = Line::read("a", "2026-11-27T01:00:00.000000001+09:00 text with spaces");
        assert_eq!(line.at.unwrap().to_string(), "2026-11-26T16:00:00.000000001Z");
        assert_eq!(line.text, "text with spaces");
        assert_eq!(Line::read("a", "2026-11-27T01:00:00Z").text, "");
        let without = Line::read("a", "no time");
        assert_eq!((without.at, without.text.as_str()), (None, "no time"));
    }

    #[tokio::test]
    async fn lines_of_all_pods_are_in_order_of_time() {
        let log = |pod: &str, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|text| Ok(Line::read(pod, text))).collect();
            stream::iter(lines)
        };
        let logs = vec![
            log("a", &["2026-11-27T00:00:01Z a1", "2026-11-27T00:00:04Z a4", "a continues"]),
            log("b", &["2026-11-27T00:00:02Z b2", "2026-11-27T00:00:05Z b5"]),
            log("c", &[]),
        ];
        let mut merged = Merged::of(logs).await.unwrap();
        let mut texts = Vec::new();
        while let Some(line) = merged.next().await.unwrap() {
            texts.push(line.text);
        }
        assert_eq!(texts, ["a1", "b2", "a4", "a continues", "b5"]);
    }
}
