//! `library-sets/:name`: accounts that are lent out, one borrower each.

use super::{Engine, Error};
use crate::framework::Path;
use crate::logical::Storage;
use crate::openai::ServiceAccountId;

pub(super) fn paths() -> Vec<Path<Engine>> {
    Vec::new()
}

/// Whether the library set `name` is stored and names this account.
pub(super) async fn names_account(
    _engine: &Engine,
    _storage: &dyn Storage,
    _name: &str,
    _account: &ServiceAccountId,
) -> Result<bool, Error> {
    Ok(false)
}

/// The library sets that name this project.
pub(super) async fn of_project(
    _engine: &Engine,
    _storage: &dyn Storage,
    _project: &str,
) -> Result<Vec<String>, Error> {
    Ok(Vec::new())
}
