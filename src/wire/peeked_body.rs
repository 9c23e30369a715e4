//! Request bodies that report their end with the last message. A tonic body learns of its end only when polled again.
//! HTTP/2 then sends an empty frame, which costs both sides a TLS record and a wake-up.
//!
//! *Guarantees:* the same frames in the same order, each without delay.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame};
use tonic::codegen::http::Request;
use tonic::transport::Channel;
use tower::util::MapRequest;

/// A channel whose request bodies are peeked.
pub(super) type PeekingChannel =
    MapRequest<Channel, fn(Request<tonic::body::Body>) -> Request<tonic::body::Body>>;

/// The result of polling a body: a frame, an error, or the end.
type NextFrame<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

/// A body that polls one frame ahead.
struct PeekedBody<B: Body> {
    body: B,
    /// The result of polling for the frame after the last returned one.
    next: NextFrame<B>,
}

/// Wraps a channel so that its request bodies are peeked.
pub(super) fn peeking(channel: Channel) -> PeekingChannel {
    MapRequest::new(channel, |request| request.map(|body| tonic::body::Body::new(PeekedBody::of(body))))
}

impl<B: Body> PeekedBody<B> {
    fn of(body: B) -> Self {
        Self { body, next: Poll::Pending }
    }
}

impl<B> Body for PeekedBody<B>
where
    B: Body<Data: Unpin, Error: Unpin> + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> NextFrame<B> {
        if self.next.is_pending() {
            self.next = Pin::new(&mut self.body).poll_frame(context);
        }
        let frame = ready!(std::mem::replace(&mut self.next, Poll::Pending));
        self.next = match frame {
            Some(_) => Pin::new(&mut self.body).poll_frame(context),
            None => Poll::Ready(None),
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Poll::Ready(None))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, Stream, StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Bytes;

    use super::*;

    type Piece = Result<&'static str, &'static str>;

    /// A body with these pieces that reports its end only when polled.
    fn body(
        pieces: impl Stream<Item = Piece>,
    ) -> StreamBody<impl Stream<Item = Result<Frame<Bytes>, &'static str>>> {
        StreamBody::new(
            pieces.map(|piece| piece.map(|text| Frame::data(Bytes::from_static(text.as_bytes())))),
        )
    }

    /// The content of each frame, and true if the end was known with the frame.
    async fn seen(mut body: impl Body<Data = Bytes, Error = &'static str> + Unpin) -> Vec<(String, bool)> {
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            let text = match frame {
                Ok(frame) => String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap(),
                Err(error) => error.to_owned(),
            };
            seen.push((text, body.is_end_stream()));
        }
        seen
    }

    #[tokio::test]
    async fn the_end_is_known_with_the_last_frame() {
        for texts in [vec!["one"], vec!["one", "two", "three"]] {
            let mut expected: Vec<_> = texts.iter().map(|text| ((*text).to_owned(), false)).collect();
            expected.last_mut().unwrap().1 = true;
            assert_eq!(seen(PeekedBody::of(body(stream::iter(texts.into_iter().map(Ok))))).await, expected);
        }
    }

    #[tokio::test]
    async fn a_frame_does_not_wait_for_the_next() {
        let pieces = stream::iter([Ok("one")]).chain(stream::once(std::future::pending()));
        let mut body = PeekedBody::of(Box::pin(body(pieces)));
        assert!(body.frame().now_or_never().flatten().is_some_and(|frame| frame.is_ok()));
        assert!(!body.is_end_stream());
        assert!(body.frame().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_error_comes_after_what_was_before_it() {
        let pieces = stream::iter([Ok("one"), Err("broken")]);
        let expected = [("one".to_owned(), false), ("broken".to_owned(), true)];
        assert_eq!(seen(PeekedBody::of(body(pieces))).await, expected);
    }
}
