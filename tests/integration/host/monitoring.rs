//! What operators see, through a real server: a real Prometheus scrapes it, and the files of `docs/monitoring/` fit it.

use serde_json::{Value, json};

use crate::support::api::exchange;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::OpenAi;
use crate::support::prometheus::{self, shipped};
use crate::support::server::free_port;
use crate::support::wait::eventually;

/// The names that the README of old promises, though Prometheus would have counters end in `_total`.
const PROMISED: [&str; 4] =
    ["openai_creds_issued", "openai_creds_revoked", "openai_api_error", "openai_quota_used"];

/// A token that may read `openai/metrics` and nothing else.
async fn scraper(host: &Host) -> String {
    let policy = json!({"policy": shipped("metrics-policy.hcl")});
    host.api().write("sys/policies/acl/openai-metrics", policy).await.ok();
    let request = json!({"policies": ["openai-metrics"], "no_default_policy": true});
    let token = host.api().write("auth/token/create", request).await.ok();
    token.body["auth"]["client_token"].as_str().expect("a token").to_owned()
}

/// A mount where something of each kind happened.
async fn busy(host: &Host, openai: &OpenAi) {
    host.quick_start(openai).await;
    let credential = host.credential().await;
    host.revoke(&credential).await;
    openai.refuse_next("POST /organization/projects/{project_id}/service_accounts", 400, "not now");
    host.api().read("openai/creds/my-role").await.refused(400, "not now");
    host.credential().await;
}

#[tokio::test]
async fn a_token_for_metrics_reads_metrics_and_nothing_else() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        busy(host, &openai).await;
        let scraper = host.api().with_token(scraper(host).await);
        let text = scraper.read("openai/metrics").await.ok().body;
        assert!(
            text.as_str().expect("text, not JSON").contains("openai_creds_issued{role=\"my-role\"} 2"),
            "{text}"
        );
        for path in ["openai/health", "openai/config", "openai/creds/my-role"] {
            scraper.read(path).await.refused(403, "permission denied");
        }
        let health = host.api().read("openai/health").await.ok();
        assert_eq!(health.text("status"), "ok");
        assert_eq!(health.text("last_error"), "OpenAI refused what was asked for (400)");
        assert_eq!(host.api().read("openai/info").await.ok().text("mount_tag").len(), 6);
    })
    .await;
}

#[tokio::test]
async fn promtool_has_nothing_to_say_but_of_the_promised_names() {
    let Some(tools) = prometheus::tools() else { return };
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        busy(host, &openai).await;
        let text = host.api().read("openai/metrics").await.ok().body;
        let output = tools.promtool(&["check", "metrics"], text.as_str().expect("text, not JSON"));
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        for line in says.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            let known =
                PROMISED.contains(&name) && line.ends_with(r#"counter metrics should have "_total" suffix"#);
            assert!(known, "promtool says: {line}");
        }
        // 3: it parsed all and made remarks.
        assert_eq!(output.status.code(), Some(3), "{says}");
    })
    .await;
}

#[tokio::test]
async fn a_real_prometheus_scrapes_it_through_the_server_and_the_dashboard_fits() {
    let Some(tools) = prometheus::tools() else { return };
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        busy(host, &openai).await;
        let prometheus = tools.scrape(host.address(), &scraper(host).await).await;
        let samples = eventually("Prometheus has scraped the mount", async || {
            let samples = prometheus.query(r#"openai_creds_issued{role="my-role"}"#).await.ok()?;
            (!samples.is_empty()).then_some(samples)
        })
        .await;
        assert_eq!(samples[0]["value"][1], "2");
        assert_eq!(samples[0]["metric"]["mount"], "openai/");
        assert_eq!(prometheus.query("up").await.unwrap()[0]["value"][1], "1");

        for (title, expression) in dashboard() {
            let samples =
                prometheus.query(&expression).await.unwrap_or_else(|error| panic!("{title}: {error}"));
            let needs_more =
                ["Rotation", "Library", "Check-outs", "Costs", "Latency", "Waits", "Calls", "Issued"];
            let is_level =
                !needs_more.iter().any(|start| title.starts_with(start)) && !expression.contains("rate(");
            assert!(!is_level || !samples.is_empty(), "{title} shows nothing: {expression}");
        }
    })
    .await;
}

/// Each panel's title and expressions, as Grafana would ask them.
fn dashboard() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&shipped("dashboard.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    let mut asked = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a panel has a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("a target has an expression");
            let expression = expression.replace("$mount", ".*").replace("$__rate_interval", "1m");
            assert!(!expression.contains('$'), "{title}: {expression}");
            asked.push((title.to_owned(), expression));
        }
    }
    assert!(asked.len() > 15, "{asked:?}");
    asked
}

#[test]
fn the_alert_rules_are_valid_fire_when_they_should_and_have_their_pages() {
    let pages =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/alerts.md")).unwrap();
    let rules = shipped("alerts.yml");
    let names: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 8);
    for name in &names {
        assert!(
            pages.contains(&format!("\n## {name}\n")),
            "docs/operations/alerts.md has no page for {name}"
        );
        assert!(
            rules.contains(&format!("docs/operations/alerts.md#{}", name.to_lowercase())),
            "{name} names no page"
        );
    }
    assert_eq!(pages.matches("\n## ").count(), names.len(), "a page without its alert");

    let Some(tools) = prometheus::tools() else { return };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = tools.promtool(&arguments, "");
        let says = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&says));
    }
}

#[tokio::test]
async fn the_listener_is_there_when_registered_with_an_address_and_serves_every_mount() {
    on_each_server(async |host| {
        let address = free_port();
        let openai = OpenAi::start().await;
        host.register_with(&[format!("OPENAI_METRICS_LISTEN={address}")]).await;
        host.set_up("openai", &openai).await;
        host.set_up("elsewhere", &openai).await;
        host.credential().await;
        let scrape = async || exchange(address, "GET", "/metrics", &[], None).await.ok();
        let text = eventually("both mounts are in the listener's answer", async || {
            let text = scrape().await?.body.as_str()?.to_owned();
            (text.matches("openai_build_info{mount=").count() == 2).then_some(text)
        })
        .await;
        assert!(text.contains(r#",role="my-role"} 1"#) || text.contains(r#"role="my-role"} 1"#), "{text}");

        // A reload replaces the process: the new one has the address once the old one is gone.
        host.reload_plugin().await;
        host.api().read("openai/info").await.ok();
        eventually("the reloaded plugin listens", async || scrape().await).await;
    })
    .await;
}

#[tokio::test]
async fn an_address_that_is_no_address_is_a_line_in_the_log() {
    on_each_server(async |host| {
        host.register_with(&["OPENAI_METRICS_LISTEN=everywhere".to_owned()]).await;
        host.enable("openai").await;
        host.api().read("openai/info").await.ok();
        eventually("the log says so", async || host.log().contains("metrics are not served").then_some(()))
            .await;
    })
    .await;
}
