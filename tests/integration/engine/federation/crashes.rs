//! Every operation cut off at each of its steps: the process killed before and after each write of storage, each write
//! failing or said to have failed, each call to OpenAI cut off before and after its work. Then the server goes on ticking,
//! and afterwards there is one provider, one rule a role and no stray account, and tokens can be had.

use openai_secrets::logical::{Operation, Request};

use super::*;
use crate::simulator::{Action, Fault, endpoint};
use crate::support::storage::{CrashPoint, Failure};

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    Register,
    MakeRole,
    ChangeRole,
    Rotate,
    EndRole,
    EndProvider,
}

impl Story {
    /// The scene, and the request that is going to be cut off.
    async fn scene(self) -> (Mount, Request) {
        let mount = match self {
            Self::Register => mount().await,
            Self::MakeRole | Self::EndProvider => managed().await,
            Self::ChangeRole | Self::Rotate | Self::EndRole => with_app().await,
        };
        let (operation, path, data) = match self {
            Self::Register => {
                let body = json!({"token_endpoint": mount.sim.token_url()});
                (Operation::Create, "config/federation", body)
            }
            Self::MakeRole => (Operation::Create, "roles/app", role()),
            Self::ChangeRole => (Operation::Update, "roles/app", json!({"scopes": "api.model.read"})),
            Self::Rotate => (Operation::Update, "config/federation/rotate", json!({})),
            Self::EndRole => (Operation::Delete, "roles/app", json!({})),
            Self::EndProvider => (Operation::Delete, "config/federation", json!({})),
        };
        let request = mount.request(operation, path, data);
        (mount, request)
    }

    /// Cuts it off everywhere.
    async fn told(self) {
        self.killed().await;
        self.storage_failing().await;
        self.openai_failing().await;
    }

    async fn killed(self) {
        for number in 0.. {
            for death in [CrashPoint::Before(number), CrashPoint::After(number)] {
                let (mount, request) = self.scene().await;
                if !mount.killed(request, death).await {
                    assert!(number > 0, "it writes nothing");
                    return;
                }
                self.recover(mount, &format!("{self:?} {death:?}")).await;
            }
        }
    }

    async fn storage_failing(self) {
        for number in 0.. {
            for failure in [Failure::Refused(number), Failure::Denied(number)] {
                let (mount, request) = self.scene().await;
                mount.watched.fail(failure);
                let _answer = mount.ask(request).await;
                if !mount.watched.take_failed() {
                    return;
                }
                self.recover(mount, &format!("{self:?} {failure:?}")).await;
            }
        }
    }

    async fn openai_failing(self) {
        for number in 0.. {
            for after in [false, true] {
                let (mount, request) = self.scene().await;
                let fault = Fault::everywhere(Action::Drop).skipping(number).times(1);
                let fault = mount.sim.fault(if after { fault.after_the_work() } else { fault });
                let _answer = mount.ask(request).await;
                if mount.sim.remove_fault(fault) {
                    return;
                }
                self.recover(mount, &format!("{self:?} call {number} cut off, done: {after}")).await;
            }
        }
    }

    /// The server goes on, and the operator repeats what did not succeed.
    async fn recover(self, mount: Mount, case: &str) {
        for _ in 0..5 {
            mount.tick_now().await.done();
            assert_eq!(mount.orphans(), Vec::<String>::new(), "{case}");
            mount.advance(HOUR);
        }
        self.assert_settled(&mount, case).await;
        if mount.read("config/federation").await.answer.unwrap().is_none() {
            assert_eq!(mount.sim.state().providers, [], "{case}");
            mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
        }
        mount.write("roles/app", role()).await.done();
        let token = mount.read("creds/app").await.text("access_token");
        assert!(self == Self::ChangeRole || opens(&mount, &token).await, "{case}");
        mount.write("config/federation/rotate", json!({})).await.done();
        mount.read("creds/app").await.done();
        assert_eq!(
            (provider(&mount).kids.len(), rules(&mount).len(), accounts(&mount).len()),
            (2, 1, 1),
            "{case}"
        );
        mount.delete("roles/app").await.nothing();
        mount.delete("config/federation").await.nothing();
        assert!(accounts(&mount).is_empty() && mount.sim.state().providers.is_empty(), "{case}");
        mount.advance(HOUR * 48);
        mount.tick_now().await.done();
        for prefix in ["due/", "account-owner/", "federat"] {
            assert_eq!(mount.stored(prefix), Vec::<String>::new(), "{case}");
        }
        mount.finish().await;
    }

    /// One provider with one key, one rule and one account for each role that stands, and nothing else.
    async fn assert_settled(self, mount: &Mount, case: &str) {
        let state = mount.sim.state();
        let roles = mount.list("roles").await.keys();
        assert_eq!(
            (state.rules.len(), state.accounts.len()),
            (roles.len(), roles.len()),
            "{case}: {state:?}"
        );
        assert!(state.providers.len() <= 1, "{case}: {:?}", state.providers);
        assert!(
            state.providers.iter().all(|provider| provider.kids.len() == 1),
            "{case}: {:?}",
            state.providers
        );
        if !roles.is_empty() {
            let read = mount.read("roles/app").await.json();
            assert_eq!(
                (&read["last_error"], read["scopes"] == json!([])),
                (&json!(""), rule(mount).scopes.is_none()),
                "{case}"
            );
        }
        let waiting = mount.list("revocations").await.keys();
        assert_eq!(waiting, Vec::<String>::new(), "{case}");
    }
}

#[tokio::test]
async fn a_registration_is_completed_from_every_step() {
    Story::Register.told().await;
}

#[tokio::test]
async fn a_new_role_is_completed_or_undone_from_every_step() {
    Story::MakeRole.told().await;
}

#[tokio::test]
async fn a_change_of_a_role_is_completed_from_every_step() {
    Story::ChangeRole.told().await;
}

#[tokio::test]
async fn a_rotation_is_completed_from_every_step() {
    Story::Rotate.told().await;
}

#[tokio::test]
async fn the_end_of_a_role_is_completed_from_every_step() {
    Story::EndRole.told().await;
}

#[tokio::test]
async fn the_end_of_the_provider_is_completed_from_every_step() {
    Story::EndProvider.told().await;
}

#[tokio::test]
async fn a_refused_role_is_removed_though_the_process_dies_while_its_account_is_ended() {
    for number in 0.. {
        let mount = managed().await.without_lag();
        mount.sim.fault(Fault::on(endpoint::CREATE_RULE, Action::status(400)));
        let request = mount.request(Operation::Create, "roles/app", role());
        let died = mount.killed(request, CrashPoint::After(number)).await;
        assert!(died, "no write is behind the end of the account");
        if mount.sim.calls(endpoint::DELETE_ACCOUNT) == 0 {
            mount.abandon();
            continue;
        }
        mount.sim.clear_faults();
        // The new process looks for a rule that OpenAI may have made, once the rule's name has settled.
        for _ in 0..2 {
            mount.advance(HOUR);
            mount.tick().await.done();
        }
        return assert_gone(mount).await;
    }
}
