//! Who has an account of a library set, and how far that is: the record of a loan, without how it is stored (`lending`)
//! or what OpenAI is asked (`checkouts`, `returns`).
//!
//! *States:* none (the account is free) -> `Reserved` (its key is being made) -> `Lent` -> `Returning` (the key is being
//! ended) -> none. A reservation may also go straight back, or to `Returning` when OpenAI did not say what became of
//! the key.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::members::Member;
use crate::engine::accounts::kind::Holding;
use crate::engine::accounts::making;
use crate::engine::accounts::retry::RetryState;
use crate::engine::failpoint::shortened;
use crate::logical::{Record, Request};
use crate::openai::{ApiKeyId, CreatedKey, OrganizationId, ProjectId, ServiceAccountId};

/// An account that is not free.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loan {
    /// Its unique id, which is its key's name at OpenAI.
    pub id: String,
    /// The account, as it was when it was lent.
    pub account: Member,
    /// How far it is.
    pub state: State,
    /// Who has it.
    pub borrower: Borrower,
    /// When it was reserved; once lent, when it was checked out.
    pub since: DateTime<Utc>,
    /// How long it runs, and is renewed for if the borrower does not say.
    #[serde(with = "crate::engine::time::seconds")]
    pub ttl: Duration,
    /// How long it may run in all.
    #[serde(with = "crate::engine::time::seconds")]
    pub max_ttl: Duration,
    /// When its lease ends.
    pub ends: DateTime<Utc>,
    /// From when on its key is dead by itself, at the latest, by our clock.
    pub expires: DateTime<Utc>,
    /// Its key, once it is known.
    #[serde(default)]
    pub api_key_id: Option<ApiKeyId>,
    /// Since when its key is to be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning_since: Option<DateTime<Utc>>,
    /// Failures in a row to end its key.
    #[serde(flatten)]
    pub retry: RetryState,
    /// The record stands where releases before kept it, at `<set>/<account>`.
    #[serde(skip)]
    pub is_at_old_place: bool,
}

/// How far a loan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The account is taken and its key is being made.
    Reserved,
    /// The borrower has the key.
    Lent,
    /// The key is being ended.
    Returning,
}

/// Who has an account: an entity where there is one, else a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borrower {
    /// The identity entity; empty where there is none.
    pub entity_id: String,
    /// What Vault calls the caller.
    pub display_name: String,
    /// SHA-256 of what Vault gives in place of the token: good to compare, of no other use.
    pub token: String,
}

/// Points to one check-out; kept with its lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// The set.
    pub set: String,
    /// The account.
    pub service_account_id: ServiceAccountId,
    /// The loan's id.
    pub loan: String,
    /// Its key, where it is known.
    pub api_key_id: Option<ApiKeyId>,
    /// Where the account lives; leases of earlier releases do not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<(OrganizationId, ProjectId)>,
}

impl Record for Loan {
    const VERSION: u32 = 1;
}

/// A lease that Vault itself ends comes first; that needs a moment.
const GRACE: Duration = Duration::from_secs(120);
/// The tick takes up a return that was begun after this time, if it was not heard of again.
const RETURN_AGE: Duration = Duration::from_secs(120);

fn grace() -> Duration {
    shortened!("OPENAI_LEDGER_GRACE", GRACE)
}

impl Loan {
    /// An account taken at `now`, whose key is to be made.
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
            expires: now + making::sweep_age() + max_ttl,
            api_key_id: None,
            returning_since: None,
            retry: RetryState::default(),
            is_at_old_place: false,
        }
    }

    /// The borrower gets this key, which OpenAI handed over at `now`. That it counts from its own clock, a moment
    /// earlier, makes `expires` the latest moment by ours.
    pub fn lend(&mut self, key: &CreatedKey, now: DateTime<Utc>) {
        self.state = State::Lent;
        self.since = now;
        self.ends = now + self.ttl;
        self.expires = now + self.max_ttl;
        self.api_key_id = Some(key.id.clone());
    }

    /// What it names at OpenAI.
    pub fn holding(&self) -> Holding {
        Holding {
            service_account_id: Some(self.account.id.clone()),
            api_key_id: self.api_key_id.clone(),
            name: Some(self.id.clone()),
            ..Holding::in_project(&self.account.organization_id, Some(&self.account.project_id))
        }
    }

    /// What points to it.
    pub fn ticket(&self, set: &str) -> Ticket {
        Ticket {
            set: set.to_owned(),
            service_account_id: self.account.id.clone(),
            loan: self.id.clone(),
            api_key_id: self.api_key_id.clone(),
            home: Some((self.account.organization_id.clone(), self.account.project_id.clone())),
        }
    }

    /// When the tick has something to do about it.
    pub fn next_look(&self) -> DateTime<Utc> {
        match (self.state, self.retry.next_try) {
            (State::Reserved, _) => self.since + making::sweep_age(),
            (State::Lent, _) => self.ends + grace(),
            (State::Returning, Some(next_try)) => next_try,
            (State::Returning, None) => self.returning_since.unwrap_or(self.since) + RETURN_AGE,
        }
    }

    /// Whether a marker surely leads the tick here in a few minutes: the one of the next look, or that of the
    /// reservation, which stands for [`making::sweep_age`] from the reservation on, some seconds before `since`.
    pub fn is_looked_at_soon(&self, now: DateTime<Utc>) -> bool {
        let is_young = (now - self.since).to_std().is_ok_and(|age| age < making::sweep_age() / 2);
        is_young || self.next_look() <= now + RETURN_AGE
    }

    /// The borrower gives it back: from now on its key is to be ended.
    pub fn begin_return(&mut self, now: DateTime<Utc>) {
        self.state = State::Returning;
        self.returning_since = Some(now);
    }

    /// Corrects times that were stored under a clock that was ahead: none lies further ahead of `now` than it can.
    /// Answers whether one was wrong.
    pub fn put_right(&mut self, now: DateTime<Utc>) -> bool {
        let times =
            |loan: &Self| (loan.since, loan.ends, loan.expires, loan.returning_since, loan.retry.next_try);
        let before = times(self);
        self.since = self.since.min(now);
        self.ends = self.ends.min(now + self.max_ttl);
        self.expires = self.expires.min(now + making::sweep_age() + self.max_ttl);
        self.returning_since = self.returning_since.map(|since| since.min(now));
        self.retry.next_try = self.retry.waits_until(now).or(self.retry.next_try.map(|at| at.min(now)));
        before != times(self)
    }

    /// From when on a key that cannot be found does not exist and will not.
    pub fn doubt_ends(&self) -> DateTime<Utc> {
        self.since + making::sweep_age()
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

    /// Whether the caller is the same entity, or, where the borrower has none, uses the same token.
    pub fn is(&self, caller: &Self) -> bool {
        if self.entity_id.is_empty() {
            !self.token.is_empty() && self.token == caller.token
        } else {
            self.entity_id == caller.entity_id
        }
    }
}

/// No token is no token's hash.
fn hashed(token: &str) -> String {
    if token.is_empty() {
        return String::new();
    }
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
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
    fn a_marker_of_the_reservation_or_of_the_end_is_near_enough_for_a_return() {
        let (loan, minutes) = (loan(), TimeDelta::minutes);
        for (after, is_soon) in [(-60, false), (0, true), (2, true), (3, false), (59, false), (60, true)] {
            assert_eq!(loan.is_looked_at_soon(loan.since + minutes(after)), is_soon, "{after}");
        }
    }

    #[test]
    fn what_was_stored_under_a_clock_that_was_ahead_is_put_right() {
        let (now, by) = (loan().since, TimeDelta::days(400));
        assert!(!loan().put_right(now), "nothing is wrong");
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
            assert!(ahead.put_right(now), "{state:?}");
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
