//! Writes of one turn leave together. No byte is lost or reordered, however few bytes the inner stream accepts at a
//! time.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::super::write_coalescing::WriteCoalescing;

/// Records each write. Accepts as many bytes as `takes` says, where 0 means pending; then accepts all.
#[derive(Clone, Default)]
struct Wire {
    writes: Arc<Mutex<Vec<Vec<u8>>>>,
    takes: Arc<Mutex<Vec<usize>>>,
}

impl Wire {
    fn taking(takes: Vec<usize>) -> Self {
        Self { takes: Arc::new(Mutex::new(takes)), ..Self::default() }
    }

    fn writes(&self) -> Vec<Vec<u8>> {
        self.writes.lock().unwrap().clone()
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = self.takes.lock().unwrap().pop().map_or(bytes.len(), |take| take.min(bytes.len()));
        if count == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.writes.lock().unwrap().push(bytes[..count].to_vec());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_is_flushed_in_one_turn_leaves_as_one() {
    let wire = Wire::default();
    let mut stream = WriteCoalescing::new(wire.clone());
    let mut context = Context::from_waker(Waker::noop());
    stream.write_all(b"headers ").await.unwrap();
    assert!(pin!(stream.flush()).poll(&mut context).is_pending());
    stream.write_all(b"message").await.unwrap();
    assert_eq!(wire.writes(), Vec::<Vec<u8>>::new());

    stream.flush().await.unwrap();
    assert_eq!(wire.writes(), [b"headers message"]);
}

#[tokio::test]
async fn a_flush_waits_for_no_more_than_the_tasks_that_are_ready() {
    let wire = Wire::default();
    let mut stream = WriteCoalescing::new(wire.clone());
    stream.write_all(b"first").await.unwrap();
    let other = tokio::spawn({
        let wire = wire.clone();
        async move { wire.writes().len() }
    });
    stream.flush().await.unwrap();
    assert_eq!((other.await.unwrap(), wire.writes().len()), (0, 1), "the other task came in between");
}

#[tokio::test]
async fn what_waits_leaves_before_the_end() {
    let wire = Wire::default();
    let mut stream = WriteCoalescing::new(wire.clone());
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(wire.writes(), [b"last"]);
}

proptest! {
    #[test]
    fn bytes_keep_their_order(
        pieces in prop::collection::vec((0_usize..40_000, any::<bool>()), 1..12),
        takes in prop::collection::vec(0_usize..30_000, 0..20),
    ) {
        let wire = Wire::taking(takes);
        let mut stream = WriteCoalescing::new(wire.clone());
        let mut expected = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (number, (length, flushes)) in pieces.into_iter().enumerate() {
                let piece = vec![number as u8; length];
                expected.extend_from_slice(&piece);
                stream.write_all(&piece).await.unwrap();
                if flushes {
                    stream.flush().await.unwrap();
                    assert_eq!(wire.writes().concat(), expected, "flushed, so it left");
                }
            }
            stream.shutdown().await.unwrap();
        });
        prop_assert_eq!(wire.writes().concat(), expected);
    }
}
