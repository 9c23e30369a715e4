//! The engine of `tests/second_engine`, which knows nothing of OpenAI, on real servers: the lower rooms serve any engine.

use serde_json::json;

use crate::support::host::on_each_server;
use crate::support::programs;

const NAME: &str = "second-engine";

#[tokio::test]
async fn another_engine_issues_leases_and_metrics_on_the_same_framework() {
    on_each_server(async |host| {
        host.register_engine(NAME, &programs::example(NAME)).await;
        host.api().write("sys/mounts/passes", json!({"type": NAME})).await.ok();

        let first = host.api().read("passes/pass/ada").await.ok();
        let second = host.api().read("passes/pass/bob").await.ok();
        assert_ne!(first.text("pass"), second.text("pass"));
        assert_eq!(first.body["lease_duration"], 600);
        let metrics = host.api().read("passes/metrics").await.ok().body;
        assert!(metrics.as_str().is_some_and(|text| text.contains("\npasses_issued 2\n")), "{metrics}");

        host.api().write("sys/leases/revoke", json!({"lease_id": first.lease_id()})).await.ok();
        let refused = host.api().write("sys/leases/lookup", json!({"lease_id": first.lease_id()})).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        host.api().write("sys/leases/lookup", json!({"lease_id": second.lease_id()})).await.ok();
        host.api().delete("sys/mounts/passes").await.ok();
    })
    .await;
}
