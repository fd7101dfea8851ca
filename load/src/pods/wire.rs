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
use crate::observed::tally::Tally;
use crate::progress::Counts;

/// Bytes of a message. The largest is the recording of a pod, which has its orders.
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
        /// Signed with the key of the sale, for pods only; its subject is [`subject`]
        token: String,
    },
    /// Its users are made.
    Ready,
    /// Its users start: all of them at once, or the clock of their turns runs.
    Started,
    /// It works.
    Progress(Counts),
    /// All of its users are done.
    Recording(Box<Recording>),
}

/// The subject of a pod's token. It names the scenario: another one's pod is refused.
pub fn subject(scenario: &str, pod: u32) -> String {
    format!("load-pod-{pod}-of-{scenario}")
}

/// What happened to the users of a pod. Percentiles are computed of all pods' histograms together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recording {
    last_start_us: u64,
    ended_us: u64,
    lookup_us: u64,
    tally: Tally,
}

impl Recording {
    /// The users of a pod.
    pub fn of(sold: Sold) -> Self {
        let since = |moment: Instant| micros(moment.saturating_duration_since(sold.started));
        Self {
            last_start_us: since(sold.last_start),
            ended_us: since(sold.ended),
            lookup_us: micros(sold.lookup),
            tally: sold.tally,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The users of all pods as if one pod had had them all. Each pod's times count from its own start.
pub fn together(own: Sold, others: Vec<Recording>) -> Sold {
    let mut all = own;
    for Recording { last_start_us, ended_us, lookup_us, tally } in others {
        let at = |us| all.started + Duration::from_micros(us);
        (all.last_start, all.ended) =
            (all.last_start.max(at(last_start_us)), all.ended.max(at(ended_us)));
        all.lookup = all.lookup.max(Duration::from_micros(lookup_us));
        all.tally.merge(tally);
    }
    all
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
    use crate::buyers::buyer::{Attempt, BuyerResult, Parts};
    use crate::http::Opening;
    use crate::observed::{LatencyParts, Order as Recorded, Outcome, Purchase};

    fn sold(start: Instant, pod: u32, pods: u32) -> Sold {
        let ms = |millis: u32| Duration::from_millis(millis.into());
        let user = |index: u32| {
            let took = ms(10 * (index + 1));
            let buyer = format!("user-{index}");
            let (code, outcome) = if index.is_multiple_of(3) {
                let (id, state) = (format!("order-{index}"), "confirmed".to_owned());
                let order = Recorded { id, buyer: buyer.clone(), quantity: 1, state };
                ("sold", Outcome::Sold(order))
            } else {
                ("sold_out", Outcome::Declined("sold_out".to_owned()))
            };
            let purchase = Purchase { buyer, outcome, lost_answers: 1 };
            let opening = Some(Opening { tcp: took / 4, tls: None });
            let parts = Parts { opening, answer: Some(took / 2) };
            let code = code.to_owned();
            let attempts = vec![Attempt { ended: start + took, took, code, parts }];
            BuyerResult { purchase, attempts }
        };
        let mut tally = Tally::default();
        for index in (pod..10).step_by(pods as usize) {
            tally.add(start, index, user(index));
        }
        let (last_start, ended) = (start + ms(7), start + ms(100));
        Sold { started: start, last_start, ended, lookup: ms(pod), tally }
    }

    #[tokio::test]
    async fn what_pods_recorded_is_what_one_pod_would_have_recorded() {
        let start = Instant::now();
        let mut others = Vec::new();
        for pod in 1..3 {
            // The other pods have clocks of their own.
            let elsewhere = start + Duration::from_secs(1000);
            let message = Report::Recording(Box::new(Recording::of(sold(elsewhere, pod, 3))));
            let mut line = Vec::new();
            send(&mut line, &message).await.unwrap();
            match receive(&mut line.as_slice(), LONGEST).await.unwrap() {
                Some(Report::Recording(recording)) => others.push(*recording),
                other => panic!("{other:?}"),
            }
        }
        let (mut merged, alone) = (together(sold(start, 0, 3), others), sold(start, 0, 1));
        assert_eq!((merged.last_start, merged.ended), (alone.last_start, alone.ended));
        let slowest = Duration::from_millis(2);
        assert_eq!(merged.lookup, slowest);
        let parts: LatencyParts = alone.tally.parts(slowest);
        assert_eq!(merged.tally.parts(merged.lookup), parts);
        let elapsed = Duration::from_millis(100);
        let series = |sold: &Sold| sold.tally.series(start, elapsed);
        assert_eq!(series(&merged).points, series(&alone).points);
        assert_eq!(series(&merged).answered, series(&alone).answered);
        assert_eq!(merged.tally.latency(), alone.tally.latency());
        let last = Duration::from_millis(7);
        assert_eq!(merged.tally.timeline(last), alone.tally.timeline(last));
        merged.tally.purchases.sold.sort_by_key(|(user, _)| *user);
        assert_eq!(merged.tally.purchases, alone.tally.purchases);
    }

    #[tokio::test]
    async fn a_message_ends_with_its_line() {
        let cut = receive::<Order>(&mut &b"\"go\""[..], 100).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData);
        assert!(receive::<Order>(&mut &b"\"go\"\n"[..], 3).await.is_err(), "too long");
        assert!(receive::<Order>(&mut &b""[..], 3).await.unwrap().is_none());
    }
}
