#!/bin/sh
# Runs before the server is stopped, and lets it go only when its slots are safe.
#
# A replica may go, and so may a primary without slots. A primary with slots first hands them to a replica that is
# in sync and is not going itself. Where there is none the pod is held: until such a replica is there (it has just
# been restarted itself), until the Job has moved the slots away (the cluster shrinks), or until the time is over.
#
# Several pods may go at once, and one must not hand over to another. So each pod that goes marks itself first,
# with replica-priority 0: others see it when they ask, it means nothing to Redis Cluster, and it is gone
# after a restart. Only then, after a moment, does a pod look at its own role for the last time.
set -u
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

hold=${PRESTOP_HOLD_SECONDS:-25}   # the longest time in all
settle=3                           # seconds to be a replica before the pod goes: clients have followed by then
alone_limit=30                     # seconds to wait when every other pod is going too
silent_limit=10                    # seconds to wait for a server that does not answer

say() {
  line="prestop: $*"
  (echo "$line" >/proc/1/fd/1) 2>/dev/null || echo "$line" # to the container's own log where that can be
}

# look: reads this server's own view into $role, $id, $slots and $nodes
look() {
  nodes=$(here_ask cluster nodes)
  line=$(printf '%s\n' "$nodes" | awk '$3 ~ /myself/ {
    slots = 0
    for (i = 9; i <= NF; i++) {
      n = split($i, range, "-")
      if ($i ~ /^\[/) slots += 1
      else slots += n == 2 ? range[2] - range[1] + 1 : 1
    }
    print ($3 ~ /master/ ? "primary" : "replica"), $1, slots
  }')
  [ -n "$line" ] || return 1
  role=${line%% *}
  line=${line#* }
  id=${line%% *}
  slots=${line#* }
}

# peers REPLICAS-OF|ANY: "ordinal host port" of the members that are not failing, lowest ordinal first
peers() {
  printf '%s\n' "$nodes" | awk -v primary="$1" '
    $3 ~ /myself|fail|handshake|noaddr/ { next }
    primary == "ANY" || ($4 == primary && $3 ~ /slave/) {
      n = split($2, part, "@"); address = part[1]
      port = address; sub(/.*:/, "", port)
      host = address; sub(/:[^:]*$/, "", host)
      n = split($2, aux, ","); ordinal = aux[2]; sub(/\..*/, "", ordinal); sub(/.*-/, "", ordinal)
      print ordinal + 0, host, port
    }' | sort -n
}

# stays HOST PORT: that pod answers and has not marked itself
stays() {
  priority=$(ask "$1" "$2" config get replica-priority) || return 1
  case $priority in *replica-priority*) ;; *) return 1 ;; esac
  [ "$(printf '%s\n' "$priority" | tail -n 1)" != 0 ]
}

in_sync() {
  info=$(ask "$1" "$2" info replication) || return 1
  case $info in *role:slave*) ;; *) return 1 ;; esac
  case $info in *master_link_status:up*) ;; *) return 1 ;; esac
}

# hand_over: makes the first replica that can take them the owner of this pod's slots
hand_over() {
  peers "$id" | {
    while read -r ordinal host port; do
      if ! in_sync "$host" "$port" || ! stays "$host" "$port"; then continue; fi
      reply=$(ask "$host" "$port" cluster failover)
      [ "$reply" = OK ] || { say "$host:$port answered to CLUSTER FAILOVER: $reply"; continue; }
      polls=0
      while [ $polls -lt 60 ]; do # a manual failover is over or given up after five seconds
        polls=$((polls + 1))
        if look && [ "$role" = replica ]; then
          say "handed over to pod $ordinal at $host:$port"
          exit 0
        fi
        sleep 0.1
      done
      say "$host:$port did not take over in time"
    done
    exit 1
  }
}

somebody_stays() {
  peers ANY | {
    while read -r _ host port; do
      if stays "$host" "$port"; then exit 0; fi
    done
    exit 1
  }
}

explain() {
  say "this pod still owns $slots slots, and no replica that is in sync and stays can take them; it waits" \
    "(at most $((hold - elapsed)) s more)."
  say "If the cluster is to shrink, its Job moves the slots away: set replicas: in the kustomization and run" \
    "kubectl apply -k; after kubectl scale alone nothing moves them."
  say "If that Job ran before (kubectl says unchanged), has failed or is gone: kubectl create job --from=cronjob/redis-bootstrap redis-bootstrap-now"
}

clock() { date +%s; }

begun=$(clock)
calm=0 calm_since=$begun alone_since=0 silent_since=0 explained=-60

here_ask config set replica-priority 0 >/dev/null
while :; do
  now=$(clock)
  elapsed=$((now - begun))
  if [ $elapsed -ge "$hold" ]; then
    say "time is over after $elapsed s; the pod goes with the slots it has"
    break
  fi
  if ! look; then
    case $nodes in *LOADING* | *BUSY*) sleep 1; continue ;; esac
    [ "$silent_since" != 0 ] || silent_since=$now
    if [ $((now - silent_since)) -ge $silent_limit ]; then
      say "the server does not answer; nothing can be handed over"
      break
    fi
    sleep 1
    continue
  fi
  silent_since=0

  if [ "$role" = primary ] && [ "$slots" = 0 ]; then
    break
  fi
  if [ "$role" = replica ]; then
    [ $calm = 1 ] || { calm=1; calm_since=$now; }
    # With its primary gone a replica is about to be elected, so it stays for that long.
    if in_sync 127.0.0.1 "${REDIS_PORT:-6379}"; then
      [ $((now - calm_since)) -lt $settle ] || break
    else
      [ $((now - calm_since)) -lt $alone_limit ] || break
    fi
    sleep 1
    continue
  fi
  calm=0
  if [ $elapsed -lt 2 ]; then # others that go now have marked themselves by then
    sleep 0.5
    continue
  fi
  if hand_over; then continue; fi
  if somebody_stays; then
    alone_since=0
    if [ $((elapsed - explained)) -ge 60 ]; then
      explain
      explained=$elapsed
    fi
  else
    [ "$alone_since" != 0 ] || alone_since=$now
    if [ $((now - alone_since)) -ge $alone_limit ]; then
      say "every pod is going; this one goes with its $slots slots, its data stays on its volume"
      break
    fi
  fi
  sleep 1
done
