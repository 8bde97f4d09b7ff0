#!/bin/sh
# Runs before the server is stopped, and lets it go only when its slots are safe.
#
# A replica may go, and so may a primary without slots. A primary with slots first hands them to a replica that is
# in sync and is not going itself. Where there is none the pod is held: until such a replica is there (it has just
# been restarted itself), until the program has moved the slots away (the cluster shrinks), or until the time limit.
#
# A hand-over is asked for only when it can be won. The other members vote for the replica by the address that they know:
# right after a restart that is still the old one, the vote is lost, whoever voted refuses the next one for two node
# timeouts, and each try pauses writes for five seconds. So every other member that answers must show the replica
# connected at its present address, and after a try that failed the pod waits for those two timeouts.
#
# Each primary has one vote at a time, so of hand-overs at the same moment some are lost as well. Primaries that go together
# have two seconds each, in the order of their ids, and ask in the first of the two.
#
# Several pods may go at once, and one must not hand over to another. So each pod that goes marks itself first,
# with replica-priority 0: others see it when they ask, it means nothing to Redis Cluster, and it is gone
# after a restart. Only then, after a moment, does a pod read its own role for the last time.
#
# CLUSTER NODES names members, but anybody who reaches the bus port can add one. So other servers are asked, and sent the
# password, only at the addresses that DNS gives for the pods of this StatefulSet; each says itself who it is.
set -u
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

hold=${PRESTOP_HOLD_SECONDS:-25}   # the longest time in all
settle=3                           # seconds to be a replica before the pod goes: clients have followed by then
alone_limit=30                     # seconds to wait when every other pod is going too
unsure_limit=120                   # the same where a connected member has not said that it goes: it may have restarted,
                                   # and caches of DNS keep its former address for half a minute or longer
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

in_sync() {
  info=$(here_ask info replication)
  case $info in *role:slave*) ;; *) return 1 ;; esac
  case $info in *master_link_status:up*) ;; *) return 1 ;; esac
}

# survey: asks every other pod that is a member, all at once, and prints what each says, a line for each fact:
#   member ID HOST stays|goes
#   takes ID HOST ORDINAL       this pod's replica, in sync and staying, at HOST
#   is ID ADDRESS               the address that a replica announces itself
#   sees ID ADDRESS HOST        the address at which HOST is connected to that replica; "none" where it is not
survey() {
  replicas=$(printf '%s\n' "$nodes" | awk -v primary="$id" '$3 ~ /slave/ && $4 == primary { printf "%s ", $1 }')
  for address in $addresses; do
    [ "$address" != "${POD_IP:-}" ] || continue
    talk "$address" 'cluster nodes
config get replica-priority
info replication
' | {
      # shellcheck disable=SC2016
      printf '%s\n' "$nodes" | awk '{ print "known", $1 }'
      cat
    } | awk -v host="$address" -v primary="$id" -v replicas="$replicas" '
      { sub(/\r$/, "") }
      $1 == "known" { known[$2] = 1; next }
      $3 ~ /master|slave/ && NF >= 8 {
        split($2, aux, ","); at[$1] = aux[1]
        if ($8 != "connected" || $3 ~ /fail|handshake|noaddr/ || $4 != primary) at[$1] = "none"
        if ($3 ~ /myself/) {
          own = $1; of = $4; announced = aux[1]
          name = aux[2]; sub(/\..*/, "", name); sub(/.*-/, "", name)
        }
      }
      last == "replica-priority" { priority = $1 }
      $0 == "role:slave" { slave = 1 }
      $0 == "master_link_status:up" { up = 1 }
      { last = $0 }
      END {
        if (own == "" || own == primary || !(own in known)) exit
        print "member", own, host, (priority + 0) ? "stays" : "goes"
        print "is", own, announced
        if (of == primary && slave && up && priority + 0) print "takes", own, host, name + 0
        n = split(replicas, wanted, " ")
        for (i = 1; i <= n; i++)
          if (wanted[i] != own) print "sees", wanted[i], (wanted[i] in at) ? at[wanted[i]] : "none", host
      }' &
  done
  wait
}

# candidate: reads a survey; prints the host of the replica that can win a hand-over, the lowest ordinal first,
# or "blocked HOST REPLICA" where a member does not see the replica at its present address
candidate() {
  {
    printf '%s\n' "$nodes" | awk -v primary="$id" '$3 ~ /slave/ && $4 == primary {
      split($2, aux, ",")
      print "sees", $1, ($8 == "connected" && $3 !~ /fail|handshake|noaddr/) ? aux[1] : "none", "this-pod"
    }'
    cat
  } | awk '
    $1 == "takes" { host[$2] = $3; ordinal[$2] = $4 }
    $1 == "is" { address[$2] = $3 }
    $1 == "sees" { n++; replica[n] = $2; seen[n] = $3; by[n] = $4 }
    END {
      for (i = 1; i <= n; i++)
        if (replica[i] in address && seen[i] != address[replica[i]] && !(replica[i] in blocked))
          blocked[replica[i]] = by[i]
      best = ""
      for (r in host) {
        if (r in blocked) { reason = "blocked " host[r] " " blocked[r]; continue }
        if (best == "" || ordinal[r] < ordinal[best]) best = r
      }
      if (best != "") print host[best]
      else if (reason != "") print reason
    }'
}

# until_turn: prints the seconds until this pod may ask for its hand-over; 0 where no other primary is going
until_turn() {
  order=$(printf '%s\n%s\n' "$nodes" "$seen" | awk -v id="$id" '
    $3 ~ /master/ && NF > 8 { owner[$1] = 1 }
    $1 == "member" && $4 == "goes" && ($2 in owner) { all++; if (($2 "") < (id "")) before++ }
    END { print all + 1, before + 0 }')
  [ "$order" != "1 0" ] || { echo 0; return; }
  round=$((${order% *} * 2))
  echo $(((${order#* } * 2 - $(clock) % round + round) % round))
}

# known_to_go: prints the members that are connected to this server and do not stay, a line for each:
#   going ID ADDRESS   it said so, now or before, and has not been away or at another address since
#   silent ID          it has not said anything
known_to_go() {
  printf '%s\n%s\n%s\n' "$others" "$seen" "$nodes" | awk '
    $1 == "going" { before[$2] = $3; next }
    $1 == "member" { said[$2] = $4; next }
    NF >= 8 && $3 ~ /master|slave/ && $3 !~ /myself|fail|handshake|noaddr/ && $8 == "connected" {
      split($2, aux, ",")
      if (said[$1] == "goes" || (said[$1] == "" && before[$1] == aux[1])) print "going", $1, aux[1]
      else if (said[$1] == "") print "silent", $1
    }'
}

# hand_over: makes a replica that can take them the owner of this pod's slots; $why says what is missing where it cannot
hand_over() {
  why="no replica that is in sync and stays can take them"
  host=$(printf '%s\n' "$seen" | candidate)
  case $host in
    "") return 1 ;;
    blocked*)
      host=${host#blocked }
      why="the replica at ${host%% *} could not win a vote yet: ${host#* } does not see it at its present address"
      return 1
      ;;
  esac
  why="the last hand-over failed; the next one is tried after two node time-outs"
  [ "$(clock)" -ge "$not_before" ] || return 1
  pause=$(until_turn)
  if [ "$pause" != 0 ] && [ $waited = 0 ]; then
    say "other primaries are going too; this one hands over in $pause s"
    sleep "$pause"
    waited=1
    look && seen=$(survey) && hand_over
    return
  fi
  reply=$(talk "$host" "" cluster failover)
  if [ "$reply" = OK ]; then
    polls=0
    while [ $polls -lt 60 ]; do # a manual failover is over or given up after five seconds
      polls=$((polls + 1))
      if look && [ "$role" = replica ]; then
        say "handed over to the pod at $host"
        return 0
      fi
      sleep 0.1
    done
    say "the pod at $host did not take over in time"
  else
    say "the pod at $host answered to CLUSTER FAILOVER: $reply"
  fi
  timeout_ms=$(here_ask config get cluster-node-timeout | tail -n 1)
  case $timeout_ms in "" | *[!0-9]*) timeout_ms=15000 ;; esac
  not_before=$(($(clock) + timeout_ms * 2 / 1000 + 1))
  return 1
}

explain() {
  case ${POD_NAME:-} in
    *redis-app*-*) # with the namePrefix and the nameSuffix of the kustomization
      program=${POD_NAME##*redis-app}
      program=${POD_NAME%redis-app*}redis-bootstrap${program%-*}
      ;;
    *) program=redis-bootstrap ;;
  esac
  say "this pod still owns $slots slots, and $why; it waits (at most $((hold - elapsed)) s more)."
  say "If the cluster is to shrink, $program moves the slots away: set replicas: in the kustomization and run" \
    "kubectl apply -k; after kubectl scale alone nothing moves them."
  say "What it does, or why it does not: kubectl logs deployment/$program"
}

clock() { date +%s; }

begun=$(clock)
calm=0 calm_since=$begun alone_since=0 silent_since=0 explained=-60 not_before=0 others=

here_ask config set replica-priority 0 >/dev/null
while :; do
  now=$(clock)
  elapsed=$((now - begun))
  if [ $elapsed -ge "$hold" ]; then
    say "the hold ends after $elapsed s; the pod terminates with the slots it owns"
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
    if in_sync; then
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
  addresses=$(pods) # only these are asked: one of an earlier answer may be that of another process by now
  seen=$(survey)
  others=$(known_to_go)
  waited=0
  if hand_over; then continue; fi
  case $seen in
    *stays*)
      alone_since=0
      if [ $((elapsed - explained)) -ge 60 ]; then
        explain
        explained=$elapsed
      fi
      ;;
    *)
      [ "$alone_since" != 0 ] || alone_since=$now
      limit=$alone_limit why="every pod is going"
      case $others in *silent*) limit=$unsure_limit why="no other pod answers" ;; esac
      if [ $((now - alone_since)) -ge $limit ]; then
        say "$why; this one goes with its $slots slots, its data stays on its volume"
        break
      fi
      ;;
  esac
  sleep 1
done
