//! Keys and accounts that only the configuration can end at OpenAI: asked before the configuration is deleted.

use crate::engine::accounts::holdings;
use crate::engine::accounts::owner::Owner;
use crate::engine::config::configuration::Config;
use crate::engine::creds::former::CREATION;
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::LEDGER;
use crate::engine::{Engine, Error};
use crate::framework::WalLog;
use crate::logical::{Storage, StorageError};
use crate::openai::OrganizationId;

/// More is not counted: it makes no difference to whoever reads the sentence.
const MOST: usize = 1_000;
/// As many names stand in the sentence.
const NAMED: usize = 5;

/// What would stay at OpenAI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unended {
    /// Static roles: their keys never expire.
    static_roles: Vec<String>,
    /// Library sets with accounts that Vault made.
    sets: Vec<String>,
    credentials: usize,
    check_outs: usize,
    /// Keys and accounts of static roles and sets that were asked of OpenAI and are not recorded.
    creations: usize,
}

/// Refuses if something of the configuration's organization has still to be ended.
pub(super) async fn refuse(engine: &Engine, storage: &dyn Storage, config: &Config) -> Result<(), Error> {
    let unended = Unended::of(engine, storage, &config.organization_id).await?;
    if unended == Unended::default() {
        return Ok(());
    }
    Err(Error::field(format!(
        "{} still to be ended at OpenAI, which takes the configuration: {}. With force=true it is deleted all the same; \
         then {}",
        unended.sentence(),
        unended.first(),
        unended.consequence(),
    )))
}

/// A warning that the configuration no longer names this organization, where something has still to be ended.
pub(super) async fn warn_of_leaving(
    engine: &Engine,
    storage: &dyn Storage,
    organization: &OrganizationId,
) -> Result<Option<String>, Error> {
    let unended = Unended::of(engine, storage, organization).await?;
    Ok((unended != Unended::default()).then(|| {
        format!(
            "{} still to be ended at OpenAI in organization {organization}, which the configuration no longer names: \
             until it does again, {}",
            unended.sentence(),
            unended.consequence(),
        )
    }))
}

async fn credentials(storage: &dyn Storage, organization: &OrganizationId) -> Result<usize, Error> {
    let mut count = 0;
    for place in ledger::places(storage, MOST).await? {
        match LEDGER.get(storage, &place).await {
            Ok(Some(entry)) => count += usize::from(entry.credential.organization_id == *organization),
            // No configuration ends what nobody can read.
            Ok(None) | Err(StorageError::Malformed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

async fn creations(storage: &dyn Storage, organization: &OrganizationId) -> Result<usize, Error> {
    let log = WalLog::read(storage, MOST).await?;
    let creations = CREATION.known(&log);
    Ok(creations.filter(|creation| creation.organization_id == *organization).count())
}

impl Unended {
    async fn of(
        engine: &Engine,
        storage: &dyn Storage,
        organization: &OrganizationId,
    ) -> Result<Self, Error> {
        let mut unended = Self {
            credentials: credentials(storage, organization).await?,
            creations: creations(storage, organization).await?,
            ..Self::default()
        };
        for (owner, holdings) in holdings::readable(engine, storage).await? {
            // What Vault made has a unique name.
            if !holdings.iter().any(|it| it.organization_id == *organization && it.name.is_some()) {
                continue;
            }
            match owner {
                Owner::StaticRole(name) => unended.static_roles.push(name),
                Owner::LibrarySet(name) => unended.sets.push(name),
                // Also those of sets that were deleted by force.
                Owner::Loan { .. } => unended.check_outs += 1,
                Owner::Config => {}
            }
        }
        Ok(unended)
    }

    /// The subject and its verb.
    fn sentence(&self) -> String {
        let many = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            MOST.. => Some(format!("{MOST} {what}s or more")),
            _ => Some(format!("{count} {what}s")),
        };
        let named = |names: &[String], what: &str| {
            many(names.len(), what).map(|many| format!("{many} ({})", some_of(names)))
        };
        let all = [
            named(&self.static_roles, "static role"),
            named(&self.sets, "library set"),
            many(self.creations, "unfinished creation"),
            many(self.credentials, "credential"),
            many(self.check_outs, "check-out"),
        ];
        let mut said: Vec<String> = all.into_iter().flatten().collect();
        let count =
            self.static_roles.len() + self.sets.len() + self.creations + self.credentials + self.check_outs;
        let verb = if count == 1 { "has" } else { "have" };
        let last = said.pop().unwrap_or_default();
        if said.is_empty() {
            format!("{last} {verb}")
        } else {
            format!("{} and {last} {verb}", said.join(", "))
        }
    }

    /// What to do first.
    fn first(&self) -> String {
        let deleted = match (self.static_roles.is_empty(), self.sets.is_empty()) {
            (false, false) => "delete the static roles and library sets, ",
            (false, true) => "delete the static roles, ",
            (true, false) => "delete the library sets, ",
            (true, true) => "",
        };
        format!(
            "{deleted}revoke the leases (vault lease revoke -prefix), and wait until revocations lists nothing"
        )
    }

    fn consequence(&self) -> &'static str {
        if self.static_roles.is_empty() && self.creations == 0 {
            "each key lives until its own end at OpenAI, and its lease cannot be revoked before that"
        } else {
            "the keys of static roles never end, every other key lives until its own end at OpenAI, and no lease can be \
             revoked before that"
        }
    }
}

fn some_of(names: &[String]) -> String {
    let some = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{some} and {} more", names.len() - NAMED) } else { some }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts_and_names() {
        let names = |count: usize| (1..=count).map(|n| format!("r{n}")).collect::<Vec<_>>();
        let sentence = |static_roles, sets, creations, credentials, check_outs| {
            Unended {
                static_roles: names(static_roles),
                sets: names(sets),
                credentials,
                check_outs,
                creations,
            }
            .sentence()
        };
        assert_eq!(sentence(0, 0, 0, 1, 0), "1 credential has");
        assert_eq!(sentence(0, 0, 0, 0, 2), "2 check-outs have");
        assert_eq!(sentence(0, 0, 0, 1, 1), "1 credential and 1 check-out have");
        assert_eq!(sentence(0, 0, 0, MOST, 0), "1000 credentials or more have");
        assert_eq!(sentence(1, 0, 0, 0, 0), "1 static role (r1) has");
        assert_eq!(
            sentence(7, 1, 1, 1, 0),
            "7 static roles (r1, r2, r3, r4, r5 and 2 more), 1 library set (r1), 1 unfinished creation and 1 credential \
             have"
        );
    }
}
