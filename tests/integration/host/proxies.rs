//! The plugin behind an HTTP proxy, which its environment names.

use std::net::SocketAddr;

use serde_json::json;

use crate::simulator::{Certificate, Settings, Tls};
use crate::support::connect_proxy::ConnectProxy;
use crate::support::host::on_each_server;
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, PROJECT};

/// No resolver knows this name.
const NAME: &str = "api.openai.invalid";

#[tokio::test]
async fn calls_go_through_the_proxy_that_the_environment_names() {
    on_each_server(async |host| {
        let settings = Settings {
            admin_key: ADMIN_KEY.to_owned(),
            organization: ORGANIZATION.to_owned(),
            projects: vec![PROJECT.to_owned()],
            tls: Some(Tls::by(Certificate::Made { names: vec![NAME.to_owned()] })),
            ..Settings::default()
        };
        let openai = settings.start().await.expect("loopback has free ports");
        let address: SocketAddr = openai.origin().trim_start_matches("https://").parse().unwrap();
        let proxy = ConnectProxy::to(address).await;

        host.register_with(&[format!("HTTPS_PROXY={}", proxy.url())]).await;
        host.enable("openai").await;
        host.keep_secret(ADMIN_KEY);
        let config = json!({
            "admin_api_key": ADMIN_KEY,
            "organization_id": ORGANIZATION,
            "api_endpoint": format!("https://{NAME}/v1"),
            "ca_cert": openai.ca_pem(),
        });
        host.api().write("openai/config", config).await.ok();
        host.api().write("openai/project/my-project", json!({"project_id": PROJECT})).await.ok();
        host.api().write("openai/roles/my-role", json!({"project": "my-project"})).await.ok();
        host.credential().await;
        let targets = proxy.targets();
        assert!(!targets.is_empty() && targets.iter().all(|it| *it == format!("{NAME}:443")), "{targets:?}");
    })
    .await;
}

#[tokio::test]
async fn a_proxy_where_nobody_listens_is_named_instead_of_openai() {
    on_each_server(async |host| {
        host.register_with(&["HTTPS_PROXY=http://127.0.0.1:1".to_owned()]).await;
        host.enable("openai").await;
        host.keep_secret(ADMIN_KEY);
        let config = json!({"admin_api_key": ADMIN_KEY, "organization_id": ORGANIZATION});
        let says = "the proxy in HTTPS_PROXY makes no tunnel to api.openai.com: Connection refused";
        host.api().write("openai/config", config).await.refused(400, says);
    })
    .await;
}
