//! Writes and deletions of `library-sets/:name`: from the names it shall have to a stored set. How that survives a crash
//! is said in `changes`.

use std::sync::Arc;

use super::fields::{ACCOUNTS, NAME};
use super::members::{Home, Member};
use super::sets::{LibrarySet, touched};
use super::{changes, lending, status};
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error, key_records, named_projects};
use crate::framework::Call;
use crate::logical::{Response, Storage};
use crate::openai::ProjectId;

/// No name at OpenAI comes near this.
const LONGEST_NAME: usize = 256;

/// Creates a set, or changes what the call sends.
pub(super) async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (call.storage(), call.get(&NAME)?);
    let _alone = engine.lock_set(&name).await;
    let old = engine.library_sets.get(&**storage, &name).await?;
    call.patches(old.is_some(), || format!("library set {:?}", &*name))?;
    let mut set = old.as_deref().map_or_else(|| LibrarySet::first(&call), |old| Ok(old.clone()))?;
    set.change(&call)?;
    let names = names_in(&call, old.as_deref())?;
    let project_id = engine.project_id(&**storage, &set.project, set.project_id.as_ref()).await?;
    set.check_move(old.as_deref(), &project_id)?;

    let mut change = Join { engine: &engine, storage, name: &name, warning: None };
    let warning = match change.make(set, &names, project_id).await {
        Ok(()) => changes::finish(&engine, &**storage, &name).await,
        Err(error) => return Err(changes::undo(&engine, &**storage, &name, error).await),
    };
    let warnings: Vec<String> = [change.warning, warning].into_iter().flatten().collect();
    let _ = status::count(&engine, &**storage, &name).await;
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

/// A write of a set.
struct Join<'a> {
    engine: &'a Engine,
    storage: &'a Arc<dyn Storage>,
    name: &'a str,
    warning: Option<String>,
}

impl Join<'_> {
    /// Gets every account that the set shall have, then stores the set.
    async fn make(&mut self, mut set: LibrarySet, names: &[String], project: ProjectId) -> Result<(), Error> {
        let storage = &**self.storage;
        let (mut members, removed): (Vec<_>, Vec<_>) =
            set.members.into_iter().partition(|member| names.contains(&member.name));
        refuse_lent(storage, self.name, &removed).await?;
        let is_new = |name: &&String| members.iter().all(|member| member.name != **name);
        let new: Vec<&str> = names.iter().filter(is_new).map(String::as_str).collect();
        if !new.is_empty() {
            let joining = self.gather(&new, project, &removed).await?;
            refuse_twice(&members, &joining)?;
            members.extend(joining);
        }
        members.sort_by_key(|member| names.iter().position(|name| *name == member.name));
        set.members = members;
        self.store(&set, &removed).await
    }

    /// Adopts or makes an account for each name.
    async fn gather(
        &mut self,
        names: &[&str],
        project_id: ProjectId,
        removed: &[Member],
    ) -> Result<Vec<Member>, Error> {
        let (engine, storage) = (self.engine, self.storage);
        let configured = engine.configured(&**storage).await?;
        let home = Home::new(&configured, project_id);
        let mut members = home.find(names).await?;
        // One that the set has under an older name, or that is still to go after an earlier change, stays what it was.
        let mut earlier = touched(&**storage, self.name).await?;
        earlier.extend_from_slice(removed);
        for earlier in earlier {
            if let Some(member) = members.iter_mut().find(|member| member.id == earlier.id) {
                member.made_as = earlier.made_as;
            }
        }
        let adopted: Vec<_> = members.iter().map(|member| (&member.id, member.name.as_str())).collect();
        key_records::refuse_owner_of_admin_key(&configured.config, &home.client, ACCOUNTS.name(), &adopted)
            .await?;
        if !members.is_empty() {
            changes::adopt(engine, &**storage, self.name, &members).await?;
            self.warning = home.warn_of_keys(&members).await?;
        }
        for name in names {
            if members.iter().all(|member| member.name != *name) {
                members.push(changes::make(engine, storage, self.name, &home, name).await?);
            }
        }
        Ok(members)
    }

    /// Stores the set, unless an account that it no longer names was lent meanwhile, or its project went.
    async fn store(&self, set: &LibrarySet, removed: &[Member]) -> Result<(), Error> {
        let (engine, storage) = (self.engine, &**self.storage);
        if !removed.is_empty() {
            changes::touch(engine, storage, self.name, removed).await?;
        }
        let _no_deletion = engine.locks.lock(&named_projects::users_lock(&set.project)).await;
        engine.project_id(storage, &set.project, set.project_id.as_ref()).await?;
        let _no_loan = engine.lock_loans(self.name).await;
        refuse_lent(storage, self.name, removed).await?;
        engine.library_sets.put(storage, self.name, set).await?;
        failpoint!("set.stored");
        Ok(())
    }
}

/// Refuses an account that was renamed at OpenAI and is now called by its old and its new name.
fn refuse_twice(members: &[Member], joining: &[Member]) -> Result<(), Error> {
    let twice = |new: &&Member| members.iter().any(|member| member.id == new.id);
    match joining.iter().find(twice) {
        Some(new) => Err(Error::field(format!(
            "service_account_names must not name an account twice: {} is {:?} by its name of today",
            new.id, new.name
        ))),
        None => Ok(()),
    }
}

/// Refuses if one of these accounts is not free.
async fn refuse_lent(storage: &dyn Storage, set: &str, members: &[Member]) -> Result<(), Error> {
    if members.is_empty() {
        return Ok(());
    }
    let taken = lending::taken(storage, set).await?;
    let lent = members.iter().filter(|member| taken.iter().any(|id| id == member.id.as_str()));
    let lent: Vec<String> = lent.map(|member| member.name.clone()).collect();
    if lent.is_empty() { Ok(()) } else { Err(Error::StillOut(lent)) }
}

/// Ends a set whose accounts are all checked in; those that Vault made go with it.
pub(super) async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let _alone = engine.lock_set(&name).await;
    let Some(set) = engine.library_sets.get(storage, &name).await? else { return Ok(None) };
    {
        let _no_loan = engine.lock_loans(&name).await;
        refuse_lent(storage, &name, &set.members).await?;
        changes::touch(&engine, storage, &name, &set.members).await?;
        engine.library_sets.delete(storage, &name).await?;
        failpoint!("set.deleted");
    }
    let warning = changes::finish(&engine, storage, &name).await;
    let _ = status::count(&engine, storage, &name).await;
    Ok(warning.map(|warning| Response::default().with_warning(warning)))
}

/// The names that a write asks for.
fn names_in(call: &Call, old: Option<&LibrarySet>) -> Result<Vec<String>, Error> {
    let names = match (call.sent(&ACCOUNTS)?, old) {
        (None, Some(old)) => return Ok(old.members.iter().map(|member| member.name.clone()).collect()),
        (Some(names), _) => names,
        (None, None) => call.get(&ACCOUNTS)?,
    };
    let refuse = |what: String| Err(Error::field(format!("service_account_names {what}")));
    if names.is_empty() {
        return refuse("must name at least one account; to end the set, delete it".to_owned());
    }
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return refuse(format!(
                "must be names of 1 to {LONGEST_NAME} printable characters, not {name:?}"
            ));
        }
        if names[..index].contains(name) {
            return refuse(format!("must not repeat a name: {name:?}"));
        }
    }
    Ok(names)
}
