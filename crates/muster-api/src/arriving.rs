//! Requests on their way in. A message is decoded when all of it is here; what is here of those that are not whole yet is bounded, so
//! that many large calls at once do not fill the memory before anybody can judge them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::admit::Gate;
use crate::quota::refused_for_load;

/// A service whose messages pass a gate that counts bytes.
#[derive(Clone)]
pub(crate) struct Metered<S> {
    service: S,
    gate: Gate,
}

impl<S> Metered<S> {
    pub(crate) fn new(service: S, gate: Gate) -> Self {
        Self { service, gate }
    }
}

impl<S: NamedService> NamedService for Metered<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Metered<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let gate = self.gate.clone();
        self.service.call(request.map(|body| {
            Body::new(Arriving {
                body,
                gate,
                messages: Messages::default(),
                room: None,
            })
        }))
    }
}

/// The body of a request.
struct Arriving {
    body: Body,
    gate: Gate,
    messages: Messages,
    /// For the message that is not whole yet.
    room: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if this.messages.advance(data) {
                this.room = None;
            }
            if let Some(size) = this.messages.begun()
                && this.room.is_none()
            {
                match this.gate.enter_with(size) {
                    Ok(room) => this.room = Some(room),
                    Err(error) => {
                        refused_for_load("arriving", 1);
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes before each message of gRPC: a flag and the length.
const HEADER: usize = 5;

/// Where a stream of bytes stands among the messages that it consists of.
#[derive(Default)]
struct Messages {
    header: [u8; HEADER],
    /// Bytes of the header that are here.
    known: usize,
    /// Length of the message, and how much of it is still to come.
    size: usize,
    missing: usize,
}

impl Messages {
    /// Goes on by some bytes. True: a message ended among them.
    fn advance(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.known < HEADER {
                let (header, rest) = bytes.split_at(bytes.len().min(HEADER - self.known));
                self.header[self.known..self.known + header.len()].copy_from_slice(header);
                self.known += header.len();
                bytes = rest;
                if self.known < HEADER {
                    break;
                }
                let [_, length @ ..] = self.header;
                self.size = u32::from_be_bytes(length) as usize;
                self.missing = self.size;
            }
            let here = bytes.len().min(self.missing);
            bytes = &bytes[here..];
            self.missing -= here;
            if self.missing == 0 {
                self.known = 0;
                ended = true;
            }
        }
        ended
    }

    /// Size of the message of which a part is here.
    fn begun(&self) -> Option<usize> {
        (self.known == HEADER).then_some(self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use http_body::Body as _;
    use tonic_types::StatusExt;

    use super::*;

    fn message(size: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(size.to_be_bytes());
        bytes.extend(vec![7; size as usize]);
        bytes
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let bytes = [message(3), message(0), message(300)].concat();
        for cut in 1..bytes.len() {
            let mut messages = Messages::default();
            let mut ends = 0;
            for part in bytes.chunks(cut) {
                let (before, ended) = (messages.begun(), messages.advance(part));
                assert!(
                    ended || before.is_none() || before == messages.begun(),
                    "cut after {cut}"
                );
                ends += u32::from(ended);
            }
            assert!(messages.begun().is_none() && (1..=3).contains(&ends), "cut after {cut}");
        }
        let mut messages = Messages::default();
        assert!(messages.advance(&bytes[..20]));
        assert_eq!(messages.begun(), Some(300));
        assert!(!messages.advance(&bytes[20..30]));
        assert!(messages.advance(&bytes[30..]));
    }

    /// A body of which these parts have arrived.
    fn arriving(parts: Vec<Vec<u8>>, gate: &Gate) -> Arriving {
        let frames = parts
            .into_iter()
            .map(|part| Ok::<_, Status>(Frame::data(Bytes::from(part))));
        Arriving {
            body: Body::new(Parts(futures::stream::iter(frames.collect::<Vec<_>>()))),
            gate: gate.clone(),
            messages: Messages::default(),
            room: None,
        }
    }

    struct Parts(futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Status>>>);

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_next_unpin(context)
        }
    }

    async fn next(body: &mut Arriving) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    #[tokio::test]
    async fn what_is_not_whole_is_bounded_and_what_is_whole_makes_room() {
        let gate = Gate::new("bytes of calls that arrive", 100, Duration::from_millis(100));
        let whole = message(60);
        let halves = || vec![whole[..30].to_vec(), whole[30..].to_vec()];
        let (mut first, mut second) = (arriving(halves(), &gate), arriving(halves(), &gate));
        assert!(matches!(next(&mut first).await, Some(Ok(_))));
        let Some(Err(status)) = next(&mut second).await else {
            panic!("120 bytes are under way");
        };
        let details = status.get_error_details();
        assert_eq!(details.error_info().expect("facts").reason, "OVERLOADED");
        assert!(details.retry_info().is_some());
        assert!(matches!(next(&mut first).await, Some(Ok(_))));
        // The first is whole, and its body is still held.
        let mut third = arriving(halves(), &gate);
        assert!(matches!(next(&mut third).await, Some(Ok(_))));
        drop(third);
        assert!(gate.enter_with(100).is_ok(), "nothing is left behind");
    }
}
