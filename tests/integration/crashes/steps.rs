//! What happens to a mount, one step at a time, so that every point is come by. A noun that gets points adds the
//! steps that lead to them here, and nothing elsewhere.

use std::sync::Arc;

use openai_secrets::engine::failpoint::Trap;

use super::world::World;
use crate::simulator::endpoint::{CREATE_ACCOUNT, LIST_ACCOUNTS, UPDATE_KEY};
use crate::simulator::{Action, Fault};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A credential of this role is read.
    Read(&'static str),
    /// OpenAI makes the account of the next read, and the answer is lost.
    LoseTheNextAnswer,
    /// OpenAI refuses to list accounts once: what it made is not found at once.
    RefuseTheNextList,
    /// OpenAI refuses to make the next account.
    RefuseTheNextAccount,
    /// OpenAI refuses to narrow the next key.
    RefuseToNarrow,
    /// Storage refuses the next record of a credential.
    RefuseTheNextRecord,
    /// Vault ends its oldest lease.
    Revoke,
    /// Vault loses its oldest lease: it died before it recorded it, or was restored from a backup.
    LoseALease,
    /// The end of what has no lease passes.
    EndsPass,
    /// A minute passed.
    Tick,
}

/// Every step in an order in which each leads somewhere.
pub(super) const STORY: &[Step] = &[
    Step::Read("plain"),
    Step::Read("narrow"),
    Step::Read("adopted"),
    Step::LoseTheNextAnswer,
    Step::Read("plain"),
    Step::LoseTheNextAnswer,
    Step::RefuseTheNextList,
    Step::Read("plain"),
    Step::RefuseTheNextAccount,
    Step::Read("plain"),
    Step::RefuseToNarrow,
    Step::Read("narrow"),
    Step::RefuseTheNextRecord,
    Step::Read("plain"),
    Step::Tick,
    Step::Revoke,
    Step::LoseALease,
    Step::EndsPass,
    Step::Tick,
    Step::Read("plain"),
    Step::Read("plain"),
    Step::Revoke,
];

impl Step {
    /// Takes it; false if the engine ended under it.
    pub(super) async fn take(self, world: &mut World, trap: Option<&Arc<Trap>>) -> bool {
        let outcome = match self {
            Self::Read(role) => world.read(&format!("creds/{role}"), trap).await,
            Self::Revoke | Self::LoseALease if world.leases.is_empty() => return true,
            Self::LoseALease => {
                world.leases.remove(0);
                return true;
            }
            Self::Revoke => {
                let lease = world.leases.remove(0);
                world.revoke(lease, trap).await
            }
            Self::Tick => world.tick(trap).await,
            Self::EndsPass => {
                world.let_ends_pass();
                return true;
            }
            Self::RefuseTheNextRecord => {
                world.storage.fail_put("ledger/");
                return true;
            }
            Self::LoseTheNextAnswer
            | Self::RefuseTheNextList
            | Self::RefuseTheNextAccount
            | Self::RefuseToNarrow => {
                world.openai.simulator().fault(self.fault());
                return true;
            }
        };
        outcome.is_some()
    }

    fn fault(self) -> Fault {
        match self {
            Self::LoseTheNextAnswer => Fault::on(CREATE_ACCOUNT, Action::Drop).after_the_work(),
            Self::RefuseTheNextList => Fault::on(LIST_ACCOUNTS, Action::status(400)),
            Self::RefuseToNarrow => Fault::on(UPDATE_KEY, Action::status(400)),
            _ => Fault::on(CREATE_ACCOUNT, Action::status(400)),
        }
        .times(1)
    }
}
