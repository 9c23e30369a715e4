//! Looks up accounts and keys by their unique names.
//!
//! *Guarantees:* a listing that began after a creation was surely over contains the created account or key, or nothing
//! was created. A younger creation waits for a later listing.

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
    /// The account or key of the name; `None` if neither exists.
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
    /// Looks up the name of a creation that began at least this long ago. Returns [`Look::Later`] after a short wait for
    /// others, so that a project with a slow list does not delay other projects.
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
        let progress = self.progress(scope);
        let Ok(mut progress) = timeout(MAX_WAIT, progress.lock()).await else { return Ok(Look::Later) };
        progress.drop_old(&*self.clock);
        let listed = progress.list(&*self.clock, scope, since);
        let Ok(listing) = timeout(MAX_LISTING_TIME, listed).await else { return Ok(Look::Later) };
        let found = listing?.found;
        Ok(Look::Done(found.and_then(|found| found.iter().find(|found| unique_name.is(found)).cloned())))
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
