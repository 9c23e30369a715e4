//! Other callers of a [`Host`] than root: tokens of their own, and people who log in. What each may do at the mount is
//! the least that a borrower needs.

use serde_json::json;

use super::api::{Answer, Api};
use super::host::Host;

/// As an operator would write it for those who borrow accounts.
const POLICY: &str = r#"
    path "openai/library-sets/+/check-out" { capabilities = ["create", "update"] }
    path "openai/library-sets/+/check-in"  { capabilities = ["create", "update"] }
    path "openai/library-sets/+/status"    { capabilities = ["read"] }
"#;

impl Host {
    /// A token that belongs to no entity, and may only borrow.
    pub(crate) async fn borrower(&self) -> Api {
        self.write_policy().await;
        let request = json!({"policies": ["borrower"], "no_parent": true});
        self.with_token_of(&self.api().write("auth/token/create", request).await.ok())
    }

    /// A person with a password, who may only borrow. Each log-in is a token of the same entity.
    pub(crate) async fn person(&self, name: &str) -> Person<'_> {
        self.write_policy().await;
        // Fails for the second person, as it is there then.
        self.api().write("sys/auth/userpass", json!({"type": "userpass"})).await;
        let user = json!({"password": PASSWORD, "token_policies": ["borrower"]});
        self.api().write(&format!("auth/userpass/users/{name}"), user).await.ok();
        Person { host: self, name: name.to_owned() }
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

/// Somebody with an identity.
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
