//! Writes of `library-sets/:name`: adopts and creates accounts for the names, and stores the set.
//!
//! *Guarantees:* the record names an account in `making` or `ending` before the account is adopted or created. One last
//! write of storage makes the accounts members, makes the set visible, and moves removed accounts to `ending`.
//!
//! If the plugin or the server dies, the last completed step decides. Until step 4, readers see the old set, or none:
//! 1. *The accounts that the project has are stored in `ending`*, and perhaps claimed. After five minutes the tick
//!    releases the claims.
//! 2. *The unique name of a new account is stored in `making`*, and OpenAI may have created the account. Some three
//!    minutes later the tick looks the name up and deletes the account.
//! 3. *The new account is stored in `ending`*, and perhaps claimed and renamed. After five minutes the tick deletes the
//!    account and releases its claim.
//! 4. *The set is stored with its new members.* Removed accounts are in `ending`, and some may be gone at OpenAI. The
//!    next tick deletes the created ones and releases the adopted ones.
//!
//! After a write of storage with an unknown outcome, too, the tick decides by the stored record.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::fields::{ACCOUNTS, NAME};
use super::members::{Home, Listed, Member};
use super::sets::LibrarySet;
use super::{fields, in_use, legacy, lending, missing, reconcile, sets, status};
use crate::engine::accounts::lookup::UniqueName;
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{claims, making};
use crate::engine::config::{clients, key_records, named_projects, project_fields};
use crate::engine::creds::{inventory, issuer};
use crate::engine::failpoint::failpoint;
use crate::engine::time::seconds;
use crate::engine::{Engine, Error};
use crate::framework::Call;
use crate::logical::{Response, Storage};
use crate::openai::{ProjectId, ServiceAccountId};

/// Creates a set, or changes what the call sends.
pub(super) async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    // Before any other work, so that a refused list costs no more than its reading.
    let asked = fields::names(&call)?;
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let _alone = sets::lock_set(&engine, &name).await;
    legacy::take_over_change(&engine, storage, &name).await?;
    let stored = sets::stored(&engine, storage, &name).await?;
    let old = stored.as_ref().filter(|stored| !stored.is_tombstone);
    call.patches(old.is_some(), || format!("library set {:?}", &*name))?;
    let mut set = old.map_or_else(|| LibrarySet::first(&call), |old| Ok(old.clone()))?;
    set.change(&call)?;
    let names = match (&asked, old) {
        (Some(names), _) => names.clone(),
        (None, Some(old)) => old.members.iter().map(|member| member.name.clone()).collect(),
        (None, None) => call.get(&ACCOUNTS)?,
    };
    let before = old.map(LibrarySet::named_project);
    let project_id =
        project_fields::written_project(&engine, storage, &set.named_project(), before.as_ref()).await?;
    set.check_move(old, &project_id)?;

    let mut warnings = warn_of_cut(&engine, &set).await?;
    let mut record = stored.unwrap_or_else(|| set.clone());
    // New work does not wait for earlier failures.
    record.retry.retry_now();
    let sends_names = asked.is_some();
    let mut write = SetWrite {
        engine: &engine,
        storage,
        name: &name,
        record,
        sends_names,
        checked: false,
        warnings: Vec::new(),
    };
    let warning = match write.run(set, &names, project_id).await {
        Ok(()) => reconcile::finish(&engine, storage, &name).await,
        Err(error) => return Err(reconcile::undo_write(&engine, storage, &name, error).await),
    };
    warnings.extend(write.warnings.into_iter().chain(warning));
    let _ = status::count(&engine, storage, &name).await;
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

/// Warns if `max_ttl` is above the mount's maximum. It is no refusal, because the maximum may be raised later.
async fn warn_of_cut(engine: &Engine, set: &LibrarySet) -> Result<Vec<String>, Error> {
    let limit = engine.system.max_lease_ttl().await?;
    let warning = (set.max_ttl > limit).then(|| {
        format!(
            "max_ttl of {} is above the mount's maximum lease time of {}, which limits check-outs",
            seconds::text(set.max_ttl),
            seconds::text(limit)
        )
    });
    Ok(warning.into_iter().collect())
}

/// A running write of a set.
struct SetWrite<'a> {
    engine: &'a Engine,
    storage: &'a dyn Storage,
    name: &'a str,
    /// The stored record during the write: the old settings and members, or a tombstone.
    record: LibrarySet,
    /// True if the call sends the names. Then OpenAI is asked for the accounts.
    sends_names: bool,
    /// True if OpenAI was asked for all members that stay.
    checked: bool,
    warnings: Vec<String>,
}

/// The old members of a set.
struct OldMembers {
    /// Members that stay.
    kept: Vec<Member>,
    /// Members that leave.
    removed: Vec<Member>,
}

impl SetWrite<'_> {
    /// Adopts and creates the accounts of these names, then stores the set.
    async fn run(&mut self, mut set: LibrarySet, names: &[String], project: ProjectId) -> Result<(), Error> {
        let storage = self.storage;
        let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
        let (kept, removed): (Vec<_>, Vec<_>) =
            set.members.into_iter().partition(|member| wanted.contains(member.name.as_str()));
        in_use::refuse_lent(storage, self.name, &removed).await?;
        in_use::refuse_used(self.engine, storage, &removed).await?;
        let mut before = OldMembers { kept, removed };
        if self.sends_names {
            let joining = self.gather(names, &wanted, project, &mut before, set.create_missing).await?;
            refuse_twice(&before.kept, &joining)?;
            before.kept.extend(joining);
        }
        let places: HashMap<&str, usize> =
            names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        before.kept.sort_by_key(|member| places.get(member.name.as_str()).copied());
        set.members = before.kept;
        self.store(set, &before.removed).await
    }

    /// Checks the members at OpenAI, and adopts or creates an account for each name without a member.
    async fn gather(
        &mut self,
        names: &[String],
        wanted: &HashSet<&str>,
        project: ProjectId,
        before: &mut OldMembers,
        create_missing: bool,
    ) -> Result<Vec<Member>, Error> {
        let looked = self.look(wanted, project, before).await;
        let held: HashSet<&str> = before.kept.iter().map(|member| member.name.as_str()).collect();
        let new: Vec<&str> = names.iter().map(String::as_str).filter(|name| !held.contains(name)).collect();
        match looked {
            Ok((home, listed)) if !new.is_empty() => {
                self.fill(&home, &listed, &new, &before.removed, create_missing).await
            }
            Ok(_) => Ok(Vec::new()),
            // Without a new name, the write does not need OpenAI.
            Err(error) if new.is_empty() => {
                self.warnings.push(format!("the set's accounts could not be checked at OpenAI: {error}"));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Lists the project's accounts. Members that OpenAI no longer has leave the set, so that other accounts can take their
    /// names. A member that is checked out stays.
    async fn look(
        &mut self,
        wanted: &HashSet<&str>,
        project: ProjectId,
        before: &mut OldMembers,
    ) -> Result<(Home, Listed), Error> {
        let (engine, storage) = (self.engine, self.storage);
        let configured = clients::configured_in_storage(engine, storage).await?;
        let home = Home::new(&configured, project, engine.now());
        let (near, far): (Vec<_>, Vec<_>) = std::mem::take(&mut before.kept)
            .into_iter()
            .partition(|member| member.organization_id == home.organization_id);
        // If the list fails, all of them stay.
        before.kept = near.iter().chain(&far).cloned().collect();
        let listed = home.list(wanted, &near).await?;
        let in_doubt = missing::of_set(storage, self.name).await?;
        let gone = home.gone(&listed, &near, &in_doubt).await?;
        let taken = lending::taken(storage, self.name).await?;
        let leaves = |member: &Member| gone.contains(&member.id) && !taken.contains(member.id.as_str());
        let (leaving, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut before.kept).into_iter().partition(leaves);
        self.checked = far.is_empty() && kept.iter().all(|member| !gone.contains(&member.id));
        before.kept = kept;
        before.removed.extend(leaving);
        Ok((home, listed))
    }

    /// Adopts or creates an account for each name.
    async fn fill(
        &mut self,
        home: &Home,
        listed: &Listed,
        names: &[&str],
        removed: &[Member],
        create_missing: bool,
    ) -> Result<Vec<Member>, Error> {
        let (engine, storage) = (self.engine, self.storage);
        let mut members = home.find(listed, names).await?;
        // A renamed member, or an account that an earlier change left in `ending`, keeps its origin: created or adopted.
        let mut earlier: HashMap<ServiceAccountId, Option<String>> = HashMap::new();
        for member in self.record.ending.iter().map(|ending| &ending.member).chain(removed) {
            earlier.insert(member.id.clone(), member.made_as.clone());
        }
        for member in &mut members {
            if let Some(made_as) = earlier.remove(&member.id) {
                member.made_as = made_as;
            }
        }
        let config = clients::configured(engine, storage).await?.config;
        let adopted: Vec<_> = members.iter().map(|member| (&member.id, member.name.as_str())).collect();
        key_records::refuse_owner_of_admin_key(&config, &home.client, ACCOUNTS.name(), &adopted).await?;
        let called: Vec<&str> = adopted.iter().map(|(_, name)| *name).collect();
        inventory::check_not_of_credentials(engine, storage, ACCOUNTS.name(), &called).await?;
        let found: HashSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let lacking: Vec<&str> = names.iter().copied().filter(|name| !found.contains(name)).collect();
        listed.refuse_ids(&lacking)?;
        if !create_missing && !lacking.is_empty() {
            return Err(Error::field(format!(
                "service_account_names: project {} has no account of these names, and create_missing is false: {}",
                home.project_id,
                lacking.join(", ")
            )));
        }
        fields::refuse_unfit(&lacking)?;
        if !members.is_empty() {
            if let Some((member, set)) = lending::lent_by_another(storage, self.name, &members).await? {
                let owner = format!("a check-out of library set {set}");
                return Err(Error::AccountInUse { account: member.id.clone(), owner });
            }
            self.adopt(&members).await?;
            // After the claim: a later write of a role sees the claim.
            let adopted: Vec<_> = members.iter().map(|member| (&member.id, member.name.as_str())).collect();
            inventory::check_not_of_roles(engine, storage, ACCOUNTS.name(), &adopted).await?;
            self.warnings = home.warn_of_users(engine, &members).await?;
        }
        for name in &lacking {
            members.push(self.make_account(home, name).await?);
        }
        if !lacking.is_empty() {
            self.warnings.push(format!(
                "the project had no service accounts of these names, so Vault made them: {}",
                lacking.join(", ")
            ));
        }
        Ok(members)
    }

    async fn put_record(&self) -> Result<(), Error> {
        Ok(sets::put(self.engine, self.storage, self.name, &self.record).await?)
    }

    /// Stores the accounts in `ending`, then claims them.
    async fn adopt(&mut self, members: &[Member]) -> Result<(), Error> {
        let now = self.engine.now();
        self.record.add_to_ending(members, now, now + making::longest_request());
        self.put_record().await?;
        failpoint!("set.touched");
        for member in members {
            let owner = Owner::LibrarySet(self.name.to_owned());
            claims::claim(self.engine, self.storage, &member.id, &owner).await?;
            failpoint!("set.claimed");
        }
        Ok(())
    }

    /// Creates an account of this name, and claims it.
    async fn make_account(&mut self, home: &Home, name: &str) -> Result<Member, Error> {
        let (organization, project) = (&home.organization_id, Some(&home.project_id));
        let (name_at_openai, now) = (sets::new_name_for_set(self.engine, self.name), self.engine.now());
        let made_as = self.record.making.begin(name_at_openai, organization, project, None, now)?.name;
        self.put_record().await?;
        self.engine.accounts.first_seen.begin(&made_as);
        failpoint!("issue.bare_announced");
        let unique_name = UniqueName { project: &home.project_id, account: None, name: &made_as };
        let id = match issuer::make_bare_account(&home.client, &unique_name).await {
            Ok(id) => id,
            Err(failure) if failure.remains == issuer::Remains::Nothing => {
                self.record.making.end(&made_as);
                self.engine.accounts.first_seen.forget(&made_as);
                self.put_record().await?;
                return Err(failure.error);
            }
            Err(failure) => return Err(failure.error),
        };
        self.record.making.end(&made_as);
        // A write may take minutes, and the account is new now.
        let joined = Some(self.engine.now());
        let member = Member { joined, ..home.member(name, id, Some(made_as)) };
        self.adopt(std::slice::from_ref(&member)).await?;
        self.engine.accounts.first_seen.forget(member.made_as.as_deref().unwrap_or_default());
        failpoint!("set.made");
        home.rename(&member).await?;
        Ok(member)
    }

    /// Stores the set. Refuses if a removed account was checked out meanwhile, or if the project's name was deleted.
    async fn store(&self, set: LibrarySet, removed: &[Member]) -> Result<(), Error> {
        let (engine, storage, now) = (self.engine, self.storage, self.engine.now());
        let (making, ending, retry) =
            (self.record.making.clone(), self.record.ending.clone(), self.record.retry.clone());
        let members = set.members.clone();
        let mut set = LibrarySet { making, ending, retry, is_tombstone: false, ..set };
        set.add_to_ending(removed, now, now);
        set.set_members(members);
        let _no_deletion = engine.locks.lock(&named_projects::users_lock(&set.project)).await;
        named_projects::project_id(engine, storage, &set.project, set.project_id.as_ref()).await?;
        {
            let _no_loan = lending::lock_loans(engine, self.name).await;
            in_use::refuse_lent(storage, self.name, removed).await?;
            sets::put(engine, storage, self.name, &set).await?;
        }
        failpoint!("set.stored");
        // Best effort: for a remaining record, the tick looks once.
        let _ = missing::settle(storage, self.name, &set.members, self.checked).await;
        Ok(())
    }
}

/// Refuses a renamed account that the names contain twice, by its old and its new name.
fn refuse_twice(members: &[Member], joining: &[Member]) -> Result<(), Error> {
    let ids: HashSet<&ServiceAccountId> = members.iter().map(|member| &member.id).collect();
    match joining.iter().find(|new| ids.contains(&new.id)) {
        Some(new) => Err(Error::field(format!(
            "service_account_names must not name an account twice: the present name of {} is {:?}",
            new.id, new.name
        ))),
        None => Ok(()),
    }
}
