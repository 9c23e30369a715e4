//! Programs under test, the two servers and the plugin, and how to find them.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::{env, fs};

use ring::digest::{SHA256, digest};

/// File name of the plugin, its name in the catalog and the type of its mounts.
pub(crate) const PLUGIN: &str = "vault-plugin-secrets-openai";

/// Product of a server.
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

/// The servers for host tests: OpenBao always, Vault if available.
pub(crate) fn servers() -> Vec<Program> {
    let openbao = openbao_server();
    let vault = vault().map(|path| Program { product: Product::Vault, path });
    std::iter::once(openbao).chain(vault).collect()
}

pub(crate) fn openbao_server() -> Program {
    Program { product: Product::OpenBao, path: openbao() }
}

/// `scripts/openbao.sh`, also used by `make demo`, finds or downloads OpenBao.
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
            "NOT RUN ON VAULT: no vault on the PATH, and VAULT_BIN is not set; host tests run on OpenBao only.",
        );
    }
    found
}

/// Vault and the Go plugin, which runs on Vault only. Prints a notice if either is missing.
pub(crate) fn vault_and_go_plugin() -> Option<(Program, PathBuf)> {
    static SAID: Once = Once::new();
    let vault = vault().map(|path| Program { product: Product::Vault, path });
    let found = vault.zip(named("GO_PLUGIN"));
    if found.is_none() {
        say_once(
            &SAID,
            "NOT RUN WITH THE GO PLUGIN: GO_PLUGIN names no binary, or there is no Vault; only a copy of its storage \
             tests the takeover of its mounts.",
        );
    }
    found
}

/// The program in an environment variable.
fn named(variable: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)?;
    assert!(path.is_file(), "{variable} names no file: {}", path.display());
    Some(path)
}

pub(crate) fn on_the_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Prints past the test harness, which hides the output of passing tests.
pub(crate) fn say_once(said: &Once, sentence: &str) {
    said.call_once(|| say(sentence));
}

/// Like [`say_once`], every time.
pub(crate) fn say(sentence: &str) {
    writeln!(std::io::stdout(), "\n*** {sentence}\n").expect("stdout is open");
}

/// Version of [`next_release`].
pub(crate) const NEXT_VERSION: &str = "v99.0.0";

/// A later release of the plugin.
pub(crate) fn next_release() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example("next-release")).clone()
}

/// The plugin that cargo built for this test.
pub(crate) fn plugin() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_vault-plugin-secrets-openai"))
}

/// Builds an example if necessary; answers its path.
pub(crate) fn example(name: &str) -> PathBuf {
    built(name, &["--example", name]).join("examples").join(name)
}

/// Builds the simulator if necessary; answers its path. With an example, cargo selects the features of tests, so no crate
/// is compiled a second time.
pub(crate) fn simulator() -> PathBuf {
    let name = "openai-simulator";
    built(name, &["--workspace", "--bin", name, "--example", "next-release"]).join(name)
}

/// Runs `cargo build` with these arguments in the profile of the tests; answers the folder of the results.
fn built(name: &str, arguments: &[&str]) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own program");
    let profile = test.parent().and_then(Path::parent).expect("the test binary is in a profile folder");
    let profile_name = profile.file_name().and_then(OsStr::to_str).expect("the profile folder has a name");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--profile", &profile_name.replace("debug", "dev")])
        .args(arguments)
        .arg("--target-dir")
        .arg(profile.ancestors().nth(2).expect("the profile folder is in target/<host>"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|built| built.success()), "{name} cannot be built");
    profile.to_owned()
}

/// SHA-256 of a plugin's file, as the catalog needs it.
pub(crate) fn sha256(file: &Path) -> String {
    sha256_of(&fs::read(file).expect("a plugin's file can be read"))
}

/// SHA-256 of bytes in hexadecimal digits.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    use std::fmt::Write;
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String succeeds");
        hex
    })
}
