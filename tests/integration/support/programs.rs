//! The programs a test runs: the two servers and the plugin, and how each is found.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::{env, fs};

use aws_lc_rs::digest::{SHA256, digest};

/// The plugin's file name, which is also its name in the catalog and its mounts' type.
pub(crate) const PLUGIN: &str = "vault-plugin-secrets-openai";

/// Whose server a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    OpenBao,
    Vault,
}

/// A server's binary.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) product: Product,
    pub(crate) path: PathBuf,
}

/// Every server that host tests run on: OpenBao always, Vault where there is one.
pub(crate) fn servers() -> Vec<Program> {
    let openbao = openbao_server();
    let vault = vault().map(|path| Program { product: Product::Vault, path });
    std::iter::once(openbao).chain(vault).collect()
}

pub(crate) fn openbao_server() -> Program {
    Program { product: Product::OpenBao, path: openbao() }
}

/// OpenBao is found, or fetched, by the script that also serves `make demo`.
fn openbao() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(find_openbao).clone()
}

fn find_openbao() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/openbao.sh");
    let output = Command::new(&script).output().expect("scripts/openbao.sh can be run");
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "host tests need OpenBao: set BAO_BIN to its binary. {}", says.trim());
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn vault() -> Option<PathBuf> {
    static SAID: Once = Once::new();
    let found = named("VAULT_BIN").or_else(|| on_the_path("vault"));
    if found.is_none() {
        say_once(
            &SAID,
            "NOT RUN ON VAULT: there is no vault on the PATH and VAULT_BIN is not set; host tests run on OpenBao alone.",
        );
    }
    found
}

/// Vault, and the Go plugin that this one takes over from, which runs on Vault alone; that there are not both is said.
pub(crate) fn vault_and_go_plugin() -> Option<(Program, PathBuf)> {
    static SAID: Once = Once::new();
    let vault = vault().map(|path| Program { product: Product::Vault, path });
    let found = vault.zip(named("GO_PLUGIN"));
    if found.is_none() {
        say_once(
            &SAID,
            "NOT RUN WITH THE GO PLUGIN: GO_PLUGIN names no binary of it, or there is no Vault; that its mounts are \
             taken over is tested with a copy of its storage alone.",
        );
    }
    found
}

/// The program that an environment variable names.
fn named(variable: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)?;
    assert!(path.is_file(), "{variable} names no file: {}", path.display());
    Some(path)
}

pub(crate) fn on_the_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Written past the test harness, which would swallow what a passing test prints.
pub(crate) fn say_once(said: &Once, sentence: &str) {
    said.call_once(|| say(sentence));
}

/// As [`say_once`], each time.
pub(crate) fn say(sentence: &str) {
    writeln!(std::io::stdout(), "\n*** {sentence}\n").expect("stdout is open");
}

/// The version that [`next_release`] has.
pub(crate) const NEXT_VERSION: &str = "v99.0.0";

/// The plugin as a later release of it.
pub(crate) fn next_release() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example("next-release")).clone()
}

/// The plugin as cargo built it for this test.
pub(crate) fn plugin() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_vault-plugin-secrets-openai"))
}

/// An example of this build, built where `cargo test --test integration` did not.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own program");
    let profile = test.parent().and_then(Path::parent).expect("it lies in a folder of the profile's");
    let profile_name = profile.file_name().and_then(OsStr::to_str).expect("a profile's folder has its name");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--example", name, "--profile", &profile_name.replace("debug", "dev")])
        .arg("--target-dir")
        .arg(profile.ancestors().nth(2).expect("the profile's folder lies in target/<host>"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|built| built.success()), "the example {name} cannot be built");
    profile.join("examples").join(name)
}

/// The digest by which a server recognises a plugin's file.
pub(crate) fn sha256(file: &Path) -> String {
    use std::fmt::Write;
    let bytes = fs::read(file).expect("a plugin's file can be read");
    digest(&SHA256, &bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all");
        hex
    })
}
