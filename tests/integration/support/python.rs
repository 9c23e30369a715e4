//! Python scripts that judge with other people's packages: each has its `requirements.txt` beside it, which is installed
//! below `.cache/` once.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::say;

/// The script's command, with its packages. Without them `what` is not tested, which is said, and in CI is a failure.
pub(crate) fn script(path: &str, what: &str) -> Option<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    match packages(&script.with_file_name("requirements.txt")) {
        Ok(packages) => {
            let mut command = Command::new("python3");
            command.arg("-B").arg(script).env("PYTHONPATH", packages);
            Some(command)
        }
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "the packages of {path} are not there: {reason}");
            say(&format!("NOT TESTED: {what}, because {reason}"));
            None
        }
    }
}

/// The folder with the packages, installed if it is not there; else why not.
fn packages(requirements: &Path) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = std::fs::read_to_string(requirements).expect("a script has its requirements beside it");
    let folder = root.join(".cache/python").join(wanted.trim());
    if !folder.is_dir() {
        let parent = folder.parent().expect("it has one");
        std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        let partial = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
        install(requirements, partial.path())?;
        // Only a whole installation gets the name; another test run may have been first.
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
