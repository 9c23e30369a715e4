//! What this mount handed out and only its configuration can end at OpenAI: asked before the configuration goes.

use super::configuration::Config;
use super::ledger::{self, LEDGER};
use super::library::lending;
use super::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::OrganizationId;

/// More is not counted: it makes no difference to whoever reads the sentence.
const MOST: usize = 1_000;

/// What would be left to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unended {
    credentials: usize,
    check_outs: usize,
}

/// Refuses if something of the configuration's organization has still to be ended.
pub(super) async fn refuse(engine: &Engine, storage: &dyn Storage, config: &Config) -> Result<(), Error> {
    let unended = Unended {
        credentials: credentials(storage, &config.organization_id).await?,
        check_outs: check_outs(engine, storage, &config.organization_id).await?,
    };
    if unended == Unended::default() {
        return Ok(());
    }
    Err(Error::field(format!(
        "{} still to be ended at OpenAI, which takes the configuration: revoke the leases (vault lease revoke -prefix), \
         and wait until revocations lists nothing. With force=true it is deleted all the same; then each key lives until \
         its own end at OpenAI, and its lease cannot be revoked before that",
        unended.sentence()
    )))
}

async fn credentials(storage: &dyn Storage, organization: &OrganizationId) -> Result<usize, Error> {
    let mut count = 0;
    for place in ledger::places(storage, MOST).await? {
        match LEDGER.get(storage, &place).await {
            Ok(Some(entry)) => count += usize::from(entry.handed.organization_id == *organization),
            // No configuration ends what nobody can read.
            Ok(None) | Err(StorageError::Malformed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

async fn check_outs(
    engine: &Engine,
    storage: &dyn Storage,
    organization: &OrganizationId,
) -> Result<usize, Error> {
    let mut count = 0;
    for set in engine.library_sets.names(storage).await? {
        let loans = lending::readable_of_set(storage, &set).await?;
        count += loans.iter().filter(|loan| loan.account.organization_id == *organization).count();
    }
    Ok(count)
}

impl Unended {
    fn sentence(self) -> String {
        let many = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            MOST.. => Some(format!("{MOST} {what}s or more")),
            _ => Some(format!("{count} {what}s")),
        };
        let all = [many(self.credentials, "credential"), many(self.check_outs, "check-out")];
        let said: Vec<String> = all.into_iter().flatten().collect();
        let verb = if self.credentials + self.check_outs == 1 { "has" } else { "have" };
        format!("{} {verb}", said.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts() {
        let sentence = |credentials, check_outs| Unended { credentials, check_outs }.sentence();
        assert_eq!(sentence(1, 0), "1 credential has");
        assert_eq!(sentence(0, 2), "2 check-outs have");
        assert_eq!(sentence(1, 1), "1 credential and 1 check-out have");
        assert_eq!(sentence(MOST, 0), "1000 credentials or more have");
    }
}
