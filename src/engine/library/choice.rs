//! The request of a check-out, and the choice of an account.

use std::collections::BTreeSet;
use std::time::Duration;

use super::loans::Borrower;
use super::members::{self, Member};
use super::sets::LibrarySet;
use crate::engine::config::checks;
use crate::engine::config::metadata::Metadata;
use crate::engine::time::seconds;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field};

pub(super) static TTL: Field<Duration> =
    Field::new("ttl", "Duration of the check-out until a renewal. Default: the set's ttl.");
pub(super) static ACCOUNT: Field<String> =
    Field::new("service_account", "Account to check out, by name or id. Default: any free account.")
        .default("");

/// The request of a check-out.
pub(super) struct CheckOutRequest {
    pub(super) set: String,
    pub(super) account: String,
    pub(super) borrower: Borrower,
    pub(super) ttl: Duration,
    pub(super) max_ttl: Duration,
    /// The set's `max_ttl`, before the mount's maximum.
    pub(super) set_max_ttl: Duration,
    /// Labels of the set.
    pub(super) metadata: Metadata,
    /// A warning if the mount's maximum is below the requested `ttl`.
    pub(super) cut: Option<String>,
}

/// The ids of accounts that a check-out does not choose, or chooses last.
pub(super) struct Unavailable {
    /// Accounts that are not free.
    pub(super) taken: BTreeSet<String>,
    /// Accounts that are recorded as missing. They are chosen last.
    pub(super) missing: BTreeSet<String>,
    /// Accounts that OpenAI did not know in this check-out.
    pub(super) gone: BTreeSet<String>,
}

impl CheckOutRequest {
    pub(super) async fn of(
        engine: &Engine,
        call: &Call,
        name: &str,
        set: &LibrarySet,
    ) -> Result<Self, Error> {
        let ttl = call.sent(&TTL)?.unwrap_or(set.ttl);
        checks::check_requested_ttl(ttl, set.max_ttl, "library set")?;
        let limit = engine.system.max_lease_ttl().await?;
        Ok(Self {
            set: name.to_owned(),
            account: call.get(&ACCOUNT)?,
            borrower: Borrower::of(&call.request),
            ttl: ttl.min(limit),
            max_ttl: set.max_ttl.min(limit),
            set_max_ttl: set.max_ttl,
            metadata: set.metadata.clone(),
            cut: (ttl > limit).then(|| {
                format!(
                    "ttl of {} is above the mount's maximum lease time and was cut to it: {}",
                    seconds::text(ttl),
                    seconds::text(limit)
                )
            }),
        })
    }

    /// The account to lend: the requested one, or the first free one. A missing account comes last, as OpenAI may have it
    /// again.
    pub(super) fn choose<'a>(
        &self,
        members: &'a [Member],
        unavailable: &Unavailable,
    ) -> Result<&'a Member, Error> {
        let is = |ids: &BTreeSet<String>, member: &Member| ids.contains(member.id.as_str());
        if self.account.is_empty() {
            let mut free =
                members.iter().filter(|one| !is(&unavailable.taken, one) && !is(&unavailable.gone, one));
            let first = free.clone().find(|member| !is(&unavailable.missing, member));
            return first.or_else(|| free.next()).ok_or(Error::NoneAvailable);
        }
        let asked = members::by_name(members, &self.account);
        let asked =
            asked.ok_or_else(|| Error::NotInSet { set: self.set.clone(), account: self.account.clone() })?;
        if is(&unavailable.taken, asked) { Err(Error::AlreadyCheckedOut) } else { Ok(asked) }
    }
}
