#!/usr/bin/env bash
# What a test engine needs root for: `engine.sh start | kill | stop | forget | end | watch`.
#
# ENGINE is docker or podman, FOLDER holds all that it keeps, and NAME is what its bridge and its control groups are
# called. They come as variables: whose arguments name the folder is of the engine. `watch` waits until the process OWNER
# has ended and LOCK is free, and ends the engine then; meanwhile it holds WATCHED.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# A third byte that none of this machine's networks has, nor any other engine: podman takes its bridge away with its last
# container and makes it again. 198.18.0.0/15 is set aside for tests of this kind.
free_subnet() {
  local used third other
  used="$(ip -4 -oneline address show)"
  for other in "$(dirname "$FOLDER")"/pgdb-engine-*/subnet; do
    [[ ! -e "$other" ]] || used+=" 198.18.$(<"$other")."
  done
  for ((third = 0; third < 256; third++)); do
    [[ "$used" == *" 198.18.$third."* ]] || { printf '%s' "$third"; return; }
  done
  fail 'no subnet is left below 198.18.0.0/16'
}

# Makes the bridge, once. Engines started at the same moment must not choose the same subnet.
ensure_bridge() {
  [[ ! -e "$FOLDER/subnet" ]] || return 0
  mkdir -p /run/lock
  exec {subnets}>/run/lock/pgdb-testkit.lock
  flock "$subnets"
  local third
  third="$(free_subnet)"
  ip link add "$NAME" type bridge
  ip address add "198.18.$third.1/24" dev "$NAME"
  ip link set "$NAME" up
  printf '%s' "$third" >"$FOLDER/subnet"
  exec {subnets}>&-
}

configure_docker() {
  ensure_bridge
  local third
  third="$(<"$FOLDER/subnet")"
  # Ports are published by a process for each, so that no rule of this machine's firewall is touched: another engine's
  # rules stay as they are.
  cat >"$FOLDER/daemon.json" <<JSON
{"data-root": "$FOLDER/data", "exec-root": "$FOLDER/exec", "pidfile": "$FOLDER/pid", "hosts": ["unix://$FOLDER/socket"],
 "group": "${SUDO_GID:-0}", "deprecated-key-path": "$FOLDER/key.json", "bridge": "$NAME", "iptables": false,
 "ip6tables": false, "ip-forward": false, "ip-masq": false, "cgroup-parent": "/$NAME",
 "default-address-pools": [{"base": "198.19.$third.0/24", "size": 28}], "exec-opts": ["native.cgroupdriver=cgroupfs"],
 "storage-driver": "overlay2", "log-level": "warn"}
JSON
}

configure_podman() {
  ensure_bridge
  local third
  third="$(<"$FOLDER/subnet")"
  mkdir -p "$FOLDER/networks" "$FOLDER/tmp"
  cat >"$FOLDER/storage.conf" <<TOML
[storage]
driver = "overlay"
runroot = "$FOLDER/exec"
graphroot = "$FOLDER/data"
TOML
  # runc, for crun refuses control groups of both versions at once; locks in files, for those in memory are the whole
  # machine's; limits that this shell has, for more cannot be given.
  cat >"$FOLDER/containers.conf" <<TOML
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=20000:20000"]
[network]
network_backend = "netavark"
network_config_dir = "$FOLDER/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "$FOLDER/tmp"
TOML
  cat >"$FOLDER/networks/podman.json" <<JSON
{"name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "driver": "bridge",
 "network_interface": "$NAME", "created": "2026-01-01T00:00:00Z", "ipv6_enabled": false, "internal": false,
 "dns_enabled": false, "ipam_options": {"driver": "host-local"},
 "subnets": [{"subnet": "198.18.$third.0/24", "gateway": "198.18.$third.1"}]}
JSON
}

# Becomes a program that uses this engine's podman.
with_podman() {
  CONTAINERS_CONF="$FOLDER/containers.conf" CONTAINERS_STORAGE_CONF="$FOLDER/storage.conf" exec setsid "$@"
}

start() {
  mkdir -p "$FOLDER"
  rm -f "$FOLDER/socket" "$FOLDER/pid"
  "configure_$ENGINE"
  if [[ "$ENGINE" == docker ]]; then
    setsid dockerd --config-file "$FOLDER/daemon.json" </dev/null >>"$FOLDER/log" 2>&1 &
  else
    with_podman podman --log-level warn system service --time 0 "unix://$FOLDER/socket" </dev/null >>"$FOLDER/log" 2>&1 &
    printf '%s' $! >"$FOLDER/pid"
    # docker gives its socket to a group by itself.
    until [[ -S "$FOLDER/socket" ]] || ! kill -0 $!; do sleep 0.01; done
    chown "0:${SUDO_GID:-0}" "$FOLDER/socket"
    chmod 660 "$FOLDER/socket"
  fi
}

# The engine's own process, without its containers: by a signal, and waits until it is gone.
signal() {
  local pid
  pid="$(<"$FOLDER/pid")"
  kill -"$1" "$pid"
  tail --pid="$pid" --sleep-interval=0.02 --follow /dev/null
}

# Into `pids`: every process of the engine, which are those whose arguments name the folder, and all below them.
find_pids() {
  local entry stat rest arguments parent pid changed=1
  local -A parents=() found=()
  for entry in /proc/[0-9]*; do
    pid="${entry#/proc/}"
    { IFS= read -r stat <"$entry/stat" && mapfile -d '' -t arguments <"$entry/cmdline"; } 2>/dev/null || continue
    # The name in parentheses may hold anything; after it come the state and the parent.
    rest="${stat##*) }"
    read -r _ parent _ <<<"$rest"
    parents[$pid]="$parent"
    [[ " ${arguments[*]}" != *"$FOLDER/"* || "$pid" == "$$" ]] || found[$pid]=1
  done
  while ((changed)); do
    changed=0
    for pid in "${!parents[@]}"; do
      [[ -z "${found[$pid]:-}" && -n "${found[${parents[$pid]}]:-}" ]] || continue
      found[$pid]=1
      changed=1
    done
  done
  pids=("${!found[@]}")
}

# podman's rules of the firewall for published ports. Those of a container that did not end in order stay, and would send
# everybody who asks for that port of this machine to where nobody answers. To be called when there is no container.
forget() {
  local third chain
  [[ "$ENGINE" == podman && -e "$FOLDER/subnet" ]] || return 0
  third="$(<"$FOLDER/subnet")"
  while read -r chain; do
    iptables --wait --table nat --list-rules NETAVARK-HOSTPORT-DNAT | grep --fixed-strings -- "-j $chain" |
      sed 's/^-A/-D/' | xargs --no-run-if-empty --max-lines=1 iptables --wait --table nat || true
    iptables --wait --table nat --flush "$chain" || true
    iptables --wait --table nat --delete-chain "$chain" || true
  done < <(iptables --wait --table nat --list-rules |
    sed -n "s/^-A \(NETAVARK-DN-[^ ]*\) .*--to-destination 198\.18\.$third\..*/\1/p" | sort --unique)
}

unmount_all() {
  local point
  while read -r _ point _; do
    [[ "$point" != "$FOLDER"/* ]] || umount --lazy "$point" 2>/dev/null || true
  done < <(tac /proc/self/mounts)
}

# Ends the engine and its containers at once, and removes everything that it has made. Nothing there is fine.
end() {
  local pids try shim
  [[ "$FOLDER" == */pgdb-engine-* ]] || fail "$FOLDER is no folder of a test engine"
  # Its rules of the firewall are removed with its containers.
  if [[ "$ENGINE" == podman && -e "$FOLDER/containers.conf" ]]; then
    (with_podman timeout 60 podman rm --all --force --time 0) >/dev/null 2>&1 </dev/null || true
  fi
  for ((try = 0; try < 500; try++)); do
    find_pids
    ((${#pids[@]})) || break
    kill -KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.01
  done
  ((${#pids[@]} == 0)) || fail "processes outlived SIGKILL: ${pids[*]}"
  forget
  # The sockets of the processes that held containers lie beside everybody's.
  for shim in "$FOLDER"/exec/containerd/daemon/io.containerd.runtime.v2.task/*/*/address; do
    [[ ! -e "$shim" ]] || rm -f -- "$(sed 's,^unix://,,' "$shim")"
  done
  unmount_all
  rm -rf --one-file-system "$FOLDER"
  find /sys/fs/cgroup -depth -type d \( -path "*/$NAME" -o -path "*/$NAME/*" \) -exec rmdir {} + 2>/dev/null || true
  # podman's parent of all control groups goes when nobody else has one.
  rmdir /sys/fs/cgroup/{,*/}libpod_parent{/conmon,} 2>/dev/null || true
  ip link delete "$NAME" 2>/dev/null || true
}

watch() {
  exec 8>"$WATCHED"
  flock 8
  printf 'watching\n'
  # Who started this has read it, and waits for the end of nothing else.
  exec >"$WATCHED.log" 2>&1 </dev/null
  tail --pid="$OWNER" --sleep-interval=0.1 --follow /dev/null
  exec 9>"$LOCK"
  flock 9
  end
}

case "$1" in
  start | forget | end | watch) "$1" ;;
  kill) signal KILL ;;
  stop) signal TERM ;;
  *) fail "no such action: $1" ;;
esac
