//! What a check-out asks for, and which account of the set it gets.

use std::collections::BTreeSet;
use std::time::Duration;

use super::loans::Borrower;
use super::members::Member;
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

/// What a check-out asks for.
pub(super) struct Wish {
    pub(super) set: String,
    pub(super) account: String,
    pub(super) borrower: Borrower,
    pub(super) ttl: Duration,
    pub(super) max_ttl: Duration,
    /// The set's own, which the mount's maximum may have cut.
    pub(super) set_max_ttl: Duration,
    /// Labels of the set.
    pub(super) metadata: Metadata,
    /// A warning that the mount's maximum cut the time that was asked for.
    pub(super) cut: Option<String>,
}

/// What a check-out knows of a set's accounts when it chooses one.
pub(super) struct Unfit {
    /// Those that are not free.
    pub(super) taken: BTreeSet<String>,
    /// Those that OpenAI did not know of late.
    pub(super) missing: BTreeSet<String>,
    /// Those that OpenAI did not know in this very check-out.
    pub(super) passed: BTreeSet<String>,
}

impl Wish {
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
                    "ttl of {} is above the mount's maximum lease time, to which it was cut: {}",
                    seconds::text(ttl),
                    seconds::text(limit)
                )
            }),
        })
    }

    /// The account to lend: the one asked for, or the first that is free. One that OpenAI did not know of late comes last:
    /// it may be there again.
    pub(super) fn choose<'a>(&self, members: &'a [Member], unfit: &Unfit) -> Result<&'a Member, Error> {
        let is = |ids: &BTreeSet<String>, member: &Member| ids.contains(member.id.as_str());
        if self.account.is_empty() {
            let mut free = members.iter().filter(|one| !is(&unfit.taken, one) && !is(&unfit.passed, one));
            let first = free.clone().find(|member| !is(&unfit.missing, member));
            return first.or_else(|| free.next()).ok_or(Error::NoneAvailable);
        }
        let asked = members.iter().find(|member| member.answers_to(&self.account));
        let asked =
            asked.ok_or_else(|| Error::NotInSet { set: self.set.clone(), account: self.account.clone() })?;
        if is(&unfit.taken, asked) { Err(Error::AlreadyCheckedOut) } else { Ok(asked) }
    }
}
