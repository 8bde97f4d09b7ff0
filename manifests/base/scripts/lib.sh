# shellcheck shell=sh
# Read by the other scripts: which server this is, and how to talk to it and to the servers of other pods.

# shellcheck disable=SC2034 # they are used by the scripts that read this one
here=${0%/*} server=redis-server client=redis-cli
if command -v valkey-server >/dev/null 2>&1; then
  # shellcheck disable=SC2034
  server=valkey-server client=valkey-cli
fi
credentials=${REDIS_CREDENTIALS:-/etc/redis-auth}
certificates=${REDIS_CERTIFICATES:-/etc/redis-tls}
redis_port=${REDIS_PORT:-6379}
carriage_return=$(printf '\r') byte_order_mark=$(printf '\357\273\277')

# talk HOST COMMANDS [ARGUMENT...]: commands to one server, a line each, or one command as arguments; three seconds at
# most. HOST is this pod or an address that `pods` printed: the password is sent to no other host. redis-cli verifies the
# chain of a certificate but not the name in it, so the authority in ca.crt should sign for this cluster only.
talk() {
  host=$1 commands=$2
  shift 2
  if [ -f "$here/tls.conf" ]; then
    set -- --tls --cacert "$certificates/ca.crt" "$@"
  fi
  if [ ! -f "$credentials/bootstrap-password" ]; then
    printf '%s' "$commands" | timeout 3 "$client" -h "$host" -p "$redis_port" "$@" 2>&1
    return
  fi
  answer="NOAUTH: there is no password in $credentials/bootstrap-password"
  # One password a line, as the program reads them: while passwords change, servers know the old or the new one.
  # Windows editors begin the file with a mark.
  mark=$byte_order_mark
  while IFS= read -r password || [ -n "$password" ]; do
    password=${password#"$mark"} mark=
    password=${password%"$carriage_return"}
    [ -n "$password" ] || continue
    answer=$(printf '%s' "$commands" | REDISCLI_AUTH=$password timeout 3 "$client" --user bootstrap --no-auth-warning \
      -h "$host" -p "$redis_port" "$@" 2>&1)
    case $answer in *WRONGPASS* | *NOAUTH*) ;; *) break ;; esac
  done <"$credentials/bootstrap-password"
  printf '%s\n' "$answer"
}

# here_ask COMMAND...: one command to this pod's own server
here_ask() {
  talk 127.0.0.1 "" "$@"
}

# pods: the addresses of all pods, ready or not, as DNS gives them for the headless Service
pods() {
  [ -n "${SERVICE:-}" ] || return 0
  timeout 5 getent ahosts "$SERVICE" | awk '!seen[$1]++ { print $1 }'
}

# number FIELD: the number of that field in the INFO or CLUSTER INFO on standard input
number() {
  sed -n "s/^$1:\([0-9]*\).*/\1/p"
}
