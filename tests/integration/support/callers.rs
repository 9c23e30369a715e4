//! Callers of a [`Host`] other than root: tokens, users and programs that log in. The policy of the tokens and users grants the
//! minimum for borrowing accounts.

use serde_json::json;

use super::api::{Answer, Api};
use super::host::Host;

/// The policy for borrowers.
const POLICY: &str = r#"
    path "openai/library-sets/+/check-out" { capabilities = ["create", "update"] }
    path "openai/library-sets/+/check-in"  { capabilities = ["create", "update"] }
    path "openai/library-sets/+/status"    { capabilities = ["read"] }
"#;

impl Host {
    /// A token without an entity that may only borrow.
    pub(crate) async fn borrower(&self) -> Api {
        self.write_policy().await;
        let request = json!({"policies": ["borrower"], "no_parent": true});
        self.with_token_of(&self.api().write("auth/token/create", request).await.ok())
    }

    /// A user with a password who may only borrow. Every login gives a token of the same entity.
    pub(crate) async fn person(&self, name: &str) -> Person<'_> {
        self.write_policy().await;
        // The second user's call fails because the auth method exists.
        self.api().write("sys/auth/userpass", json!({"type": "userpass"})).await;
        let user = json!({"password": PASSWORD, "token_policies": ["borrower"]});
        self.api().write(&format!("auth/userpass/users/{name}"), user).await.ok();
        Person { host: self, name: name.to_owned() }
    }

    /// The role id and a secret id of a program with this policy.
    pub(crate) async fn app_role(&self, policy: &str) -> (String, String) {
        // The second program's call fails because the auth method exists.
        self.api().write("sys/auth/approle", json!({"type": "approle"})).await;
        let role = format!("auth/approle/role/{policy}");
        self.api().write(&role, json!({"token_policies": [policy]})).await.ok();
        let id = self.api().read(&format!("{role}/role-id")).await.ok();
        let secret = self.api().write(&format!("{role}/secret-id"), json!({})).await.ok();
        (id.text("role_id"), secret.text("secret_id"))
    }

    async fn write_policy(&self) {
        self.api().write("sys/policies/acl/borrower", json!({"policy": POLICY})).await.ok();
    }

    fn with_token_of(&self, answer: &Answer) -> Api {
        let token = answer.body["auth"]["client_token"].as_str();
        let token = token.unwrap_or_else(|| panic!("no token: {answer:?}"));
        self.keep_secret(token);
        self.api_with(token)
    }
}

const PASSWORD: &str = "a-password-of-a-test";

/// A user with an entity.
pub(crate) struct Person<'a> {
    host: &'a Host,
    name: String,
}

impl Person<'_> {
    pub(crate) async fn log_in(&self) -> Api {
        let path = format!("auth/userpass/login/{}", self.name);
        let answer = self.host.api().write(&path, json!({"password": PASSWORD})).await.ok();
        self.host.with_token_of(&answer)
    }
}
