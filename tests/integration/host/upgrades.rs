//! From one release of the plugin to another and back, as an operator does it: registered side by side, the mount tuned
//! to one of them, and reloaded.

use serde_json::json;

use crate::support::api::Answer;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::OpenAi;
use crate::support::programs::{self, NEXT_VERSION, PLUGIN};

const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
const STATIC_CREDS: &str = "openai/static-creds/reports";
const LIBRARY: &str = "openai/library-sets/pool";

/// What one release hands out, for the other to end.
struct Handed {
    credential: Answer,
    loan: Answer,
    static_key: String,
}

/// A mount under this release, with something of each kind, and the next release in the catalog.
async fn set_up(host: &Host, openai: &OpenAi) {
    host.register_release(VERSION, &programs::plugin()).await;
    host.register_release(NEXT_VERSION, &programs::next_release()).await;
    let mount = json!({"type": PLUGIN, "config": {"plugin_version": VERSION}});
    host.api().write("sys/mounts/openai", mount).await.ok();
    host.configure("openai", openai).await;
    host.static_role("reports", openai).await;
    let set = json!({"project": "my-project", "service_account_names": ["pool-1", "pool-2"]});
    host.api().write(LIBRARY, set).await.ok();
}

/// The release runs: the server says so, and so does the plugin itself.
async fn runs(host: &Host, version: &str) {
    assert_eq!(host.api().read("openai/info").await.ok().text("version"), version);
    let mount = host.api().read("sys/mounts/openai").await.ok();
    assert_eq!(mount.text("running_plugin_version"), version);
}

async fn hand_out(host: &Host) -> Handed {
    let credential = host.credential().await;
    let loan = host.api().write(&format!("{LIBRARY}/check-out"), json!({})).await.ok();
    host.keep_secret(&loan.text("api_key"));
    Handed { credential, loan, static_key: static_key(host).await }
}

async fn static_key(host: &Host) -> String {
    let key = host.api().read(STATIC_CREDS).await.ok().text("api_key");
    host.keep_secret(&key);
    key
}

/// What the other release handed out is good, is held by it still, and can be ended and rotated.
async fn goes_on(host: &Host, openai: &OpenAi, handed: &Handed) {
    let (key, lent) = (handed.credential.text("api_key"), handed.loan.text("api_key"));
    assert_eq!(static_key(host).await, handed.static_key);
    for key in [&key, &lent, &handed.static_key] {
        assert!(openai.accepts(key).await);
    }

    let renewal = json!({"lease_id": handed.loan.lease_id(), "increment": "2h"});
    host.api().write("sys/leases/renew", renewal).await.ok();
    let account = json!({"service_account_id": handed.loan.text("service_account_id")});
    host.api().write(&format!("{LIBRARY}/check-in"), account).await.ok();
    host.revoke(&handed.credential).await;
    host.api().write(&format!("{STATIC_CREDS}/rotate"), json!({})).await.ok();
    for key in [&key, &lent, &handed.static_key] {
        assert!(!openai.accepts(key).await);
    }
    assert!(openai.accepts(&static_key(host).await).await);
}

#[tokio::test]
async fn what_one_release_handed_out_the_next_ends_and_the_other_way_round() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai).await;
        runs(host, VERSION).await;
        let before = hand_out(host).await;

        host.change_release(NEXT_VERSION).await;
        runs(host, NEXT_VERSION).await;
        goes_on(host, &openai, &before).await;
        let after = hand_out(host).await;

        host.change_release(VERSION).await;
        runs(host, VERSION).await;
        goes_on(host, &openai, &after).await;
    })
    .await;
}
