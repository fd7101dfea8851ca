//! What the pods of a run tell each other: one JSON object a line over TCP. Knows no run.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::buyers::arrivals::Sold;
use crate::buyers::buyer::{Attempt, BuyerResult, Parts};
use crate::http::Opening;
use crate::observed::Purchase;
use crate::progress::Counts;

/// Bytes of a message. The largest is the recording of a pod: about 200 bytes for each user.
const LONGEST: u64 = 1 << 30;
/// How long the pods may take to come together, on top of `--wait-seconds`: their image may have to be pulled first.
pub const GATHER: Duration = Duration::from_mins(2);

/// What the first pod tells another one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The run begins soon: make the users.
    Prepare {
        /// A part of the users' names
        run_id: String,
        /// What they buy
        products: Vec<String>,
    },
    /// Start.
    Go,
    /// No more users start.
    Stop,
    /// The run is over.
    End {
        /// PASS or FAIL
        verdict: String,
    },
}

/// What another pod tells the first one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Who it is.
    Hello {
        /// Signed with the key of the sale; its subject is [`subject`]
        token: String,
    },
    /// Its users are made.
    Ready,
    /// Its first user has started.
    Started,
    /// It works.
    Progress(Counts),
    /// All of its users are done.
    Recording(Recording),
}

/// The subject of a pod's token. It names the scenario: another one's pod is refused.
pub fn subject(scenario: &str, pod: u32) -> String {
    format!("load-pod-{pod}-of-{scenario}")
}

/// Everything that happened to the users of a pod: no figure is made before all pods are together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recording {
    last_start_us: u64,
    ended_us: u64,
    lookup_us: u64,
    /// Codes of attempts
    codes: Vec<String>,
    users: Vec<(Purchase, Vec<Moment>)>,
}

/// When an attempt ended after the start of the run, how long it took in microseconds, the index of its code, and what it
/// spent its time on: TCP connect, TLS handshake, answer.
type Moment = (u64, u64, usize, [Option<u64>; 3]);

impl Recording {
    /// The users of a pod.
    pub fn of(sold: Sold) -> Self {
        let since = |moment: Instant| micros(moment.saturating_duration_since(sold.started));
        let mut codes: Vec<String> = Vec::new();
        let users = sold.results.into_iter().map(|BuyerResult { purchase, attempts }| {
            let moment = |attempt: Attempt| {
                let known = codes.iter().position(|code| *code == attempt.code);
                let code = known.unwrap_or_else(|| {
                    codes.push(attempt.code);
                    codes.len() - 1
                });
                let Parts { opening, answer } = attempt.parts;
                let tcp = opening.map(|opening| micros(opening.tcp));
                let tls = opening.and_then(|opening| opening.tls).map(micros);
                (since(attempt.ended), micros(attempt.took), code, [tcp, tls, answer.map(micros)])
            };
            (purchase, attempts.into_iter().map(moment).collect())
        });
        let users = users.collect();
        Self {
            last_start_us: since(sold.last_start),
            ended_us: since(sold.ended),
            lookup_us: micros(sold.lookup),
            codes,
            users,
        }
    }

    fn into_sold(self, started: Instant) -> Sold {
        let at = |us| started + Duration::from_micros(us);
        let code = |index: usize| self.codes.get(index).cloned().unwrap_or_default();
        let duration = Duration::from_micros;
        let attempt = |(ended, took, index, [tcp, tls, answer]): Moment| Attempt {
            ended: at(ended),
            took: Duration::from_micros(took),
            code: code(index),
            parts: Parts {
                opening: tcp.map(|tcp| Opening { tcp: duration(tcp), tls: tls.map(duration) }),
                answer: answer.map(duration),
            },
        };
        let results = self.users.into_iter().map(|(purchase, attempts)| BuyerResult {
            purchase,
            attempts: attempts.into_iter().map(attempt).collect(),
        });
        let results = results.collect();
        let (last_start, ended) = (at(self.last_start_us), at(self.ended_us));
        Sold { started, last_start, ended, lookup: duration(self.lookup_us), results }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The users of all pods as if one pod had had them all. The recordings are in the order of the pods; the users take
/// turns, as they were divided. Each pod's times count from its own start.
pub fn together(own: Sold, others: Vec<Recording>) -> Sold {
    let started = own.started;
    let others = others.into_iter().map(|recording| recording.into_sold(started));
    let pods: Vec<Sold> = std::iter::once(own).chain(others).collect();
    let last = |moment: fn(&Sold) -> Instant| pods.iter().map(moment).max().unwrap_or(started);
    let (last_start, ended) = (last(|pod| pod.last_start), last(|pod| pod.ended));
    let lookup = pods.iter().map(|pod| pod.lookup).max().unwrap_or_default();
    let most = pods.iter().map(|pod| pod.results.len()).max().unwrap_or_default();
    let mut queues: Vec<_> = pods.into_iter().map(|pod| pod.results.into_iter()).collect();
    let turns =
        (0..most).flat_map(|_| queues.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>());
    let results = turns.collect();
    Sold { started, last_start, ended, lookup, results }
}

/// Sends a message.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

/// The next message; absent once the other side has closed the connection.
pub async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    longest: u64,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(longest).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        let problem = "the message is cut off or too long";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Reads messages in a task of its own, until the other side closes the connection. The last item is an error that says
/// why.
pub fn listen<T: DeserializeOwned + Send + 'static>(
    mut from: BufReader<OwnedReadHalf>,
) -> mpsc::Receiver<Result<T, String>> {
    let (messages, listener) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let next = match receive(&mut from, LONGEST).await {
                Ok(Some(message)) => Ok(message),
                Ok(None) => Err("it closed the connection".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let last = next.is_err();
            if messages.send(next).await.is_err() || last {
                return;
            }
        }
    });
    listener
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::LatencyParts;
    use crate::observed::Outcome;
    use crate::observed::timeline::{answers, parts, timeline};

    fn sold(start: Instant, pod: usize, pods: usize) -> Sold {
        let ms = Duration::from_millis;
        let user = |index: usize| {
            let took = ms(10 * (index as u64 + 1));
            let code = if index.is_multiple_of(3) { "sold" } else { "sold_out" };
            let outcome = Outcome::Declined(code.to_owned());
            let purchase = Purchase { buyer: format!("user-{index}"), outcome, lost_answers: 1 };
            let opening = Some(Opening { tcp: took / 4, tls: None });
            let parts = Parts { opening, answer: Some(took / 2) };
            let code = code.to_owned();
            let attempts = vec![Attempt { ended: start + took, took, code, parts }];
            BuyerResult { purchase, attempts }
        };
        let results = (pod..10).step_by(pods).map(user).collect();
        let (last_start, ended) = (start + ms(7), start + ms(100));
        Sold { started: start, last_start, ended, lookup: ms(pod as u64), results }
    }

    #[tokio::test]
    async fn what_pods_recorded_is_what_one_pod_would_have_recorded() {
        let start = Instant::now();
        let mut others = Vec::new();
        for pod in 1..3 {
            // The other pods have clocks of their own.
            let elsewhere = start + Duration::from_secs(1000);
            let message = Report::Recording(Recording::of(sold(elsewhere, pod, 3)));
            let mut line = Vec::new();
            send(&mut line, &message).await.unwrap();
            match receive(&mut line.as_slice(), LONGEST).await.unwrap() {
                Some(Report::Recording(recording)) => others.push(recording),
                other => panic!("{other:?}"),
            }
        }
        let (merged, alone) = (together(sold(start, 0, 3), others), sold(start, 0, 1));
        assert_eq!(timeline(&merged), timeline(&alone));
        assert_eq!(answers(&merged), answers(&alone));
        let slowest = LatencyParts { lookup: Duration::from_millis(2), ..parts(&alone) };
        assert_eq!(parts(&merged), slowest);
        assert_eq!((merged.last_start, merged.ended), (alone.last_start, alone.ended));
        let all = |sold: &Sold| -> Vec<_> {
            let results = sold.results.iter();
            results
                .map(|it| (it.purchase.clone(), it.attempts[0].took, it.attempts[0].ended))
                .collect()
        };
        assert_eq!(all(&merged), all(&alone), "the same users in the same order");
    }

    #[tokio::test]
    async fn a_message_ends_with_its_line() {
        let cut = receive::<Order>(&mut &b"\"go\""[..], 100).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData);
        assert!(receive::<Order>(&mut &b"\"go\"\n"[..], 3).await.is_err(), "too long");
        assert!(receive::<Order>(&mut &b""[..], 3).await.unwrap().is_none());
    }
}
