//! Listings of the accounts and keys of a project, shared by all look-ups in that project. After a crash there may be
//! dozens of look-ups, in a project with thousands of accounts, and OpenAI may allow few calls a minute.
//!
//! *Guarantees:* a returned listing began at the requested time or later. An interrupted listing continues where it
//! stopped. A failure is the answer of all listings that were requested before it, for [`FAILURE_KEPT_FOR`]; other projects
//! are not affected.
//!
//! *Assumption:* a listing contains everything that existed when the listing began and was not deleted meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::engine::time::clock::Clock;
use crate::openai::{self, ApiKeyId, Client, OrganizationId, Pages, ProjectId, ServiceAccountId};

/// Time for which a failure is returned to further callers.
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(30);
/// Maximum wait for a page.
const MAX_PAGE_WAIT: Duration = Duration::from_secs(20);
/// Time after its end, or without use, after which a listing is dropped.
pub(super) const MAX_AGE: Duration = Duration::from_secs(600);
/// Longest pause of a question about an account's keys: three ticks. After a longer pause the question is a new one.
const MAX_PAUSE: Duration = Duration::from_secs(180);

/// The kind of the listed objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Objects {
    Accounts,
    Keys,
}

/// The objects of one kind in one project, and the client that lists them.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Scope<'a> {
    pub(in crate::engine) client: &'a Client,
    pub(in crate::engine) project: &'a ProjectId,
    pub(in crate::engine) objects: Objects,
}

/// A listed account or key.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Found {
    pub(in crate::engine) name: String,
    /// The account, or the account of the key.
    pub(in crate::engine) account: ServiceAccountId,
    pub(in crate::engine) key: Option<ApiKeyId>,
    pub(in crate::engine) created_at: DateTime<Utc>,
    pub(in crate::engine) expires_at: Option<DateTime<Utc>>,
    /// True if somebody called OpenAI with the key.
    pub(in crate::engine) was_used: bool,
}

/// A complete listing.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Listing {
    /// Start and end of the listing, by the monotonic clock. A listing of a large project may take longer than
    /// [`MAX_AGE`].
    began: Duration,
    ended: Duration,
    /// `None` if the project is archived or deleted, together with all its accounts and keys.
    pub(in crate::engine) found: Option<Arc<Vec<Found>>>,
}

/// The latest listings of a mount.
pub(in crate::engine) struct Listings {
    pub(super) clock: Arc<dyn Clock>,
    /// By organization too: in another organization every project looks deleted.
    latest: Mutex<HashMap<(OrganizationId, ProjectId, Objects), Shared>>,
    /// The questions about an account's keys that have no answer yet.
    questions: Mutex<HashMap<ServiceAccountId, Question>>,
}

/// The first and the latest time of a question, by the monotonic clock.
struct Question {
    first: Duration,
    latest: Duration,
}

/// Locked while the project is listed.
pub(super) type Shared = Arc<AsyncMutex<Progress>>;

#[derive(Default)]
pub(super) struct Progress {
    /// Start and position of an incomplete listing.
    running: Option<(Duration, Pages)>,
    /// Objects on the pages of the incomplete listing.
    found: Vec<Found>,
    complete: Option<Listing>,
    failed: Option<(Duration, openai::Error)>,
    /// Time of the last use, by the monotonic clock.
    used: Duration,
}

impl Found {
    /// The ids of the account and the key.
    pub(in crate::engine) fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.account.as_str()).chain(self.key.as_ref().map(ApiKeyId::as_str))
    }
}

impl Listings {
    /// No listings yet.
    pub(in crate::engine) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, latest: Mutex::default(), questions: Mutex::default() }
    }

    /// All accounts or keys of the project, by a listing that began at `since` or later by the monotonic clock.
    pub(in crate::engine) async fn list(
        &self,
        scope: Scope<'_>,
        since: Duration,
    ) -> Result<Listing, openai::Error> {
        let progress = self.progress(scope);
        let mut progress = progress.lock().await;
        progress.list(&*self.clock, scope, since).await
    }

    /// Asks for the keys of the account. Returns the time of the first question, as an older listing may lack a key that
    /// was created since.
    pub(in crate::engine) fn ask(&self, account: &ServiceAccountId) -> Duration {
        let now = self.clock.monotonic();
        let mut questions = self.questions.lock();
        questions.retain(|_, question| now.saturating_sub(question.latest) < MAX_PAUSE);
        let question = questions.entry(account.clone()).or_insert(Question { first: now, latest: now });
        question.latest = now;
        question.first
    }

    /// The question has its answer. The next one needs a new listing.
    pub(super) fn answered(&self, account: &ServiceAccountId) {
        self.questions.lock().remove(account);
    }

    /// The listing of this project.
    pub(super) fn progress(&self, scope: Scope<'_>) -> Shared {
        let Scope { client, project, objects } = scope;
        let key = (client.organization().clone(), project.clone(), objects);
        Arc::clone(self.latest.lock().entry(key).or_default())
    }

    /// Drops the listings that nobody uses any more.
    pub(in crate::engine) fn drop_old(&self) {
        let now = self.clock.monotonic();
        let is_used = |progress: &Progress| now.saturating_sub(progress.used) < MAX_AGE;
        let mut latest = self.latest.lock();
        latest.retain(|_, progress| progress.try_lock().map_or(true, |progress| is_used(&progress)));
    }
}

impl Progress {
    /// Drops a complete listing that is too old to rely on, whatever the wall clock says.
    pub(super) fn drop_old(&mut self, clock: &dyn Clock) {
        let now = clock.monotonic();
        self.complete = self.complete.take().filter(|complete| now.saturating_sub(complete.ended) < MAX_AGE);
    }

    /// All accounts or keys of the project, by a listing that began at `since` or later.
    pub(super) async fn list(
        &mut self,
        clock: &dyn Clock,
        scope: Scope<'_>,
        since: Duration,
    ) -> Result<Listing, openai::Error> {
        self.used = clock.monotonic();
        if let Some((at, error)) = &self.failed
            && *at >= since
            && self.used.saturating_sub(*at) < FAILURE_KEPT_FOR
        {
            return Err(error.clone());
        }
        let listed = self.complete_since(clock, scope, since).await;
        self.failed = listed.as_ref().err().map(|error| (clock.monotonic(), error.clone()));
        if listed.as_ref().is_err_and(|error| !error.is_transient()) {
            // The cursor may refer to a deleted object, so the next listing starts anew.
            self.running = None;
        }
        listed
    }

    async fn complete_since(
        &mut self,
        clock: &dyn Clock,
        scope: Scope<'_>,
        since: Duration,
    ) -> Result<Listing, openai::Error> {
        loop {
            if let Some(complete) = self.complete.as_ref().filter(|complete| complete.began >= since) {
                return Ok(complete.clone());
            }
            let Some((began, pages)) = &mut self.running else {
                self.begin(clock, scope).await?;
                continue;
            };
            pages.go_on_for(MAX_PAGE_WAIT);
            self.found.extend(page(scope, pages).await?);
            if pages.is_whole() {
                let found = Some(Arc::new(std::mem::take(&mut self.found)));
                self.complete = Some(Listing { began: *began, ended: clock.monotonic(), found });
                self.running = None;
            }
        }
    }

    /// Starts a listing after a check that the project exists. Absence from the listing proves nothing otherwise.
    async fn begin(&mut self, clock: &dyn Clock, scope: Scope<'_>) -> Result<(), openai::Error> {
        let began = clock.monotonic();
        let is_gone = match scope.client.project(scope.project).await {
            Ok(project) => project.is_archived(),
            Err(error) if error.is_gone() => true,
            Err(error) => return Err(error),
        };
        self.found = Vec::new();
        if is_gone {
            self.complete = Some(Listing { began, ended: clock.monotonic(), found: None });
        } else {
            self.running = Some((began, Pages::within(MAX_PAGE_WAIT)));
        }
        Ok(())
    }
}

/// The objects on the next page.
pub(super) async fn page(scope: Scope<'_>, pages: &mut Pages) -> Result<Vec<Found>, openai::Error> {
    let Scope { client, project, objects } = scope;
    match objects {
        Objects::Accounts => {
            let page = client.next_service_accounts(project, pages).await?;
            let found = page.into_iter().flatten().map(|account| Found {
                name: account.name,
                account: account.id,
                key: None,
                created_at: account.created_at,
                expires_at: None,
                was_used: false,
            });
            Ok(found.collect())
        }
        Objects::Keys => {
            let page = client.next_keys(project, pages).await?;
            let found = page.into_iter().flatten().filter_map(|key| {
                Some(Found {
                    account: key.service_account()?.clone(),
                    name: key.name.unwrap_or_default(),
                    key: Some(key.id),
                    created_at: key.created_at,
                    expires_at: key.expires_at,
                    was_used: key.last_used_at.is_some(),
                })
            });
            Ok(found.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::engine::accounts::first_seen::tests::Seconds;

    #[test]
    fn a_question_is_new_after_its_answer_and_after_a_long_pause() {
        let clock = Arc::new(Seconds::default());
        let listings = Listings::new(Arc::<Seconds>::clone(&clock));
        let account: ServiceAccountId = "svc_acct_1".parse().unwrap();
        let ask_at = |seconds| {
            clock.0.store(seconds, Ordering::Relaxed);
            listings.ask(&account).as_secs()
        };
        assert_eq!([10, 100, 279, 458].map(ask_at), [10; 4], "each tick asks again");
        assert_eq!([638, 700].map(ask_at), [638; 2], "nobody asked for three minutes");
        listings.answered(&account);
        assert_eq!(ask_at(710), 710);
    }
}
