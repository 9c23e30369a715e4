//! Looks up accounts and keys by their unique names, and the keys of an account.
//!
//! *Guarantees:* a listing that began after a creation was surely over contains the created account or key, or nothing
//! was created. A younger creation waits for a later listing. A listing that takes longer than one tick goes on in the
//! next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::listing::{self, Found, Listings, Objects, Scope};
use crate::engine::failpoint::shortened;
use crate::openai::{self, Client, Pages, ProjectId, ServiceAccountId};

/// Longer than any request: Vault ends a request after 90 s. It is less than the age at which names are looked up:
/// otherwise each name without an account or key would need a listing of its own.
const CREATION_IS_OVER: Duration = Duration::from_secs(120);

/// Maximum wait for another look-up that reads the same listing.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Maximum time of one look-up's part of a listing.
const MAX_LISTING_TIME: Duration = Duration::from_secs(60);

/// The unique name of an account or key that is to be created or looked up, and its place at OpenAI.
pub(in crate::engine) struct UniqueName<'a> {
    pub(in crate::engine) project: &'a ProjectId,
    /// The account of the key; `None` for an account.
    pub(in crate::engine) account: Option<&'a ServiceAccountId>,
    pub(in crate::engine) name: &'a str,
}

/// The result of a look-up.
pub(in crate::engine) enum Look {
    /// The account or key of the name; `None` if neither exists, as in a project that is gone.
    Done(Option<Found>),
    /// Unknown in this tick: the listing takes too long.
    Later,
}

impl UniqueName<'_> {
    /// The listing in which the name stands.
    fn scope<'a>(&'a self, client: &'a Client) -> Scope<'a> {
        let objects = if self.account.is_some() { Objects::Keys } else { Objects::Accounts };
        Scope { client, project: self.project, objects }
    }

    fn is(&self, found: &Found) -> bool {
        found.name == self.name && self.account.is_none_or(|account| *account == found.account)
    }
}

impl Listings {
    /// Looks up the name of a creation that began at least this long ago.
    pub(in crate::engine) async fn find(
        &self,
        client: &Client,
        unique_name: &UniqueName<'_>,
        age: Duration,
    ) -> Result<Look, openai::Error> {
        let (now, scope) = (self.clock.monotonic(), unique_name.scope(client));
        let over = shortened!("OPENAI_CREATION_IS_OVER", CREATION_IS_OVER);
        // In the mount's last tick a creation may be younger. No listing begins in the future.
        let since = (now + over).saturating_sub(age).min(now);
        let Some(found) = self.listed(scope, since, MAX_LISTING_TIME).await? else { return Ok(Look::Later) };
        Ok(Look::Done(found.iter().find(|found| unique_name.is(found)).cloned()))
    }

    /// The keys of the account, by a listing that began after the first question for them. `None` if the listing takes too
    /// long. Then the same question in the next tick continues the listing.
    pub(in crate::engine) async fn keys_of(
        &self,
        client: &Client,
        project: &ProjectId,
        account: &ServiceAccountId,
        within: Duration,
    ) -> Result<Option<Vec<Found>>, openai::Error> {
        let (since, scope) = (self.ask(account), Scope { client, project, objects: Objects::Keys });
        let listed = self.listed(scope, since, within).await;
        if !matches!(listed, Ok(None)) {
            self.answered(account);
        }
        let Some(found) = listed? else { return Ok(None) };
        Ok(Some(found.iter().filter(|found| found.account == *account).cloned().collect()))
    }

    /// The objects of a listing that began at `since` or later; none in a project that is gone. `None` if the listing takes
    /// too long, as under a tight rate limit, or after a short wait for others, so that a project with a slow list does not
    /// delay other projects.
    async fn listed(
        &self,
        scope: Scope<'_>,
        since: Duration,
        within: Duration,
    ) -> Result<Option<Arc<Vec<Found>>>, openai::Error> {
        let progress = self.progress(scope);
        let Ok(mut progress) = timeout(MAX_WAIT, progress.lock()).await else { return Ok(None) };
        progress.drop_old(&*self.clock);
        match timeout(within, progress.list(&*self.clock, scope, since)).await {
            Ok(Err(error)) if error.is_limited() => Ok(None),
            Ok(Err(error)) if went_with_project(scope.client, scope.project, &error).await => {
                Ok(Some(Arc::default()))
            }
            Ok(listed) => Ok(Some(listed?.found.unwrap_or_default())),
            Err(_) => Ok(None),
        }
    }
}

/// Looks up the name in a new listing. The creation may still be in progress, so absence proves nothing.
pub(in crate::engine) async fn find_now(
    client: &Client,
    unique_name: &UniqueName<'_>,
) -> Result<Option<Found>, openai::Error> {
    let mut pages = Pages::within(MAX_LISTING_TIME);
    while !pages.is_whole() {
        let page = listing::page(unique_name.scope(client), &mut pages).await?;
        if let Some(found) = page.into_iter().find(|found| unique_name.is(found)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// True if a refusal comes from a project that is archived or gone. OpenAI has ended everything in such a project, and
/// refuses all calls. A 404 alone may have another cause, such as a deleted cursor of a list.
pub(in crate::engine) async fn went_with_project(
    client: &Client,
    project: &ProjectId,
    error: &openai::Error,
) -> bool {
    if !matches!(error.status(), Some(400 | 404)) {
        return false;
    }
    match client.project(project).await {
        Ok(project) => project.is_archived(),
        // A project is older than its objects, but perhaps not by much.
        Err(gone) => gone.is_gone() && !error.is_not_found_yet(),
    }
}
