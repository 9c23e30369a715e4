//! One run of `tidy`: list what carries the tag, take away what is owned, name or remove the rest.
//!
//! *Guarantees:* an account is removed only if its name carries this mount's tag, OpenAI made it at least `min_age`
//! ago, and nothing owned it when it was looked at again just before. Accounts are listed before their owners are, so
//! what is being made meanwhile is never taken for a stray. A claim waits for a removal under way, and one that came
//! first prevents it. One failure never stops the rest. A crash loses nothing: the next run finds what is left.
//!
//! *Assumptions:* no other server has a mount with this tag: a copy of this one's storage must not tidy.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::status::{Order, State, Stray};
use crate::engine::owned::Owned;
use crate::engine::{Engine, Error, endings, owners, projects};
use crate::logical::Storage;
use crate::openai::{self, Client, LONGEST_PAGE, ProjectId, ServiceAccount, Urgency};

/// As long as one call waits for its turn: whatever else asks OpenAI may go first.
const PATIENCE: Duration = Duration::from_secs(600);
/// What is known of owners is read anew after so long, as a run at OpenAI's pace may take hours.
const TRUSTED_FOR: Duration = Duration::from_secs(300);

struct Run {
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    client: Client,
    order: Order,
}

/// Runs until its end or the mount's, and keeps the outcome.
pub(super) async fn in_background(engine: Arc<Engine>, storage: Arc<dyn Storage>, order: Order) {
    let outcome = tokio::select! {
        outcome = run(&engine, storage, order) => Some(outcome),
        () = engine.gone.cancelled() => None,
    };
    let (state, error) = match outcome {
        Some(Ok(())) => (State::Finished, None),
        Some(Err(error)) => (State::Failed, Some(error)),
        None => (State::Stopped, None),
    };
    engine.tidying.end(state, error.as_ref(), engine.now());
}

async fn run(engine: &Arc<Engine>, storage: Arc<dyn Storage>, order: Order) -> Result<(), Error> {
    let client = engine.configured(&*storage).await?.client.for_work(Urgency::Check, PATIENCE);
    let run = Run { engine: Arc::clone(engine), storage, client, order };
    let candidates = run.candidates().await?;
    run.tidy(candidates).await
}

impl Run {
    /// The accounts old enough that carry the tag, owned or not.
    async fn candidates(&self) -> Result<Vec<Stray>, Error> {
        let mut candidates = Vec::new();
        for project_id in projects::known(&self.engine, &*self.storage).await?.into_keys() {
            match self.candidates_in(&project_id).await {
                Ok(found) => candidates.extend(found),
                // The project is gone, and all that was in it.
                Err(error) if error.is_gone() => {}
                Err(error) => self.failed(&Error::call("listing service accounts")(error)),
            }
        }
        Ok(candidates)
    }

    async fn candidates_in(&self, project_id: &ProjectId) -> Result<Vec<Stray>, openai::Error> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.client.list_service_accounts(project_id, after.as_deref(), LONGEST_PAGE).await?;
            self.engine.tidying.looked_at(page.items.len());
            let carries_tag = page.items.into_iter().filter(|account| self.is_candidate(account));
            found.extend(carries_tag.map(|account| Stray { project_id: project_id.clone(), account }));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    fn is_candidate(&self, account: &ServiceAccount) -> bool {
        self.engine.tag.owns(&account.name)
            && is_old_enough(account.created_at, self.engine.certain_time(), self.order.min_age)
    }

    async fn tidy(&self, candidates: Vec<Stray>) -> Result<(), Error> {
        let mut owned = Owned::collect(&self.engine, &*self.storage).await?;
        let mut read_at = Instant::now();
        for stray in candidates {
            if read_at.elapsed() > TRUSTED_FOR {
                owned = Owned::collect(&self.engine, &*self.storage).await?;
                read_at = Instant::now();
            }
            if let Err(error) = self.deal_with(&owned, &stray).await {
                self.failed(&error);
            }
        }
        Ok(())
    }

    async fn deal_with(&self, owned: &Owned, stray: &Stray) -> Result<(), Error> {
        let Stray { project_id, account } = stray;
        let _no_claim = self.engine.locks.lock(&owners::lock(&account.id)).await;
        if self.engine.is_owned(&*self.storage, owned, account).await? {
            return Ok(());
        }
        self.engine.tidying.found(stray);
        if self.order.dry_run {
            return Ok(());
        }
        endings::remove_account(&self.client, project_id, &account.id).await.map_err(Error::Revocation)?;
        self.engine.tidying.removed();
        Ok(())
    }

    fn failed(&self, error: &Error) {
        self.engine.tidying.failed(error);
    }
}

/// Whether OpenAI made it at least `min_age` ago. What it says to have made in the future is not old.
fn is_old_enough(created_at: DateTime<Utc>, now: DateTime<Utc>, min_age: Duration) -> bool {
    (now - created_at).to_std().is_ok_and(|age| age >= min_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_younger_or_from_the_future_is_not_old_enough() {
        let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(10);
        let hour = Duration::from_secs(3_600);
        for (seconds, min_age, old_enough) in [
            (3_600, hour, true),
            (3_599, hour, false),
            (0, Duration::ZERO, true),
            (-1, Duration::ZERO, false),
            (3_600, Duration::MAX, false),
        ] {
            let made = now - chrono::TimeDelta::seconds(seconds);
            assert_eq!(is_old_enough(made, now, min_age), old_enough, "{seconds} {min_age:?}");
        }
    }
}
