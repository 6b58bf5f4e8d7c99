#!/bin/bash
# The first process of the container. When the container is stopped, the databases in it are ended properly: outside of a
# container they would outlive the daemon, in one they would be killed with it. Those in containers of their own go on.
set -u

[ "${1:-}" = serve ] || exec pgdb "$@"

pgdb "$@" &
daemon=$!
# shellcheck disable=SC2317 # The trap calls it.
end() {
  # The token is of this container's environment, or of its data directory. Without either there is still the signal.
  if [ "${PGDB_RUNTIME:-process}" = process ] && pgdb down >/dev/null; then return; fi
  kill -TERM "$daemon"
}
trap end TERM INT

# A wait is cut short by the signal; the daemon ends when its databases have. Orphans that end are reaped meanwhile.
status=0
while kill -0 "$daemon" 2>/dev/null; do
  wait "$daemon"
  status=$?
done
exit "$status"
