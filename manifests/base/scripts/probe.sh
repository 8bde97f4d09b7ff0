#!/bin/sh
# probe.sh started: this server has loaded its data and answers commands.
# probe.sh ready: it does, and clients that start here find the cluster.
# probe.sh alive: it answers at all, also while it loads its data, waits for its primary or runs a long script.
# NOAUTH is an answer: a new password is no reason for a restart.
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

settle=20 # seconds: a new pod is usually a member by then
limit=600 # seconds: a run that could make it a member has ended by then (BOOTSTRAP_TIMEOUT)

# is_member: reads CLUSTER INFO; a server that knows another one is or was a member of a cluster
is_member() {
  known=$(number cluster_known_nodes)
  [ "${known:-1}" -gt 1 ]
}

# A server that knows no other one serves no slots, so it is not ready while there is a cluster that it could be a member
# of. It is ready all the same where there is none, and after ten minutes: rolling updates and drains wait for pods to be
# ready, and the update or the drain may be what the cluster needs. DNS is asked only after a while, since an early
# question for what is not there yet would leave a negative answer in caches.
wait_for_cluster() {
  uptime=$(here_ask info server | number uptime_in_seconds)
  [ "${uptime:-0}" -lt "$limit" ] || return 0
  if [ "${uptime:-0}" -ge "$settle" ]; then
    # All at once: some may not answer, and a probe has ten seconds.
    members=$(
      for address in $(pods | head -n 8); do
        if talk "$address" "" cluster info | is_member; then echo "$address"; fi &
      done
      wait
    )
    [ -n "$members" ] || return 0
  fi
  echo "this server is not a member of the cluster yet"
  return 1
}

reply=$(talk 127.0.0.1 'ping
cluster info
')
case $1:$reply in
  *:*NOAUTH*) exit 0 ;;
  alive:*LOADING* | alive:*MASTERDOWN* | alive:*BUSY*) exit 0 ;;
  ready:*PONG*)
    if printf '%s\n' "$reply" | is_member || wait_for_cluster; then exit 0; fi
    exit 1
    ;;
  *:*PONG*) exit 0 ;;
esac
echo "$reply"
exit 1
