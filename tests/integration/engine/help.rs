//! Path help reads well: what a path is for, its fields, and an example to type.

use serde_json::json;

use crate::support::Mount;

/// One request for each path of the mount.
const PATHS: [&str; 49] = [
    "config",
    "config/check",
    "config/rotate",
    "config/rotate-root",
    "config/rotate-admin-key",
    "admin-key-rotation",
    "config/federation",
    "config/federation/rotate",
    "identity-token/r",
    "project/p",
    "project/",
    "roles/r",
    "roles/",
    "creds/r",
    "revocations/",
    "revocations/n",
    "revocations/n/retry",
    "revocations/retry",
    "static-roles/r",
    "static-role/r",
    "static-roles/",
    "static-role/",
    "static-creds/r",
    "static-cred/r",
    "static-creds/r/rotate",
    "rotate-role/r",
    "library-sets/s",
    "library/s",
    "library-sets/",
    "library/",
    "library-sets/s/status",
    "library/s/status",
    "library-sets/s/check-outs/",
    "library/s/check-outs/",
    "library/s/check-out",
    "library/s/check-in",
    "library/s/admin-check-in",
    "library/manage/s/check-in",
    "library-sets/s/check-out",
    "library-sets/s/checkout",
    "library-sets/s/check-in",
    "library-sets/s/checkin",
    "library-sets/s/admin-check-in",
    "library-sets/s/admin-checkin",
    "tidy",
    "tidy/status",
    "metrics",
    "info",
    "health",
];

#[tokio::test]
async fn every_path_says_what_it_is_for_and_shows_an_example() {
    let mount = Mount::start().await;
    for path in PATHS {
        let help = mount.help(path).await.text("help");
        println!("=== {path}\n{help}\n");
        let purpose = help.lines().nth(3).unwrap_or_default();
        assert!(purpose.ends_with('.') && purpose.split(' ').count() > 3, "{path}: {purpose:?}");
        assert!(
            help.contains("    $ vault ") || help.contains("    $ curl "),
            "{path} shows no example:\n{help}"
        );
        assert!(!help.contains("<no "), "{path}:\n{help}");
        let fields = help.contains("## PARAMETERS");
        let order = [help.find(purpose), help.find("## PARAMETERS"), help.find("## DESCRIPTION")];
        assert!(
            order[0] < order[2] && (!fields || order[0] < order[1] && order[1] < order[2]),
            "{path}:\n{help}"
        );
    }
}

#[tokio::test]
async fn the_mounts_own_help_lists_every_path() {
    let mount = Mount::start().await;
    let answer = mount.help("").await.json();
    let listed = answer["openapi"]["paths"].as_object().expect("an OpenAPI document").len();
    assert_eq!(listed, PATHS.len(), "PATHS above is complete: {}", json!(answer["openapi"]["paths"]));
}
