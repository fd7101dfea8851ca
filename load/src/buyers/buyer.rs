//! One user: repeats a request until the answer is final. Knows no other user.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use load_scenarios::{FollowUp, Kind};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::buyers::connections::{Connections, Turn};
use crate::buyers::moments::due_or_now;
use crate::buyers::request::{self, Receipt, Reply};
use crate::http::{Answer, Call, Caller, Connection, HttpError, Opening, Server};
use crate::observed::{Order, Outcome, Purchase};

/// Code of a purchase that was made.
const SOLD: &str = "sold";

/// Settings that all users of a run share.
pub struct PurchaseOptions {
    pub servers: Vec<Arc<Server>>,
    pub connections: Connections,
    pub kind: Kind,
    /// What each user buys, or the coupon.
    pub products: Vec<String>,
    /// The request for that.
    pub purchase: Call,
    /// Reports payments.
    pub admin_token: String,
    pub pause: RangeInclusive<Duration>,
    pub max_tries: u32,
    pub answer_timeout: Duration,
    /// Whether `Retry-After` extends the pause, as on the sale's page.
    pub honours_retry_after: bool,
}

/// A user that has not started yet.
#[derive(Debug)]
pub struct Buyer {
    /// Number of the user in the run. It spreads the users over the URLs.
    pub index: usize,
    /// The subject of the token.
    pub subject: String,
    pub token: String,
    /// What happens to the order.
    pub follow_up: Option<FollowUp>,
}

/// The result of one user.
#[derive(Debug)]
pub struct BuyerResult {
    pub purchase: Purchase,
    pub attempts: Vec<Attempt>,
}

/// One request and its answer.
#[derive(Debug)]
pub struct Attempt {
    /// When the answer came, or was given up.
    pub ended: Instant,
    /// Response time, from the moment when the user wanted to ask: it includes the opening of a connection, and the wait
    /// for one. For a lost answer, the time until it was given up.
    pub took: Duration,
    /// Code of the answer; `sold` is 201.
    pub code: String,
    /// Parts of it; absent where the attempt did not get so far.
    pub parts: Parts,
}

/// What an attempt spent its time on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// The opening of a connection; absent if it was open.
    pub opening: Option<Opening>,
    /// From the open connection to the whole answer.
    pub answer: Option<Duration>,
}

impl Buyer {
    /// Buys from the moment `wanted` on; gives up after `max_tries` attempts or at the deadline. With `turn`, the first
    /// request is sent at once.
    pub async fn buy(
        self,
        options: &PurchaseOptions,
        wanted: Instant,
        deadline: Instant,
        turn: Option<Turn>,
    ) -> BuyerResult {
        // One key for all attempts: this user wants one purchase.
        let key = Uuid::new_v4().to_string();
        let mut visit = Visit {
            options,
            server: self.index % options.servers.len().max(1),
            own: None,
            turn,
            deadline,
            attempts: Vec::new(),
            lost_answers: 0,
            parts: Parts::default(),
        };
        let caller = Caller { token: Some(&self.token), idempotency_key: Some(&key) };
        let reply =
            |answer: &Answer| request::purchase_reply(options.kind, answer, &options.products);
        let ended = visit.repeat(wanted, &options.purchase, caller, SOLD, reply).await;
        let mut outcome = match ended {
            Ended::Done(Receipt { id, quantity, state }) => {
                Outcome::Sold(Order { id, buyer: self.subject.clone(), quantity, state })
            }
            Ended::Declined(code) => Outcome::Declined(code),
            Ended::Unanswered(code) => Outcome::Unanswered(code),
        };
        if let (Outcome::Sold(order), Some(follow_up)) = (&mut outcome, self.follow_up) {
            let call = request::follow_up(follow_up, &order.id);
            let token = if follow_up.needs_admin() { &options.admin_token } else { &self.token };
            let reply =
                |answer: &Answer| request::follow_up_reply(follow_up, answer, &options.products);
            let caller = Caller::with_token(token);
            let done = follow_up.state();
            match visit.repeat(Instant::now(), &call, caller, done, reply).await {
                Ended::Done(receipt) => order.state = receipt.state,
                Ended::Declined(code) | Ended::Unanswered(code) => {
                    outcome = Outcome::Unanswered(code);
                }
            }
        }
        let Visit { attempts, lost_answers, .. } = visit;
        let purchase = Purchase { buyer: self.subject, outcome, lost_answers };
        BuyerResult { purchase, attempts }
    }
}

/// How the attempts of a request ended.
enum Ended {
    Done(Receipt),
    Declined(String),
    Unanswered(String),
}

/// A user at work.
struct Visit<'a> {
    options: &'a PurchaseOptions,
    /// Index of the server that is asked.
    server: usize,
    /// The user's own connection, and its server.
    own: Option<(usize, Connection)>,
    /// For the first request, if the user has one already.
    turn: Option<Turn>,
    deadline: Instant,
    attempts: Vec<Attempt>,
    lost_answers: u32,
    /// Of the present attempt.
    parts: Parts,
}

impl Visit<'_> {
    async fn repeat(
        &mut self,
        mut wanted: Instant,
        call: &Call,
        caller: Caller<'_>,
        done: &str,
        read: impl Fn(&Answer) -> Reply,
    ) -> Ended {
        let options = self.options;
        let mut tries = 0;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let answer = self.ask(call, caller, left.min(options.answer_timeout)).await;
            let ended = Instant::now();
            let parts = std::mem::take(&mut self.parts);
            let mut add = |code: &str| {
                let took = ended.saturating_duration_since(wanted);
                self.attempts.push(Attempt { ended, took, code: code.to_owned(), parts });
            };
            let (reply, retry_after) = match answer {
                Ok(answer) => (read(&answer), answer.retry_after),
                Err(code) => (Reply::Lost(code.to_owned()), Duration::ZERO),
            };
            let reason = match reply {
                Reply::Done(receipt) => {
                    add(done);
                    return Ended::Done(receipt);
                }
                Reply::Declined(code) => {
                    add(&code);
                    return Ended::Declined(code);
                }
                Reply::Refused(code) => {
                    add(&code);
                    return Ended::Unanswered(code);
                }
                Reply::Busy(code) => {
                    add(&code);
                    code
                }
                Reply::Lost(code) => {
                    add(&code);
                    self.lost_answers += 1;
                    // Another replica may be available.
                    self.server = (self.server + 1) % options.servers.len().max(1);
                    code
                }
            };
            let mut pause = rand::random_range(options.pause.clone());
            if options.honours_retry_after {
                pause += retry_after;
            }
            tries += 1;
            let due = ended + pause;
            if tries >= options.max_tries || due >= self.deadline {
                return Ended::Unanswered(reason);
            }
            sleep_until(due).await;
            wanted = due_or_now(due);
        }
    }

    /// The answer, or the code of its loss.
    async fn ask(
        &mut self,
        call: &Call,
        caller: Caller<'_>,
        timeout: Duration,
    ) -> Result<Answer, &'static str> {
        match tokio::time::timeout(timeout, self.exchange(call, caller)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err("connection_lost"),
            Err(_) => Err("no_answer"),
        }
    }

    /// A connection is kept only after a whole answer.
    async fn exchange(&mut self, call: &Call, caller: Caller<'_>) -> Result<Answer, HttpError> {
        let PurchaseOptions { connections, servers, .. } = self.options;
        let index = self.server;
        let server = servers.get(index).ok_or_else(|| HttpError::Url("no server".to_owned()))?;
        let own = self.own.take().filter(|(of, _)| *of == index).map(|(_, own)| own);
        let turn = match self.turn.take() {
            Some(turn) => turn,
            None => connections.turn().await,
        };
        let open = own.or_else(|| connections.take(index));
        let open = open.and_then(|mut open| open.is_open().then_some(open));
        let mut connection = if let Some(connection) = open {
            connection
        } else {
            // On the heap only meanwhile: each user of a crowd would have the place for it from the start.
            let (connection, opening) = Box::pin(server.connect()).await?;
            self.parts.opening = Some(opening);
            connection
        };
        let sent = Instant::now();
        let answer = server.ask(&mut connection, call, caller).await?;
        self.parts.answer = Some(sent.elapsed());
        self.own = connections.put(index, connection, turn).map(|own| (index, own));
        Ok(answer)
    }
}
