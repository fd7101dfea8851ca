//! Spans that wait to be sent. Nobody waits for room, and nobody is woken: the exporter looks in its own rhythm.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::span::Span;

/// Spans that may wait: some megabytes.
const CAPACITY: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct SpanQueue(Mutex<Vec<Span>>);

impl SpanQueue {
    /// Adds a span. False: the queue is full, and the span is dropped.
    pub(super) fn push(&self, span: Span) -> bool {
        let mut spans = self.spans();
        let has_room = spans.len() < CAPACITY;
        if has_room {
            spans.push(span);
        }
        has_room
    }

    /// Takes all spans, the oldest first.
    pub(super) fn take(&self) -> Vec<Span> {
        let mut spans = self.spans();
        // As many will come again: nobody who adds one waits for memory.
        let room = Vec::with_capacity(spans.len());
        std::mem::replace(&mut *spans, room)
    }

    fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::tests::span;
    use super::*;

    #[test]
    fn spans_are_taken_in_their_order_and_a_full_queue_takes_no_more() {
        let queue = SpanQueue::default();
        for number in 1..=CAPACITY as u64 {
            assert!(queue.push(span(number)));
        }
        assert!(!queue.push(span(0)), "one too many");
        let taken: Vec<u64> = queue.take().iter().map(|span| span.context.span).collect();
        assert!(taken.into_iter().eq(1..=CAPACITY as u64));
        assert!(queue.push(span(9)), "there is room again");
        assert_eq!(queue.take().len(), 1);
    }
}
