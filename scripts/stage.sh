# shellcheck shell=bash
# A stage for demo.sh, dev-setup.sh, load.sh and the container test: a dev server with the plugin, and an OpenAI to go with it. To be
# sourced by bash, or by zsh that emulates sh.
#
# It leaves behind: $cli (how the server's command line is called), VAULT_ADDR, VAULT_TOKEN, OPENAI_ADMIN_API_KEY, OPENAI_ORG_ID,
# OPENAI_PROJECT_ID, OPENAI_BASE_URL, $openai_is_real, and processes in server_pid and simulator_pid, which `strike` ends.

# A make within make would announce itself.
unset MAKEFLAGS MAKELEVEL

# Where the dev server finds plugins; empty for nowhere.
plugins=./bin
stage_folder=
server_pid=
simulator_pid=
# A process of the script's own to be ended with the rest.
helper_pid=
cli=
# Read by the scripts that source this one.
# shellcheck disable=SC2034
openai_is_real=

bold='' blue='' plain=''
if [ -t 1 ]; then
  bold=$'\e[1m' blue=$'\e[34m' plain=$'\e[0m'
fi

chapter() {
  printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

say() {
  printf '%s\n' "$*"
}

# Shows a command as typed and runs it. The command is a text of the script: values from OpenAI or the server reach it as variables only.
run() {
  show "$1"
  eval "$1"
}

# Sets and exports a variable, and shows the assignment. usage: set_variable NAME VALUE
set_variable() {
  export "$1=$2"
  printf '%s$ export %s=%q%s\n' "$blue" "$1" "$2" "$plain"
}

# As it would be typed.
show() {
  printf '\n%s$ %s%s\n' "$blue" "$1" "$plain"
}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Where cargo puts what it builds. usage: built PROFILE NAME
built() {
  printf '%s/%s/%s/%s\n' "${CARGO_TARGET_DIR:-target}" "$(rustc -vV | sed -n 's/^host: //p')" "$1" "$2"
}

# Names everything that is missing for a build and a server. usage: check_programs PROGRAM...
check_programs() {
  local program missing=
  for program in "$@"; do
    case $program in
      cargo) command -v cargo >/dev/null || missing="$missing"$'\n  cargo: https://rustup.rs' ;;
      cc) command -v cc >/dev/null || missing="$missing"$'\n  cc, a C compiler: apt-get install gcc libc6-dev, or on a Mac xcode-select --install' ;;
      *) command -v "$program" >/dev/null || missing="$missing"$'\n  '"$program" ;;
    esac
  done
  [ -z "$missing" ] || fail "this machine lacks:$missing"
}

# Builds the plugin unless $PLUGIN_BINARY names one, and the simulator unless the real OpenAI is used, in cargo's dev profile: the
# fastest to compile. Both are built by one command, so that each crate is compiled once.
build_for_trial() {
  local packages=()
  [ -n "${PLUGIN_BINARY:-}" ] || packages+=(--bin vault-plugin-secrets-openai)
  openai_is_given || packages+=(--bin openai-simulator)
  [ ${#packages[@]} -eq 0 ] || cargo build --workspace --locked "${packages[@]}"
}

# Copies the plugin to a plugin directory of the stage.
place_plugin() {
  plugins=$stage_folder/plugins
  mkdir -p "$plugins"
  install -m 755 "${PLUGIN_BINARY:-$(built debug vault-plugin-secrets-openai)}" "$plugins/vault-plugin-secrets-openai"
}

# $VAULT_BIN, else vault or bao on the PATH, else OpenBao, fetched.
find_server() {
  local found
  found=${VAULT_BIN:-$(command -v vault || command -v bao || scripts/openbao.sh)} || fail 'there is no server to run'
  [ -x "$found" ] || fail "not a program: $found"
  cli=$(basename "$found")
  # What is shown can be typed, and make finds the same program.
  PATH="$(cd "$(dirname "$found")" && pwd):$PATH"
  export PATH VAULT_BIN="$found"
}

# The given port or another; the one above it is free too, which a dev server takes for its cluster address.
free_port() {
  python3 - "$1" <<'PYTHON'
import random, socket, sys

def free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

candidates = [int(sys.argv[1])] + [random.randrange(20000, 32000) for _ in range(1000)]
print(next(port for port in candidates if free(port) and free(port + 1)))
PYTHON
}

# Asks again until it is so, for half a minute. usage: wait_until 'what for' PID LOG COMMAND...
wait_until() {
  local what=$1 pid=$2 log=$3 deadline=$((SECONDS + 30))
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      tail -n 20 "$log" >&2
      fail "$what: it never happened; above is the end of $log"
    fi
    sleep 0.1
  done
}

prepare_stage() {
  # Without symbolic links, which a server refuses in its plugin directory; a Mac has some.
  stage_folder=$(cd "$(mktemp -d)" && pwd -P)
  trap strike EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# usage: start_server PORT [more arguments of the server]
start_server() {
  local port=$1
  shift
  unset VAULT_NAMESPACE BAO_NAMESPACE
  export VAULT_ADDR="http://127.0.0.1:$port" VAULT_TOKEN=root
  export BAO_ADDR="$VAULT_ADDR" BAO_TOKEN="$VAULT_TOKEN"
  "$cli" server -dev -dev-no-store-token -dev-root-token-id=root ${plugins:+"-dev-plugin-dir=$plugins"} \
    -dev-listen-address="127.0.0.1:$port" "$@" >"$stage_folder/server.log" 2>&1 </dev/null &
  server_pid=$!
  wait_until 'the server starts' "$server_pid" "$stage_folder/server.log" "$cli" status
}

# Whether the real OpenAI is meant.
openai_is_given() {
  [ -n "${OPENAI_ADMIN_API_KEY:-}" ] && [ -n "${OPENAI_ORG_ID:-}" ] && [ -n "${OPENAI_PROJECT_ID:-}" ]
}

use_real_openai() {
  # shellcheck disable=SC2034
  openai_is_real=yes
  export OPENAI_BASE_URL="${OPENAI_BASE_URL:-https://api.openai.com/v1}"
}

# usage: start_simulator PROGRAM [more arguments of it]
start_simulator() {
  local simulator=$1 log="$stage_folder/simulator.log"
  shift
  export OPENAI_ADMIN_API_KEY=sk-admin-simulated OPENAI_ORG_ID=org-simulated OPENAI_PROJECT_ID=proj_simulated
  "$simulator" --listen 127.0.0.1:0 --admin-key "$OPENAI_ADMIN_API_KEY" --organization "$OPENAI_ORG_ID" \
    --project "$OPENAI_PROJECT_ID" --seed-account "$OPENAI_PROJECT_ID/someone-elses-account" "$@" >"$log" 2>&1 </dev/null &
  simulator_pid=$!
  wait_until 'the simulator starts' "$simulator_pid" "$log" grep -q '^listening on ' "$log"
  OPENAI_BASE_URL=$(sed -n 's/^listening on //p' "$log")
  export OPENAI_BASE_URL
}

# A field of the credential that was read into $stage_folder/credential.
field() {
  awk -v name="$1" '$1 == name { print $2 }' "$stage_folder/credential"
}

# Has to be refused: $OPENAI_API_KEY, or with `admin-key` $OPENAI_ADMIN_API_KEY. The real OpenAI may take a moment until every part
# of it knows.
key_is_refused() {
  local answer which=${1:-key} deadline=$((SECONDS + 60))
  while answer=0; scripts/ask_openai.py "$which" || answer=$?; [ $answer -eq 0 ]; do
    if [ -z "$openai_is_real" ] || [ $SECONDS -ge $deadline ]; then fail 'OpenAI still takes the key'; fi
    sleep 2
  done
  [ $answer -eq 3 ] || fail 'OpenAI did not say whether it takes the key'
}

# Ends what was started. A server that ends takes its plugins along.
strike() {
  local pid
  # A second Ctrl-C must not leave the rest behind.
  trap '' INT TERM
  trap - EXIT
  for pid in $server_pid $simulator_pid $helper_pid; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ -n "$stage_folder" ]; then
    rm -rf "$stage_folder"
  fi
}
