//! Keys and accounts that cannot be deleted at OpenAI without the configuration. They refuse the configuration's
//! deletion, and a change of its organization warns of them.

use crate::engine::accounts::holdings;
use crate::engine::accounts::owner::Owner;
use crate::engine::config::configuration::Config;
use crate::engine::creds::former::CREATION;
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::LEDGER;
use crate::engine::creds::windows;
use crate::engine::{Engine, Error};
use crate::framework::WalLog;
use crate::logical::{Storage, StorageError};
use crate::openai::OrganizationId;

/// Highest count. The message says "or more" then.
const MAX_COUNT: usize = 1_000;
/// Number of names in the message.
const MAX_NAMES: usize = 5;

/// The owners of keys and accounts that would stay at OpenAI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Remaining {
    /// Static roles. Their keys may never expire.
    static_roles: Vec<String>,
    /// Library sets with accounts that Vault created.
    sets: Vec<String>,
    /// Roles with access tokens: their rules and accounts.
    federated_roles: Vec<String>,
    /// Workload identity providers that Vault registered: one at most.
    providers: usize,
    credentials: usize,
    check_outs: usize,
    /// Write-ahead entries of creations that have to be looked up.
    creations: usize,
}

/// Refuses if keys or accounts remain in the configuration's organization.
pub(super) async fn refuse(engine: &Engine, storage: &dyn Storage, config: &Config) -> Result<(), Error> {
    let remaining = Remaining::of(engine, storage, &config.organization_id).await?;
    if remaining == Remaining::default() {
        return Ok(());
    }
    Err(Error::field(format!(
        "{} still to be ended at OpenAI, which needs the configuration: {}. force=true deletes the configuration \
         anyway; then {}",
        remaining.sentence(),
        remaining.advice(),
        remaining.consequence(),
    )))
}

/// A warning if keys or accounts remain in this organization, which the configuration no longer names.
pub(super) async fn warn_of_leaving(
    engine: &Engine,
    storage: &dyn Storage,
    organization: &OrganizationId,
) -> Result<Option<String>, Error> {
    let remaining = Remaining::of(engine, storage, organization).await?;
    Ok((remaining != Remaining::default()).then(|| {
        format!(
            "{} still to be ended at OpenAI in organization {organization}, which the configuration no longer names: \
             until the configuration names it again, {}",
            remaining.sentence(),
            remaining.consequence(),
        )
    }))
}

/// The number of credentials in this organization. Records of another organization may be many, and stand before them.
async fn credentials(storage: &dyn Storage, organization: &OrganizationId) -> Result<usize, Error> {
    let (mut count, mut after) = (0, String::new());
    loop {
        let places = ledger::places(storage, &after, ledger::PAGE).await?;
        let Some(last) = places.last() else { return Ok(count) };
        after.clone_from(last);
        for place in places {
            // An unreadable record names nothing that the configuration could delete.
            if let Some(entry) = StorageError::readable(LEDGER.get(storage, &place).await)? {
                count += usize::from(entry.credential.organization_id == *organization);
            }
            if count == MAX_COUNT {
                return Ok(count);
            }
        }
    }
}

async fn creations(
    engine: &Engine,
    storage: &dyn Storage,
    organization: &OrganizationId,
) -> Result<usize, Error> {
    let log = WalLog::read(storage, MAX_COUNT).await?;
    let former = CREATION.known(&log).filter(|creation| creation.organization_id == *organization);
    Ok(former.count() + windows::unsettled(engine, &log, organization))
}

impl Remaining {
    async fn of(
        engine: &Engine,
        storage: &dyn Storage,
        organization: &OrganizationId,
    ) -> Result<Self, Error> {
        let mut remaining = Self {
            credentials: credentials(storage, organization).await?,
            creations: creations(engine, storage, organization).await?,
            ..Self::default()
        };
        for (owner, holdings) in holdings::readable(engine, storage).await? {
            // Only an account or key that Vault created has a unique name.
            if !holdings
                .iter()
                .any(|it| it.organization_id.as_ref() == Some(organization) && it.name.is_some())
            {
                continue;
            }
            match owner {
                Owner::StaticRole(name) => remaining.static_roles.push(name),
                Owner::LibrarySet(name) => remaining.sets.push(name),
                Owner::FederatedRole(name) => remaining.federated_roles.push(name),
                Owner::Federation => remaining.providers += 1,
                // Also a check-out of a set that was deleted by force.
                Owner::Loan { .. } => remaining.check_outs += 1,
                Owner::Config => {}
            }
        }
        Ok(remaining)
    }

    /// The subject of the message, with its verb.
    fn sentence(&self) -> String {
        let many = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            MAX_COUNT.. => Some(format!("{MAX_COUNT} {what}s or more")),
            _ => Some(format!("{count} {what}s")),
        };
        let named = |names: &[String], what: &str| {
            many(names.len(), what).map(|many| format!("{many} ({})", some_of(names)))
        };
        let all = [
            named(&self.static_roles, "static role"),
            named(&self.sets, "library set"),
            named(&self.federated_roles, "federated role"),
            many(self.providers, "workload identity provider"),
            many(self.creations, "unfinished creation"),
            many(self.credentials, "credential"),
            many(self.check_outs, "check-out"),
        ];
        let mut parts: Vec<String> = all.into_iter().flatten().collect();
        let named = self.static_roles.len() + self.sets.len() + self.federated_roles.len();
        let count = named + self.providers + self.creations + self.credentials + self.check_outs;
        let verb = if count == 1 { "has" } else { "have" };
        let last = parts.pop().unwrap_or_default();
        if parts.is_empty() {
            format!("{last} {verb}")
        } else {
            format!("{} and {last} {verb}", parts.join(", "))
        }
    }

    /// The steps before the deletion of the configuration.
    fn advice(&self) -> String {
        let first = [
            (!self.static_roles.is_empty(), "the static roles"),
            (!self.sets.is_empty(), "the library sets"),
            (!self.federated_roles.is_empty(), "the federated roles"),
            (self.providers > 0, "config/federation"),
        ];
        let first: Vec<&str> =
            first.into_iter().filter_map(|(is_there, what)| is_there.then_some(what)).collect();
        let deleted = match first.split_last() {
            None => String::new(),
            Some((only, [])) => format!("delete {only}, "),
            Some((last, others)) => format!("delete {} and {last}, ", others.join(", ")),
        };
        let looked_up =
            if self.creations > 0 { ", wait 10 minutes for the unfinished creations" } else { "" };
        format!(
            "{deleted}revoke the leases (vault lease revoke -prefix){looked_up}, and wait until revocations lists \
             nothing"
        )
    }

    fn consequence(&self) -> String {
        let keys = self.consequence_for_keys();
        if self.federated_roles.is_empty() && self.providers == 0 {
            return keys.to_owned();
        }
        format!(
            "{keys}; provider, rules and accounts of federated roles stay, and their tokens are handed out on"
        )
    }

    fn consequence_for_keys(&self) -> &'static str {
        if self.static_roles.is_empty() && self.creations == 0 {
            "each key lives until it expires at OpenAI, and its lease cannot be revoked before that"
        } else {
            "the keys of static roles never end, every other key lives until it expires at OpenAI, and no lease can \
             be revoked before that"
        }
    }
}

fn some_of(names: &[String]) -> String {
    let some = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES { format!("{some} and {} more", names.len() - MAX_NAMES) } else { some }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts_and_names() {
        let names = |count: usize| (1..=count).map(|n| format!("r{n}")).collect::<Vec<_>>();
        let sentence = |static_roles, sets, creations, credentials, check_outs| {
            Remaining {
                static_roles: names(static_roles),
                sets: names(sets),
                credentials,
                check_outs,
                creations,
                ..Remaining::default()
            }
            .sentence()
        };
        assert_eq!(sentence(0, 0, 0, 1, 0), "1 credential has");
        assert_eq!(sentence(0, 0, 0, 0, 2), "2 check-outs have");
        assert_eq!(sentence(0, 0, 0, 1, 1), "1 credential and 1 check-out have");
        assert_eq!(sentence(0, 0, 0, MAX_COUNT, 0), "1000 credentials or more have");
        assert_eq!(sentence(1, 0, 0, 0, 0), "1 static role (r1) has");
        let federated = Remaining { federated_roles: names(2), providers: 1, ..Remaining::default() };
        assert_eq!(federated.sentence(), "2 federated roles (r1, r2) and 1 workload identity provider have");
        assert!(federated.advice().starts_with("delete the federated roles and config/federation, "));
        assert_eq!(
            sentence(7, 1, 1, 1, 0),
            "7 static roles (r1, r2, r3, r4, r5 and 2 more), 1 library set (r1), 1 unfinished creation and 1 credential \
             have"
        );
    }
}
