//! Opens streams on the shared connection: send a knock, wait for the answer, open the stream (PROTOCOL 4.3). TLS and
//! the stream's content are not handled here.
//!
//! *Guarantee*: a stream reaches the id that it was opened for. The host routes its next incoming stream to the id
//! whose knock it accepted last. So only one exchange runs at a time, and an exchange runs to its end. An accepted
//! knock without a waiting dialer ends the connection: otherwise one mount could be served another mount's storage.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::Error;
use super::connection::Raw;
use super::multiplexed::Session;
use super::pb::{ConnInfo, conn_info::Knock};

/// The longest wait for an answer, as in Go, and the longest time for retries after a refusal.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// The first delay after a refusal, because the host may start to listen soon.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);

/// Sends messages to the host on the broker stream.
pub(super) type Outgoing = mpsc::Sender<Result<ConnInfo, Status>>;

/// Dials ids of the host over streams.
pub(super) struct StreamDialer {
    session: watch::Receiver<Option<Session>>,
    host: watch::Sender<Option<Outgoing>>,
    dial_lock: tokio::sync::Mutex<()>,
    pending_knock: Mutex<Option<PendingKnock>>,
}

/// Held from the knock until the host has seen the stream.
pub(super) type DialGuard<'a> = tokio::sync::MutexGuard<'a, ()>;

/// The knock whose answer is pending. An empty answer accepts the knock; any other text is the reason of the refusal.
struct PendingKnock {
    id: u32,
    answer: oneshot::Sender<String>,
}

impl StreamDialer {
    pub(super) fn new(session: watch::Receiver<Option<Session>>) -> Self {
        let (host, _) = watch::channel(None);
        Self { session, host, dial_lock: tokio::sync::Mutex::default(), pending_knock: Mutex::default() }
    }

    /// Opens a stream to `id`. The host sees the stream with its first byte, so the caller must hold the guard until
    /// then.
    pub(super) async fn open(&self, id: u32) -> Result<(Raw, DialGuard<'_>), Error> {
        let guard = self.dial_lock.lock().await;
        self.knock_with_retry(id).await?;
        let stream = wait_until_set(self.session.clone()).await?.open().await?;
        Ok((stream, guard))
    }

    /// Records that the host opened its broker stream.
    pub(super) fn broker_connected(&self, outgoing: Outgoing) {
        self.host.send_replace(Some(outgoing));
    }

    /// Records that the host ended the broker stream of `outgoing`. A newer stream is kept.
    pub(super) fn broker_disconnected(&self, outgoing: &Outgoing) {
        self.host.send_if_modified(|host| host.take_if(|host| host.same_channel(outgoing)).is_some());
    }

    /// Passes the host's answer for `id` to the waiting dialer.
    pub(super) fn knock_answered(&self, id: u32, error: String) {
        let pending = self.pending_knock().take_if(|pending| pending.id == id);
        let accepted = error.is_empty();
        let delivered = pending.is_some_and(|pending| pending.answer.send(error).is_ok());
        if accepted && !delivered {
            tracing::error!(
                id,
                "the host accepted a knock too late and could misroute a stream; the shared connection ends"
            );
            self.end_session();
        }
    }

    /// Retries after a refusal, because the host may begin to listen only after the knock.
    async fn knock_with_retry(&self, id: u32) -> Result<(), Error> {
        let deadline = Instant::now() + MAX_WAIT;
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.knock(id).await {
                Err(Error::Refused { .. }) if Instant::now() + backoff < deadline => sleep(backoff).await,
                result => return result,
            }
            backoff *= 2;
        }
    }

    async fn knock(&self, id: u32) -> Result<(), Error> {
        let host = wait_until_set(self.host.subscribe()).await?;
        let (answer, received) = oneshot::channel();
        *self.pending_knock() = Some(PendingKnock { id, answer });
        host.send(Ok(knock_message(id))).await.map_err(|_| Error::NoHost)?;
        let reason =
            timeout(MAX_WAIT, received).await.ok().and_then(Result::ok).ok_or(Error::Unanswered(id))?;
        if reason.is_empty() { Ok(()) } else { Err(Error::Refused { id, reason }) }
    }

    fn end_session(&self) {
        if let Some(session) = self.session.borrow().as_ref() {
            session.end();
        }
    }

    fn pending_knock(&self) -> MutexGuard<'_, Option<PendingKnock>> {
        self.pending_knock.lock()
    }
}

/// Waits for the value, because a call from the host may arrive before the host's broker stream.
async fn wait_until_set<T: Clone>(mut value: watch::Receiver<Option<T>>) -> Result<T, Error> {
    let came = timeout(MAX_WAIT, value.wait_for(Option::is_some)).await;
    came.ok().and_then(|value| value.ok()?.clone()).ok_or(Error::NoHost)
}

fn knock_message(id: u32) -> ConnInfo {
    let knock = Knock { knock: true, ..Knock::default() };
    ConnInfo { service_id: id, knock: Some(knock), ..ConnInfo::default() }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::super::multiplexed::{self, Driver};
    use super::*;

    /// The broker's side of an exchange. The test plays the host.
    struct Exchange {
        dialer: StreamDialer,
        knocks: mpsc::Receiver<Result<ConnInfo, Status>>,
        driver: Driver,
        _peer: UnixStream,
        _sessions: watch::Sender<Option<Session>>,
    }

    fn exchange() -> Exchange {
        let (ours, peer) = UnixStream::pair().unwrap();
        let (session, driver) = multiplexed::server(ours);
        let (sessions, session) = watch::channel(Some(session));
        let dialer = StreamDialer::new(session);
        let (outgoing, knocks) = mpsc::channel(1);
        dialer.broker_connected(outgoing);
        Exchange { dialer, knocks, driver, _peer: peer, _sessions: sessions }
    }

    impl Exchange {
        /// Answers one knock with each of `answers`.
        async fn answer(
            dialer: &StreamDialer,
            knocks: &mut mpsc::Receiver<Result<ConnInfo, Status>>,
            answers: &[&str],
        ) {
            for error in answers {
                let message = knocks.recv().await.unwrap().unwrap();
                let knock = message.knock.unwrap();
                assert!(knock.knock && !knock.ack);
                dialer.knock_answered(message.service_id, (*error).to_owned());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_knock_is_repeated() {
        let Exchange { dialer, mut knocks, driver: _driver, _peer, _sessions } = exchange();
        let host =
            Exchange::answer(&dialer, &mut knocks, &["no listener for id 1", "no listener for id 1", ""]);
        let (result, ()) = tokio::join!(dialer.knock_with_retry(1), host);
        result.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_believed_after_five_seconds() {
        let Exchange { dialer, mut knocks, driver: _driver, _peer, _sessions } = exchange();
        let start = Instant::now();
        let host = async {
            while let Some(Ok(info)) = knocks.recv().await {
                dialer.knock_answered(info.service_id, "no".to_owned());
            }
        };
        let error = tokio::select! {
            result = dialer.knock_with_retry(1) => result.unwrap_err(),
            () = host => unreachable!("the dialer holds the sender"),
        };
        assert!(matches!(error, Error::Refused { id: 1, reason } if reason == "no"));
        assert!(start.elapsed() <= MAX_WAIT);
    }

    #[tokio::test]
    async fn one_exchange_waits_for_the_other() {
        let Exchange { dialer, mut knocks, driver, _peer, _sessions } = exchange();
        let streams = tokio::spawn(driver.run(|_| ()));
        let both = async { tokio::join!(dialer.open(1), async { dialer.open(2).await.map(drop) }) };
        let host = async {
            let first = knocks.recv().await.unwrap().unwrap().service_id;
            assert_eq!(first, 1);
            assert!(knocks.try_recv().is_err(), "the second knock must wait for the first stream");
            dialer.knock_answered(1, String::new());
        };
        tokio::pin!(both);
        tokio::select! {
            _ = &mut both => unreachable!("the first guard is still held"),
            () = host => {}
        }
        streams.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_too_late_ends_the_shared_connection() {
        let Exchange { dialer, knocks: _knocks, driver, _peer, _sessions } = exchange();
        assert!(matches!(dialer.knock(1).await, Err(Error::Unanswered(1))));
        dialer.knock_answered(1, String::new());
        driver.run(|_| ()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_comes_too_late_harms_nothing() {
        let Exchange { dialer, knocks: _knocks, driver, _peer, _sessions } = exchange();
        dialer.knock_answered(1, "no listener for id 1".to_owned());
        assert!(timeout(Duration::from_secs(60), driver.run(|_| ())).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_hosts_stream_there_is_no_knock() {
        let Exchange { dialer, knocks: _knocks, driver: _driver, _peer, _sessions } = exchange();
        let outgoing = dialer.host.borrow().clone().unwrap();
        dialer.broker_disconnected(&outgoing);
        assert!(matches!(dialer.knock(1).await, Err(Error::NoHost)));
    }
}
