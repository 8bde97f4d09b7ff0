# shellcheck shell=sh
# Read by the other scripts: which server this is, and how to talk to it.

# shellcheck disable=SC2034 # they are used by the scripts that read this one
here=${0%/*} server=redis-server client=redis-cli
if command -v valkey-server >/dev/null 2>&1; then
  # shellcheck disable=SC2034
  server=valkey-server client=valkey-cli
fi
credentials=${REDIS_CREDENTIALS:-/etc/redis-auth}
certificates=${REDIS_CERTIFICATES:-/etc/redis-tls}

# ask HOST PORT COMMAND...: one command to one server, three seconds at most
ask() {
  host=$1 port=$2
  shift 2
  if [ -f "$here/tls.conf" ]; then
    set -- --tls --cacert "$certificates/ca.crt" "$@"
  fi
  if [ ! -f "$credentials/bootstrap-password" ]; then
    timeout 3 "$client" -h "$host" -p "$port" "$@" 2>&1
    return
  fi
  while read -r password || [ -n "$password" ]; do # one a line: while passwords change, servers know the old or the new
    answer=$(REDISCLI_AUTH=$password timeout 3 "$client" --user bootstrap --no-auth-warning \
      -h "$host" -p "$port" "$@" 2>&1 </dev/null)
    case $answer in *WRONGPASS* | *NOAUTH*) ;; *) break ;; esac
  done <"$credentials/bootstrap-password"
  printf '%s\n' "$answer"
}

# here_ask COMMAND...: the same to this pod's own server
here_ask() {
  ask 127.0.0.1 "${REDIS_PORT:-6379}" "$@"
}
