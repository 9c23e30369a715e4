#!/usr/bin/env bash
# A Docker daemon on a machine without systemd, with gVisor's runtime where it is installed: for CI, as root.
#
# usage: scripts/dockerd.sh start    nothing to do where a daemon answers already
#        scripts/dockerd.sh stop     ends the one that was started here
set -euo pipefail

readonly state=/run/vault-plugin-secrets-openai-dockerd
readonly packages='docker.io runsc iproute2 iptables'

fail() {
  echo "dockerd.sh: $*" >&2
  exit 1
}

# --host-uds: the plugin's socket is one of the host's. --network=host: gVisor's own network stack does not start within another
# sandbox; a container keeps its own network all the same. A machine's daemon.json goes first.
options() {
  if [ ! -e /etc/docker/daemon.json ] && command -v runsc >/dev/null; then
    cat >"$state/daemon.json" <<JSON
{"runtimes": {"runsc": {"path": "$(command -v runsc)", "runtimeArgs": ["--host-uds=all", "--network=host"]}}}
JSON
    echo "--config-file=$state/daemon.json"
  fi
}

start() {
  if docker info >/dev/null 2>&1; then return; fi
  command -v dockerd >/dev/null || fail "there is no Docker here: apt-get install $packages"
  [ "$(id -u)" = 0 ] || fail 'only root can start Docker'
  mkdir -p "$state"
  local arguments deadline=$((SECONDS + 60))
  mapfile -t arguments < <(options)
  setsid dockerd "${arguments[@]}" >"$state/log" 2>&1 </dev/null &
  echo $! >"$state/pid"
  until docker info >/dev/null 2>&1; do
    if ! kill -0 "$(cat "$state/pid")" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      tail -n 20 "$state/log" >&2
      fail "Docker does not start; above is the end of $state/log"
    fi
    sleep 0.2
  done
}

stop() {
  [ -e "$state/pid" ] || return 0
  local pid
  pid=$(cat "$state/pid")
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  rm -r "$state"
}

case "${1:-}" in
  start | stop) "$1" ;;
  *) fail 'usage: scripts/dockerd.sh start|stop' ;;
esac
