//! Work of the federation that stops half-way, and the way on from there.

use openai_secrets::logical::{Entry, Storage as _};

use super::*;
use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::SETTLED;
use crate::support::storage::WriteOutcome;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

async fn ticks(mount: &Mount) {
    for _ in 0..3 {
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
}

#[tokio::test]
async fn a_stop_reaches_openai_although_its_scopes_are_refused() {
    let mount = with_app().await;
    let stop = json!({"enabled": false, "scopes": "admin.everything"});
    let said = mount.write("roles/app", stop).await;
    assert!(said.error().message().contains("scopes"), "{}", said.error());
    assert!(!rule(&mount).enabled);
    mount.read("creds/app").await.refused("is disabled");
    mount.write("roles/app", json!({"scopes": "api.model.read"})).await.nothing();
    assert_eq!(
        (rule(&mount).enabled, rule(&mount).scopes.unwrap()),
        (false, vec!["api.model.read".to_owned()])
    );
    assert_eq!(mount.read("roles/app").await.text("last_error"), "");
    mount.finish().await;
}
