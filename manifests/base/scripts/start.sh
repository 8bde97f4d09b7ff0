#!/bin/sh
# Starts the server in place of this shell, with redis.conf and with what only this pod knows.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

version=$("$server" --version) # "Redis server v=7.0.15 sha=..." or "Valkey server v=8.1.4 sha=..."
version=${version#*v=}
major=${version%%.*}
minor=${version#*.}
minor=${minor%%.*}
at_least() {
  [ "$major" -gt "$1" ] || { [ "$major" -eq "$1" ] && [ "$minor" -ge "$2" ]; }
}

set -- "$here/redis.conf"
for file in "$here"/*.conf; do
  [ "$file" = "$here/redis.conf" ] || set -- "$@" --include "$file"
done

# The address that the server announces to peers and clients. A pod comes back with another one, so it is set at each start.
set -- "$@" --cluster-announce-ip "${ANNOUNCE_IP:-$POD_IP}"
if [ -n "${ANNOUNCE_PORT_BASE:-}" ]; then # components/external-nodeport: a port for each ordinal
  ordinal=${POD_NAME##*-}
  port_option=--cluster-announce-port
  [ ! -f "$here/tls.conf" ] || port_option=--cluster-announce-tls-port
  set -- "$@" "$port_option" "$((ANNOUNCE_PORT_BASE + ordinal))"
  set -- "$@" --cluster-announce-bus-port "$((ANNOUNCE_BUS_PORT_BASE + ordinal))"
fi

# The pod's full name as the kubelet wrote it to /etc/hosts: CLUSTER NODES then says which pod a member is, and
# clients that verify certificates are redirected to names. A pod on its node's network has no such name, and clients
# outside of the cluster cannot resolve it: these are redirected to addresses, which the certificate must then have.
name=$(hostname -f 2>/dev/null) || name=
case $name in
  "$POD_NAME".*)
    if at_least 7 0; then
      set -- "$@" --cluster-announce-hostname "$name"
      if [ -f "$here/tls.conf" ] && [ -z "${ANNOUNCE_PORT_BASE:-}" ]; then
        set -- "$@" --cluster-preferred-endpoint-type hostname
      fi
    fi
    ;;
esac

# Where the pod runs: the Job keeps a primary and its replicas apart by this.
if at_least 7 2; then
  set -- "$@" --cluster-announce-human-nodename "${ZONE:-}/${NODE_NAME:-}"
fi
if [ "$server" = valkey-server ] && [ -n "${ZONE:-}" ]; then
  set -- "$@" --availability-zone "$ZONE"
fi

# Data may take three fifths of the container's memory; the rest is for the copy that a rewrite of the
# append-only file makes, for replicas and for clients. A `maxmemory` in a .conf file takes precedence.
if [ -n "${MEMORY_LIMIT:-}" ] && ! grep -qis '^[[:space:]]*maxmemory[[:space:]]' "$here"/*.conf; then
  set -- "$@" --maxmemory "$((MEMORY_LIMIT * 3 / 5))"
fi

umask 0007 # the volume's group can read what the server writes, whatever user it runs as
exec "$server" "$@"
