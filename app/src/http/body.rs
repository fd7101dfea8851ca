//! The bodies of requests: the time in which they must arrive, and what can be wrong with them.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::activity::Activity;

/// The body did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
struct BodyTimeout;

/// What is wrong with the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It did not arrive in time.
    Late,
    /// It exceeds the size limit.
    TooLarge,
    /// The `Content-Type` is not JSON.
    NotDeclaredJson,
    /// The text is not JSON.
    InvalidJson,
    /// A field is missing, unknown, or of the wrong type.
    InvalidField,
    /// The connection broke, or the transfer coding is wrong.
    Unreadable,
}

impl BodyFault {
    /// The fault that a rejection stands for.
    pub(super) fn of(rejection: &JsonRejection) -> Self {
        match rejection {
            rejection if BodyTimeout::caused(rejection) => Self::Late,
            JsonRejection::JsonSyntaxError(_) => Self::InvalidJson,
            JsonRejection::JsonDataError(_) => Self::InvalidField,
            JsonRejection::MissingJsonContentType(_) => Self::NotDeclaredJson,
            rejection if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ => Self::Unreadable,
        }
    }

    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotDeclaredJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidField => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InvalidJson | Self::Unreadable => StatusCode::BAD_REQUEST,
        }
    }

    /// The stable code.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Late => "request_timeout",
            Self::TooLarge => "body_too_large",
            Self::NotDeclaredJson => "unsupported_media_type",
            Self::InvalidJson => "invalid_json",
            Self::InvalidField => "invalid_request",
            Self::Unreadable => "unreadable_body",
        }
    }
}

impl BodyTimeout {
    /// Whether an error or one of its sources is a `BodyTimeout`.
    fn caused(error: &(dyn Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Self>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// A body for the router, with a time limit. The activity learns if it is not read to its end.
pub(super) fn bounded(body: Incoming, limit: Duration, activity: &Arc<Activity>) -> Body {
    if body.is_end_stream() {
        return Body::empty();
    }
    let activity = Arc::clone(activity);
    Body::new(TimedBody { body, ended: false, limit, deadline: None, activity })
}

struct TimedBody {
    body: Incoming,
    /// Whether its end was read.
    ended: bool,
    limit: Duration,
    /// Starts with the first read that has to wait. Most bodies arrive together with the header.
    deadline: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        // A chunked body does not know that it is at its end.
        if !self.ended && !self.body.is_end_stream() {
            self.activity.body_dropped();
        }
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.ended |= frame.is_none();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        deadline.as_mut().poll(cx).map(|()| Some(Err(BodyTimeout.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
