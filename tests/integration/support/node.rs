//! Scripts for Node. The packages of a script's `package.json` are installed below `.cache/` once.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::programs::{on_the_path, say};

/// The command of a script with its packages. If Node or the packages are missing, the function prints that `what` is not
/// tested; in CI it fails.
pub(crate) fn script(path: &str, what: &str) -> Option<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    match packages(&script.with_file_name("package.json")) {
        Ok(packages) => {
            let mut command = Command::new("node");
            command.arg(script).env("NODE_PATH", packages.join("node_modules"));
            Some(command)
        }
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "the packages of {path} are missing: {reason}");
            say(&format!("NOT TESTED: {what}, because {reason}"));
            None
        }
    }
}

/// Folder with the packages, installed if missing; else the reason.
fn packages(manifest: &Path) -> Result<PathBuf, String> {
    for program in ["node", "npm"] {
        on_the_path(program).ok_or_else(|| format!("{program} is not on the PATH"))?;
    }
    let wanted = std::fs::read(manifest).expect("the script has a package.json");
    // A change of the file installs anew.
    let digest = URL_SAFE_NO_PAD.encode(digest(&SHA256, &wanted));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/node").join(digest);
    if !folder.is_dir() {
        let parent = folder.parent().expect("the folder has a parent");
        std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        let partial = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
        std::fs::copy(manifest, partial.path().join("package.json")).map_err(|error| error.to_string())?;
        install(partial.path())?;
        // Only a complete installation gets this name. Another test run may have created it first.
        let renamed = std::fs::rename(partial.path(), &folder);
        renamed.or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error.to_string()) })?;
    }
    Ok(folder)
}

fn install(folder: &Path) -> Result<(), String> {
    let output = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder)
        .output()
        .map_err(|error| format!("npm does not start: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
