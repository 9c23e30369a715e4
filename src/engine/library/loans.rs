//! The record of a loan: the borrower of an account of a library set. `lending` stores it; `checkouts` and `returns` call
//! OpenAI.
//!
//! *States:* none (the account is free) -> `Reserved` (its key is being created) -> `Lent` -> `Returning` (its key is
//! being deleted) -> none. A failed reservation goes back to none, or to `Returning` if the key's outcome is unknown. A key
//! that came after the tick ended its reservation leads from none to `Returning`. A used key of a reservation that a backup
//! restored leads from `Returning` to `Lent`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::members::Member;
use crate::engine::accounts::kind::Holding;
use crate::engine::accounts::making;
use crate::engine::accounts::retry::RetryState;
use crate::engine::failpoint::shortened;
use crate::engine::fingerprint;
use crate::logical::{Record, Request};
use crate::openai::{ApiKeyId, CreatedKey, OrganizationId, ProjectId, ServiceAccountId};

/// A loan of an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loan {
    /// The loan's unique id, which is also its key's name at OpenAI.
    pub id: String,
    /// The account, as of the check-out.
    pub account: Member,
    /// The state.
    pub state: State,
    /// The borrower.
    pub borrower: Borrower,
    /// The time of the reservation, and later of the check-out.
    pub since: DateTime<Utc>,
    /// Default duration of the lease, and of a renewal.
    #[serde(with = "crate::engine::time::seconds")]
    pub ttl: Duration,
    /// Longest duration of the loan with its renewals.
    #[serde(with = "crate::engine::time::seconds")]
    pub max_ttl: Duration,
    /// The end of the lease.
    pub ends: DateTime<Utc>,
    /// Latest time at which the key expires at OpenAI, by our clock.
    pub expires: DateTime<Utc>,
    /// OpenAI's id of the key, once the id is known.
    #[serde(default)]
    pub api_key_id: Option<ApiKeyId>,
    /// The time since which the key has to be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning_since: Option<DateTime<Utc>>,
    /// Failed attempts to delete the key.
    #[serde(flatten)]
    pub retry: RetryState,
    /// True if the record is at the place of earlier releases, `<set>/<account>`.
    #[serde(skip)]
    pub is_at_old_place: bool,
}

/// The state of a loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The account is reserved, and its key is being created.
    Reserved,
    /// The borrower has the key.
    Lent,
    /// The key is being deleted.
    Returning,
}

/// The borrower of an account: an entity, or a token without an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borrower {
    /// The identity entity; empty if the token has none.
    pub entity_id: String,
    /// Vault's display name of the caller.
    pub display_name: String,
    /// SHA-256 of the token, which Vault itself passes as a hash. It only serves comparisons.
    pub token: String,
}

/// The reference to one check-out in its lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// The set.
    pub set: String,
    /// The account.
    pub service_account_id: ServiceAccountId,
    /// The loan's id.
    pub loan: String,
    /// The key, if its id is known.
    pub api_key_id: Option<ApiKeyId>,
    /// The account's organization and project; `None` in leases of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<(OrganizationId, ProjectId)>,
}

impl Record for Loan {
    const VERSION: u32 = 1;
}

/// Time after the end of a lease in which Vault itself revokes the lease. Afterwards the tick ends the loan.
const GRACE: Duration = Duration::from_secs(120);
/// Time after which the tick continues a return that was begun and not finished.
const RETURN_AGE: Duration = Duration::from_secs(120);

fn grace() -> Duration {
    shortened!("OPENAI_LEDGER_GRACE", GRACE)
}

impl Loan {
    /// A reservation at `now`, before the creation of the key.
    pub fn reserved(
        id: String,
        account: Member,
        borrower: Borrower,
        (ttl, max_ttl): (Duration, Duration),
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            account,
            state: State::Reserved,
            borrower,
            since: now,
            ttl,
            max_ttl,
            ends: now + ttl,
            expires: now + making::longest_request() + max_ttl,
            api_key_id: None,
            returning_since: None,
            retry: RetryState::default(),
            is_at_old_place: false,
        }
    }

    /// Records the key, which OpenAI returned at `now`. OpenAI's lifetime of the key began a moment earlier, so `expires`
    /// is the latest possible time.
    pub fn lend(&mut self, key: &CreatedKey, now: DateTime<Utc>) {
        self.state = State::Lent;
        self.since = now;
        self.ends = now + self.ttl;
        self.expires = now + self.max_ttl;
        self.api_key_id = Some(key.id.clone());
    }

    /// Records a key that somebody uses: a backup lost the record of the check-out. The loan ends with the key.
    pub fn lend_again(&mut self, key: ApiKeyId) {
        self.state = State::Lent;
        self.ends = self.expires;
        self.api_key_id = Some(key);
        self.returning_since = None;
        self.retry.succeeded();
    }

    /// The account and key at OpenAI that the record names.
    pub fn holding(&self) -> Holding {
        Holding {
            service_account_id: Some(self.account.id.clone()),
            api_key_id: self.api_key_id.clone(),
            name: Some(self.id.clone()),
            ..Holding::in_project(&self.account.organization_id, Some(&self.account.project_id))
        }
    }

    /// The reference to this loan.
    pub fn ticket(&self, set: &str) -> Ticket {
        Ticket {
            set: set.to_owned(),
            service_account_id: self.account.id.clone(),
            loan: self.id.clone(),
            api_key_id: self.api_key_id.clone(),
            home: Some((self.account.organization_id.clone(), self.account.project_id.clone())),
        }
    }

    /// The time of the next work of the tick.
    pub fn next_look(&self) -> DateTime<Utc> {
        match (self.state, self.retry.next_try) {
            (State::Reserved, _) => self.since + making::longest_request(),
            (State::Lent, _) => self.ends + grace(),
            (State::Returning, Some(next_try)) => next_try,
            (State::Returning, None) => self.returning_since.unwrap_or(self.since) + RETURN_AGE,
        }
    }

    /// Begins the return: from now on the key has to be deleted.
    pub fn begin_return(&mut self, now: DateTime<Utc>) {
        self.state = State::Returning;
        self.returning_since = Some(now);
    }

    /// Corrects times that were stored while the clock was ahead: none may be further ahead of `now` than its limit.
    /// Returns true if a time changed.
    pub fn correct_times(&mut self, now: DateTime<Utc>) -> bool {
        let times =
            |loan: &Self| (loan.since, loan.ends, loan.expires, loan.returning_since, loan.retry.next_try);
        let before = times(self);
        self.since = self.since.min(now);
        self.ends = self.ends.min(now + self.max_ttl);
        self.expires = self.expires.min(now + making::longest_request() + self.max_ttl);
        self.returning_since = self.returning_since.map(|since| since.min(now));
        self.retry.next_try = self.retry.waits_until(now).or(self.retry.next_try.map(|at| at.min(now)));
        before != times(self)
    }

    /// The time from which on a key that OpenAI does not find was never created.
    pub fn doubt_ends(&self) -> DateTime<Utc> {
        self.since + making::longest_request()
    }
}

impl Borrower {
    /// The caller of a request.
    pub fn of(request: &Request) -> Self {
        Self {
            entity_id: request.entity_id.clone(),
            display_name: request.display_name.clone(),
            token: hashed(&request.client_token),
        }
    }

    /// True if the caller is the same entity, or has the same token as a borrower without an entity.
    pub fn is(&self, caller: &Self) -> bool {
        if self.entity_id.is_empty() {
            !self.token.is_empty() && self.token == caller.token
        } else {
            self.entity_id == caller.entity_id
        }
    }
}

/// The token's hash; empty for an empty token.
fn hashed(token: &str) -> String {
    if token.is_empty() { String::new() } else { fingerprint::sha256(token) }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::{Value, json};

    use super::*;

    fn loan() -> Loan {
        serde_json::from_value(stored()).unwrap()
    }

    /// A loan as the first release stores it.
    fn stored() -> Value {
        json!({
            "version": 1,
            "id": "vault-pool-abcdefgh-tag123",
            "account": {
                "name": "a", "id": "svc_acct_1", "organization_id": "org-1", "project_id": "proj_1",
                "made_as": "vault-pool-hgfedcba-tag123",
            },
            "state": "lent",
            "borrower": {"entity_id": "e1", "display_name": "token", "token": "00ff"},
            "since": "2026-03-01T12:00:00Z",
            "ttl": 3600,
            "max_ttl": 86400,
            "ends": "2026-03-01T13:00:00Z",
            "expires": "2026-03-02T12:00:00Z",
            "api_key_id": "key_1",
            "due": "2026-03-01T12:05:00Z",
            "failures": 0,
        })
    }

    #[test]
    fn what_the_first_release_stored_is_read_and_written_the_same_without_its_place_in_the_index() {
        let (mut written, mut expected) = (serde_json::to_value(loan()).unwrap(), stored());
        written["version"] = json!(1);
        expected.as_object_mut().unwrap().remove("due");
        assert_eq!(written, expected);
    }

    #[test]
    fn the_tick_looks_when_a_request_cannot_run_any_more_or_a_lease_should_have_ended_it() {
        let (mut loan, minutes) = (loan(), TimeDelta::minutes);
        assert_eq!(loan.next_look() - loan.since, minutes(62));
        loan.state = State::Reserved;
        assert_eq!(loan.next_look() - loan.since, minutes(5));
        loan.begin_return(loan.since + minutes(30));
        assert_eq!(loan.next_look() - loan.since, minutes(32));
        loan.retry.next_try = Some(loan.since + minutes(40));
        assert_eq!(loan.next_look() - loan.since, minutes(40));
    }

    #[test]
    fn times_that_were_stored_while_the_clock_was_ahead_are_corrected() {
        let (now, by) = (loan().since, TimeDelta::days(400));
        assert!(!loan().correct_times(now), "nothing is wrong");
        let ahead = |state| {
            let mut ahead = loan();
            ahead.begin_return(now + by);
            ahead.state = state;
            for time in [&mut ahead.since, &mut ahead.ends, &mut ahead.expires] {
                *time += by;
            }
            ahead.retry.next_try = Some(now + by).filter(|_| state == State::Returning);
            ahead
        };
        for (state, next_look) in [
            (State::Returning, now),
            (State::Reserved, now + TimeDelta::minutes(5)),
            (State::Lent, now + TimeDelta::minutes(24 * 60 + 2)),
        ] {
            let mut ahead = ahead(state);
            assert!(ahead.correct_times(now), "{state:?}");
            assert_eq!(ahead.next_look(), next_look, "{state:?}");
            assert!(ahead.since == now && ahead.ends <= now + ahead.max_ttl, "{state:?}");
            assert!(ahead.expires <= now + TimeDelta::minutes(24 * 60 + 5), "{state:?}");
        }
    }

    #[test]
    fn a_borrower_is_an_entity_or_else_a_token_and_nobody_is_nobody() {
        let who = |entity: &str, token: &str| Borrower {
            entity_id: entity.to_owned(),
            display_name: String::new(),
            token: hashed(token),
        };
        for (borrower, caller, same) in [
            (who("e1", "t1"), who("e1", "t2"), true),
            (who("e1", "t1"), who("e2", "t1"), false),
            (who("e1", "t1"), who("", "t1"), false),
            (who("", "t1"), who("", "t1"), true),
            (who("", "t1"), who("e1", "t1"), true),
            (who("", "t1"), who("", "t2"), false),
            (who("", ""), who("", ""), false),
        ] {
            assert_eq!(borrower.is(&caller), same, "{borrower:?} {caller:?}");
        }
    }

    #[test]
    fn a_token_is_kept_as_its_hash_only() {
        // SHA-256 of "abc", from FIPS 180-2.
        assert!(hashed("abc").starts_with("ba7816bf8f01cfea") && hashed("abc").len() == 64);
    }
}
