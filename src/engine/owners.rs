//! Which static role or library set an account of OpenAI belongs to: one at most.
//!
//! *Guarantees:* a claim is made before the owner's record is stored, under the account's lock, so no two owners are
//! ever stored for one account. A claim whose owner's record does not name the account (a crash lay between the two,
//! or a write that failed) is void, and the next one takes its place.

use serde::{Deserialize, Serialize};

use super::{Engine, Error, library_sets, static_roles};
use crate::logical::{Collection, Record, Storage};
use crate::openai::ServiceAccountId;

/// Who an account belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountOwner {
    /// The static role of this name.
    StaticRole(String),
    /// The library set of this name.
    LibrarySet(String),
}

/// The stored claim.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    owner: AccountOwner,
}

impl Record for Claim {
    const VERSION: u32 = 1;
}

static CLAIMS: Collection<Claim> = Collection::new("account-owner/");

impl std::fmt::Display for AccountOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StaticRole(name) => write!(f, "static role {name}"),
            Self::LibrarySet(name) => write!(f, "library set {name}"),
        }
    }
}

impl Engine {
    /// Claims the account for `owner`, unless another's record names it. Claiming what one owns already is fine.
    pub(super) async fn claim(
        &self,
        storage: &dyn Storage,
        account: &ServiceAccountId,
        owner: &AccountOwner,
    ) -> Result<(), Error> {
        let _alone = self.locks.lock(&format!("account/{account}")).await;
        let held = CLAIMS.get(storage, account.as_str()).await?;
        match held {
            Some(claim) if claim.owner == *owner => return Ok(()),
            Some(claim) if self.names_account(storage, &claim.owner, account).await? => {
                return Err(Error::AccountInUse { account: account.clone(), owner: claim.owner });
            }
            _ => {}
        }
        Ok(CLAIMS.put(storage, account.as_str(), &Claim { owner: owner.clone() }).await?)
    }

    /// Whether the owner's record is stored and names the account.
    async fn names_account(
        &self,
        storage: &dyn Storage,
        owner: &AccountOwner,
        account: &ServiceAccountId,
    ) -> Result<bool, Error> {
        match owner {
            AccountOwner::StaticRole(name) => static_roles::names_account(self, storage, name, account).await,
            AccountOwner::LibrarySet(name) => library_sets::names_account(self, storage, name, account).await,
        }
    }

    /// Gives the account up, if `owner` holds it.
    pub(super) async fn release(
        &self,
        storage: &dyn Storage,
        account: &ServiceAccountId,
        owner: &AccountOwner,
    ) -> Result<(), Error> {
        let _alone = self.locks.lock(&format!("account/{account}")).await;
        let held = CLAIMS.get(storage, account.as_str()).await?;
        if held.is_some_and(|claim| claim.owner == *owner) {
            CLAIMS.delete(storage, account.as_str()).await?;
        }
        Ok(())
    }
}
