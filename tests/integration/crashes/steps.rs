//! What happens to a mount, one step at a time, so that every point is come by. A noun that gets points adds the
//! steps that lead to them here, and nothing elsewhere.

use std::sync::Arc;

use openai_secrets::engine::failpoint::Trap;
use serde_json::json;

use super::world::World;
use crate::simulator::endpoint::{
    CREATE_ACCOUNT, CREATE_ADMIN_KEY, CREATE_KEY, CREATE_PROVIDER, CREATE_RULE, DELETE_KEY, LIST_ACCOUNTS,
    LIST_ADMIN_KEYS, UPDATE_KEY,
};
use crate::simulator::{Action, Fault};
use crate::support::openai::PROJECT;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A credential of this role is read.
    Read(&'static str),
    /// Many credentials of this role are read at once.
    ReadAtOnce(&'static str),
    /// Vault ends its oldest lease.
    Revoke,
    /// Vault loses its oldest lease: it died before it recorded it, or was restored from a backup.
    LoseALease,
    /// The static role of this rotation method is written.
    WriteStatic(&'static str),
    /// It is rotated, and the old key ends at once.
    Rotate(&'static str),
    /// It is rotated, and the old key works for an hour.
    RotateWithGrace(&'static str),
    DeleteStatic(&'static str),
    /// The library set is written with these accounts.
    WriteSet(&'static [&'static str]),
    DeleteSet,
    CheckOut,
    /// The borrower gives the oldest loan back.
    CheckIn,
    /// Vault ends the lease of the oldest loan.
    RevokeALoan,
    /// Vault loses it.
    LoseALoan,
    RotateTheAdminKey,
    /// The mount becomes an issuer of tokens.
    WriteFederation,
    RotateTheSigningKey,
    DeleteFederation,
    /// The role with access tokens is written, with or without scopes.
    WriteFederated(&'static str),
    DeleteFederated,
    /// OpenAI goes wrong once.
    OpenAi(Wrong),
    /// Storage refuses the next record of a credential.
    RefuseTheNextRecord,
    /// Storage refuses to delete the next write-ahead entry.
    KeepTheNextEntry,
    /// The end of what has no lease passes.
    EndsPass,
    /// The process ends, with nothing under way.
    Restart,
    /// Somebody uses every key that there is.
    UseKeys,
    /// A minute passed.
    Tick,
    /// Twenty minutes pass: what was cut off is looked for.
    TimePasses,
}

/// What OpenAI does wrong the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It makes an account, a key or an admin key, and the answer is lost.
    LoseAnAccount,
    LoseAKey,
    LoseAnAdminKey,
    LoseAProvider,
    LoseARule,
    /// It refuses to list: what it made is not found at once.
    RefuseAList,
    /// The same for the list after the next.
    RefuseALaterList,
    RefuseAnAdminList,
    RefuseAnAccount,
    RefuseAKey,
    RefuseToNarrow,
    RefuseToEndAKey,
}

/// So many read at once: some alone, and some of the entries that they share not to their end.
const CROWD: usize = 7;

const BY_KEY: &str = "key";
const BY_ACCOUNT: &str = "account";

/// Every step in an order in which each leads somewhere.
pub(super) const STORY: &[Step] = &[
    Step::Read("plain"),
    Step::Read("narrow"),
    Step::Read("adopted"),
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseAList),
    Step::OpenAi(Wrong::RefuseAnAccount),
    Step::RefuseTheNextRecord,
    Step::ReadAtOnce("plain"),
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::Read("plain"),
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseAList),
    Step::Read("plain"),
    Step::OpenAi(Wrong::RefuseAnAccount),
    Step::Read("plain"),
    Step::OpenAi(Wrong::RefuseToNarrow),
    Step::Read("narrow"),
    Step::RefuseTheNextRecord,
    Step::Read("plain"),
    Step::KeepTheNextEntry,
    Step::Read("plain"),
    Step::Tick,
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseAList),
    Step::Read("plain"),
    Step::UseKeys,
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseAList),
    Step::Read("plain"),
    Step::Restart,
    Step::Tick,
    Step::Revoke,
    Step::LoseALease,
    Step::EndsPass,
    Step::Tick,
    Step::WriteStatic(BY_KEY),
    Step::WriteStatic(BY_ACCOUNT),
    Step::Rotate(BY_KEY),
    Step::Rotate(BY_ACCOUNT),
    Step::RotateWithGrace(BY_KEY),
    Step::Rotate(BY_ACCOUNT),
    Step::OpenAi(Wrong::RefuseAnAccount),
    Step::Rotate(BY_ACCOUNT),
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::Rotate(BY_ACCOUNT),
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseAList),
    Step::Rotate(BY_ACCOUNT),
    Step::Tick,
    Step::OpenAi(Wrong::LoseAKey),
    Step::Rotate(BY_KEY),
    Step::OpenAi(Wrong::RefuseToEndAKey),
    Step::Rotate(BY_KEY),
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseAList),
    Step::Rotate(BY_ACCOUNT),
    Step::TimePasses,
    Step::Tick,
    Step::WriteSet(&["given-to-set", "made-1"]),
    Step::CheckOut,
    Step::CheckOut,
    Step::CheckOut,
    Step::CheckIn,
    Step::OpenAi(Wrong::LoseAKey),
    Step::CheckOut,
    Step::RevokeALoan,
    Step::RevokeALoan,
    Step::WriteSet(&["given-to-set", "made-2"]),
    Step::DeleteSet,
    Step::WriteSet(&["given-to-set", "made-1"]),
    Step::OpenAi(Wrong::RefuseAKey),
    Step::CheckOut,
    Step::CheckOut,
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseALaterList),
    Step::WriteSet(&["given-to-set", "made-1", "made-4"]),
    Step::RotateTheAdminKey,
    Step::OpenAi(Wrong::LoseAnAdminKey),
    Step::OpenAi(Wrong::RefuseAnAdminList),
    Step::RotateTheAdminKey,
    Step::LoseALoan,
    Step::EndsPass,
    Step::TimePasses,
    Step::Tick,
    Step::DeleteStatic(BY_KEY),
    Step::DeleteStatic(BY_ACCOUNT),
    Step::DeleteSet,
    Step::Read("plain"),
    Step::Read("plain"),
    Step::Revoke,
    Step::WriteStatic(BY_ACCOUNT),
    Step::WriteSet(&["made-3"]),
    Step::WriteFederation,
    Step::WriteFederated(""),
    Step::RotateTheSigningKey,
    Step::WriteFederated("api.model.read"),
    Step::RotateTheSigningKey,
    Step::TimePasses,
    Step::Tick,
    Step::DeleteFederated,
    Step::OpenAi(Wrong::LoseAnAccount),
    Step::OpenAi(Wrong::RefuseAList),
    Step::WriteFederated(""),
    Step::OpenAi(Wrong::LoseARule),
    Step::WriteFederated(""),
    Step::TimePasses,
    Step::Tick,
    Step::Tick,
    Step::DeleteFederated,
    Step::DeleteFederation,
    Step::OpenAi(Wrong::LoseAProvider),
    Step::WriteFederation,
    Step::OpenAi(Wrong::LoseARule),
    Step::WriteFederated(""),
    Step::DeleteFederated,
    Step::DeleteFederation,
    Step::WriteFederation,
    Step::WriteFederated("api.model.read"),
];

impl Step {
    /// Takes it; false if the engine ended under it.
    pub(super) async fn take(self, world: &mut World, trap: Option<&Arc<Trap>>) -> bool {
        let pool = "library-sets/pool";
        let outcome = match self {
            Self::Read(role) => world.read(&format!("creds/{role}"), trap).await,
            Self::ReadAtOnce(role) => {
                return world.read_at_once(&format!("creds/{role}"), CROWD, trap).await.is_some();
            }
            Self::Revoke | Self::LoseALease if world.leases.is_empty() => return true,
            Self::CheckIn | Self::RevokeALoan | Self::LoseALoan if world.loans.is_empty() => return true,
            Self::LoseALease => {
                world.leases.remove(0);
                return true;
            }
            Self::Revoke => {
                let lease = world.leases.remove(0);
                world.revoke(lease, trap).await
            }
            Self::LoseALoan => {
                world.loans.remove(0);
                return true;
            }
            Self::RevokeALoan => {
                let loan = world.loans.remove(0);
                world.revoke(loan, trap).await
            }
            Self::CheckOut => world.check_out(&format!("{pool}/check-out"), trap).await,
            Self::CheckIn => {
                let account = json!({"service_account_id": world.loans[0]["service_account_id"]});
                world.write(&format!("{pool}/check-in"), account, trap).await
            }
            Self::WriteSet(names) => {
                // A key that somebody uses, and whose check-out was cut off, lives until its own end.
                let set = json!({
                    "project_id": PROJECT, "service_account_names": names, "ttl": "10m", "max_ttl": "20m",
                });
                world.write(pool, set, trap).await
            }
            Self::DeleteSet => world.delete(pool, trap).await,
            Self::WriteStatic(method) => world.write_static(method, trap).await,
            Self::Rotate(method) => {
                world.write(&format!("static-creds/{method}/rotate"), json!({}), trap).await
            }
            Self::RotateWithGrace(method) => {
                let grace = json!({"grace_period": "1h"});
                world.write(&format!("static-creds/{method}/rotate"), grace, trap).await
            }
            Self::DeleteStatic(method) => world.delete(&format!("static-roles/{method}"), trap).await,
            Self::RotateTheAdminKey => world.write("config/rotate", json!({}), trap).await,
            Self::WriteFederation => {
                let issuer = json!({"token_endpoint": world.openai.simulator().token_url()});
                world.write("config/federation", issuer, trap).await
            }
            Self::RotateTheSigningKey => world.write("config/federation/rotate", json!({}), trap).await,
            Self::DeleteFederation => world.delete("config/federation", trap).await,
            Self::WriteFederated(scopes) => {
                let role =
                    json!({"project_id": PROJECT, "credential_type": "access_token", "scopes": scopes});
                world.write("roles/federated", role, trap).await
            }
            Self::DeleteFederated => world.delete("roles/federated", trap).await,
            Self::Tick => world.tick(trap).await,
            Self::EndsPass => {
                world.let_ends_pass();
                return true;
            }
            Self::TimePasses => {
                world.time_passes();
                return true;
            }
            Self::Restart => {
                world.restart().await;
                return true;
            }
            Self::UseKeys => {
                world.use_keys();
                return true;
            }
            Self::RefuseTheNextRecord => {
                world.storage.fail_put("ledger/");
                return true;
            }
            Self::KeepTheNextEntry => {
                world.storage.fail_delete("wal/");
                return true;
            }
            Self::OpenAi(wrong) => {
                world.openai.simulator().fault(wrong.fault());
                return true;
            }
        };
        outcome.is_some()
    }
}

impl Wrong {
    fn fault(self) -> Fault {
        let refuse = |endpoint| Fault::on(endpoint, Action::status(400));
        let lose = |endpoint| Fault::on(endpoint, Action::Drop).after_the_work();
        match self {
            Self::LoseAnAccount => lose(CREATE_ACCOUNT),
            Self::LoseAKey => lose(CREATE_KEY),
            Self::LoseAnAdminKey => lose(CREATE_ADMIN_KEY),
            Self::LoseAProvider => lose(CREATE_PROVIDER),
            Self::LoseARule => lose(CREATE_RULE),
            Self::RefuseAList => refuse(LIST_ACCOUNTS),
            Self::RefuseALaterList => refuse(LIST_ACCOUNTS).skipping(1),
            Self::RefuseAnAdminList => refuse(LIST_ADMIN_KEYS),
            Self::RefuseAnAccount => refuse(CREATE_ACCOUNT),
            Self::RefuseAKey => refuse(CREATE_KEY),
            Self::RefuseToNarrow => refuse(UPDATE_KEY),
            Self::RefuseToEndAKey => refuse(DELETE_KEY),
        }
        .times(1)
    }
}
