//! Python scripts with third-party packages. The packages of a script's `requirements.txt` are installed below
//! `.cache/` once.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::say;

/// The command of a script with its packages. If the packages are missing, the function prints that `what` is not
/// tested; in CI it fails.
pub(crate) fn script(path: &str, what: &str) -> Option<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    match packages(&script.with_file_name("requirements.txt")) {
        Ok(packages) => {
            let mut command = Command::new("python3");
            command.arg("-B").arg(script).env("PYTHONPATH", packages);
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
fn packages(requirements: &Path) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = std::fs::read_to_string(requirements).expect("the script has a requirements.txt");
    let folder = root.join(".cache/python").join(wanted.trim());
    if !folder.is_dir() {
        let parent = folder.parent().expect("the folder has a parent");
        std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        let partial = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
        install(requirements, partial.path())?;
        // Only a complete installation gets this name. Another test run may have created it first.
        let renamed = std::fs::rename(partial.path(), &folder);
        renamed.or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error.to_string()) })?;
    }
    Ok(folder)
}

fn install(requirements: &Path, folder: &Path) -> Result<(), String> {
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-conflicts"])
        .args(["--root-user-action", "ignore", "--target"])
        .arg(folder)
        .arg("-r")
        .arg(requirements)
        .output()
        .map_err(|error| format!("python3 does not start: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
