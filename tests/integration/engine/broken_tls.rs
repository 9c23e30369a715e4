//! A TLS fault after a creation was sent proves nothing: the engine finds and removes the new account or key.

use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::{SET, SETTLED};
use crate::support::tls_proxy::{Protocol, TlsFault, TlsProxy};
use crate::support::{Answered, Mount};

/// Everything that is created at OpenAI.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Credential,
    CredentialOnAccount,
    StaticFirstKey,
    StaticRotation,
    StaticRotationByAccount,
    CheckOut,
    SetAccount,
    AdminKey,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Credential,
        Self::CredentialOnAccount,
        Self::StaticFirstKey,
        Self::StaticRotation,
        Self::StaticRotationByAccount,
        Self::CheckOut,
        Self::SetAccount,
        Self::AdminKey,
    ];

    fn creation(self) -> &'static str {
        match self {
            Self::Credential | Self::StaticRotationByAccount | Self::SetAccount => endpoint::CREATE_ACCOUNT,
            Self::CredentialOnAccount | Self::StaticFirstKey | Self::StaticRotation | Self::CheckOut => {
                endpoint::CREATE_KEY
            }
            Self::AdminKey => endpoint::CREATE_ADMIN_KEY,
        }
    }

    /// What has to be there before.
    async fn prepare(self, mount: &Mount) -> Value {
        let given = || mount.seed("worker", false).id;
        let (path, body) = match self {
            Self::Credential => ("roles/app", json!({"project": "research"})),
            Self::CredentialOnAccount => {
                ("roles/app", json!({"project": "research", "service_account_id": given()}))
            }
            Self::StaticRotation => {
                ("static-roles/app", json!({"project": "research", "service_account_id": given()}))
            }
            Self::StaticRotationByAccount => {
                let role = json!({
                    "project": "research", "service_account_id": given(), "rotation_method": "account",
                });
                ("static-roles/app", role)
            }
            Self::CheckOut => (SET, json!({"project": "research", "service_account_names": "a"})),
            Self::StaticFirstKey => return json!({"project": "research", "service_account_id": given()}),
            Self::SetAccount => return json!({"project": "research", "service_account_names": "a"}),
            Self::AdminKey => return json!({}),
        };
        mount.write(path, body).await.done();
        json!({})
    }

    async fn create(self, mount: &Mount, body: Value) -> Answered {
        match self {
            Self::Credential | Self::CredentialOnAccount => mount.read("creds/app").await,
            Self::StaticFirstKey => mount.write("static-roles/app", body).await,
            Self::StaticRotation | Self::StaticRotationByAccount => {
                mount.write("static-creds/app/rotate", body).await
            }
            Self::CheckOut => mount.write(&format!("{SET}/check-out"), body).await,
            Self::SetAccount => mount.write(SET, body).await,
            Self::AdminKey => mount.write("config/rotate", body).await,
        }
    }
}

/// A mount that reaches OpenAI through a proxy.
async fn behind(protocol: Protocol, fault: TlsFault) -> (Mount, TlsProxy) {
    let mount = Mount::start().await;
    let proxy = TlsProxy::in_front_of(&mount.sim, protocol, fault).await;
    let mut config = mount.config();
    config["api_endpoint"] = proxy.url().into();
    config["ca_cert"] = proxy.authority.clone().into();
    mount.write("config", config).await.done();
    (mount.with_project().await, proxy)
}

/// TLS fails after the work and before its answer. If the result is hidden, the engine cannot look it up at once either.
async fn breaks_after_the_work(kind: Kind, protocol: Protocol, fault: TlsFault, hidden: bool) {
    let story = format!("{kind:?} {protocol:?} {fault:?} {hidden}");
    let (mount, _proxy) = behind(protocol, fault).await;
    let body = kind.prepare(&mount).await;
    mount.sim.fault(Fault::on(kind.creation(), Action::Drop).times(1).after_the_work());
    if hidden {
        for list in [endpoint::LIST_ACCOUNTS, endpoint::LIST_KEYS, endpoint::LIST_ADMIN_KEYS] {
            // A set looks for its accounts first.
            let looks = u64::from(matches!(kind, Kind::SetAccount));
            mount.sim.fault(Fault::on(list, Action::Html).skipping(looks));
        }
    }
    let answered = kind.create(&mount, body).await;
    assert!(answered.answer.is_err(), "{story}: {answered:?}");
    assert_eq!(mount.sim.faults_left(), if hidden { 3 } else { 0 }, "{story}: TLS did not break");
    mount.sim.clear_faults();
    for _ in 0..2 {
        mount.advance(SETTLED);
        mount.tick_now().await.done();
    }
    assert_eq!(mount.orphans(), Vec::<String>::new(), "{story}");
    let admin_keys = mount.sim.state().admin_keys.into_iter().filter(|key| key.live);
    assert_eq!(admin_keys.count(), 1, "{story}");
    let keys: usize = mount.sim.state().accounts.iter().map(|account| account.keys.len()).sum();
    let kept = usize::from(matches!(kind, Kind::StaticRotation | Kind::StaticRotationByAccount));
    assert_eq!(keys, kept, "{story}");
    mount.finish().await;
}

#[tokio::test]
async fn tls_that_breaks_after_a_creation_was_sent_leaves_nothing_at_openai() {
    for kind in Kind::ALL {
        for fault in TlsFault::ALL {
            breaks_after_the_work(kind, Protocol::Http1, fault, false).await;
        }
        for fault in [TlsFault::Record, TlsFault::Alert] {
            breaks_after_the_work(kind, Protocol::Http2, fault, false).await;
        }
    }
}

#[tokio::test]
async fn tls_that_breaks_after_a_creation_that_cannot_be_looked_up_leaves_nothing_either() {
    for kind in Kind::ALL {
        breaks_after_the_work(kind, Protocol::Http1, TlsFault::Record, true).await;
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (mount, proxy) = behind(protocol, TlsFault::Record).await;
        mount.write("roles/app", json!({"project": "research"})).await.done();
        for round in 1..=5 {
            mount.read("creds/app").await.done();
            assert!(proxy.close_connections().await > 0, "{protocol:?}");
            mount.read("creds/app").await.done();
            assert_eq!(mount.sim.state().accounts.len(), round * 2, "{protocol:?}: nothing was made twice");
        }
    }
}
