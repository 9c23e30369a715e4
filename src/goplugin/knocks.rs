//! Dialling over the shared connection: knock, wait for the answer, open the stream (PROTOCOL 4.3). It knows neither
//! TLS nor what runs in the stream.
//!
//! *Guarantee*: a stream reaches the id it was opened for. The host gives its next incoming stream to the id whose
//! knock it answered last, so there is one exchange at a time, it is not left half-way, and an answer that nobody
//! waits for any more ends the connection: one mount's storage must never be served by another's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::Error;
use super::connection::Raw;
use super::multiplexed::Session;
use super::pb::{ConnInfo, conn_info::Knock};

/// How long an answer is awaited, as in Go, and how long a refusal is retried.
const WAIT: Duration = Duration::from_secs(5);
/// The first pause after a refusal: the host may be about to listen.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The way to the host's end of the broker's stream.
pub(super) type Outgoing = mpsc::Sender<Result<ConnInfo, Status>>;

/// The exchanges with the host.
pub(super) struct Knocks {
    session: watch::Receiver<Option<Session>>,
    host: watch::Sender<Option<Outgoing>>,
    turn: tokio::sync::Mutex<()>,
    awaited: Mutex<Option<Awaited>>,
}

/// Held from the knock until the host has seen the stream.
pub(super) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

/// The one answer that is awaited: empty, or why not.
struct Awaited {
    id: u32,
    answer: oneshot::Sender<String>,
}

impl Knocks {
    pub(super) fn new(session: watch::Receiver<Option<Session>>) -> Self {
        let (host, _) = watch::channel(None);
        Self { session, host, turn: tokio::sync::Mutex::default(), awaited: Mutex::default() }
    }

    /// Opens a stream to `id`. The host sees it with the first byte, so the turn comes along, to be kept till then.
    pub(super) async fn open(&self, id: u32) -> Result<(Raw, Turn<'_>), Error> {
        let turn = self.turn.lock().await;
        self.knock_until_welcome(id).await?;
        let stream = present(self.session.clone()).await?.open().await?;
        Ok((stream, turn))
    }

    /// The host opened its broker stream.
    pub(super) fn host_came(&self, outgoing: Outgoing) {
        self.host.send_replace(Some(outgoing));
    }

    /// The host ended the broker stream that `outgoing` belongs to; it may have opened another.
    pub(super) fn host_left(&self, outgoing: &Outgoing) {
        self.host.send_if_modified(|host| host.take_if(|host| host.same_channel(outgoing)).is_some());
    }

    /// The host answered a knock for `id`.
    pub(super) fn answered(&self, id: u32, error: String) {
        let awaited = self.awaited().take_if(|awaited| awaited.id == id);
        let welcome = error.is_empty();
        let heard = awaited.is_some_and(|awaited| awaited.answer.send(error).is_ok());
        if welcome && !heard {
            tracing::error!(id, "the host answered a knock too late; its streams could be mixed up now");
            self.end_session();
        }
    }

    /// A refusal is retried: the knock may have come before the host began to listen.
    async fn knock_until_welcome(&self, id: u32) -> Result<(), Error> {
        let give_up = Instant::now() + WAIT;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.knock(id).await {
                Err(Error::Refused { .. }) if Instant::now() + pause < give_up => sleep(pause).await,
                result => return result,
            }
            pause *= 2;
        }
    }

    async fn knock(&self, id: u32) -> Result<(), Error> {
        let host = present(self.host.subscribe()).await?;
        let (answer, heard) = oneshot::channel();
        *self.awaited() = Some(Awaited { id, answer });
        host.send(Ok(question(id))).await.map_err(|_| Error::NoHost)?;
        let reason = timeout(WAIT, heard).await.ok().and_then(Result::ok).ok_or(Error::Unanswered(id))?;
        if reason.is_empty() { Ok(()) } else { Err(Error::Refused { id, reason }) }
    }

    fn end_session(&self) {
        if let Some(session) = self.session.borrow().as_ref() {
            session.end();
        }
    }

    fn awaited(&self) -> MutexGuard<'_, Option<Awaited>> {
        // Nothing panics while it is held.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there, or comes in time: the host's calls may overtake its broker stream.
async fn present<T: Clone>(mut value: watch::Receiver<Option<T>>) -> Result<T, Error> {
    let came = timeout(WAIT, value.wait_for(Option::is_some)).await;
    came.ok().and_then(|value| value.ok()?.clone()).ok_or(Error::NoHost)
}

fn question(id: u32) -> ConnInfo {
    let knock = Knock { knock: true, ..Knock::default() };
    ConnInfo { service_id: id, knock: Some(knock), ..ConnInfo::default() }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::super::multiplexed::{self, Driver};
    use super::*;

    /// The broker's side of an exchange, with the test as the host.
    struct Exchange {
        knocks: Knocks,
        heard: mpsc::Receiver<Result<ConnInfo, Status>>,
        driver: Driver,
        _peer: UnixStream,
        _sessions: watch::Sender<Option<Session>>,
    }

    fn exchange() -> Exchange {
        let (ours, peer) = UnixStream::pair().unwrap();
        let (session, driver) = multiplexed::server(ours);
        let (sessions, session) = watch::channel(Some(session));
        let knocks = Knocks::new(session);
        let (outgoing, heard) = mpsc::channel(1);
        knocks.host_came(outgoing);
        Exchange { knocks, heard, driver, _peer: peer, _sessions: sessions }
    }

    impl Exchange {
        /// Answers `answers.len()` knocks for `id`.
        async fn answer(
            knocks: &Knocks,
            heard: &mut mpsc::Receiver<Result<ConnInfo, Status>>,
            answers: &[&str],
        ) {
            for error in answers {
                let question = heard.recv().await.unwrap().unwrap();
                let knock = question.knock.unwrap();
                assert!(knock.knock && !knock.ack);
                knocks.answered(question.service_id, (*error).to_owned());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_knock_is_repeated() {
        let Exchange { knocks, mut heard, driver: _driver, _peer, _sessions } = exchange();
        let host =
            Exchange::answer(&knocks, &mut heard, &["no listener for id 1", "no listener for id 1", ""]);
        let (result, ()) = tokio::join!(knocks.knock_until_welcome(1), host);
        result.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_believed_after_five_seconds() {
        let Exchange { knocks, mut heard, driver: _driver, _peer, _sessions } = exchange();
        let start = Instant::now();
        let host = async {
            while let Some(Ok(info)) = heard.recv().await {
                knocks.answered(info.service_id, "no".to_owned());
            }
        };
        let error = tokio::select! {
            result = knocks.knock_until_welcome(1) => result.unwrap_err(),
            () = host => unreachable!("the knocks hold the sender"),
        };
        assert!(matches!(error, Error::Refused { id: 1, reason } if reason == "no"));
        assert!(start.elapsed() <= WAIT);
    }

    #[tokio::test]
    async fn one_exchange_waits_for_the_other() {
        let Exchange { knocks, mut heard, driver, _peer, _sessions } = exchange();
        let streams = tokio::spawn(driver.run(|_| ()));
        let both = async { tokio::join!(knocks.open(1), async { knocks.open(2).await.map(drop) }) };
        let host = async {
            let first = heard.recv().await.unwrap().unwrap().service_id;
            assert_eq!(first, 1);
            assert!(heard.try_recv().is_err(), "the second knock must wait for the first stream");
            knocks.answered(1, String::new());
        };
        tokio::pin!(both);
        tokio::select! {
            _ = &mut both => unreachable!("the first turn is held on to"),
            () = host => {}
        }
        streams.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_too_late_ends_the_shared_connection() {
        let Exchange { knocks, heard: _heard, driver, _peer, _sessions } = exchange();
        assert!(matches!(knocks.knock(1).await, Err(Error::Unanswered(1))));
        knocks.answered(1, String::new());
        driver.run(|_| ()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_comes_too_late_harms_nothing() {
        let Exchange { knocks, heard: _heard, driver, _peer, _sessions } = exchange();
        knocks.answered(1, "no listener for id 1".to_owned());
        assert!(timeout(Duration::from_secs(60), driver.run(|_| ())).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_hosts_stream_there_is_no_knock() {
        let Exchange { knocks, heard: _heard, driver: _driver, _peer, _sessions } = exchange();
        let outgoing = knocks.host.borrow().clone().unwrap();
        knocks.host_left(&outgoing);
        assert!(matches!(knocks.knock(1).await, Err(Error::NoHost)));
    }
}
