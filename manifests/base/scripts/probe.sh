#!/bin/sh
# probe.sh ready: this server answers commands. probe.sh alive: it answers at all, be it that it loads its data,
# waits for its primary or runs a long script. NOAUTH is an answer: a new password is no reason for a restart.
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

reply=$(here_ask ping)
case $1:$reply in
  *:*PONG* | *:*NOAUTH*) exit 0 ;;
  alive:*LOADING* | alive:*MASTERDOWN* | alive:*BUSY*) exit 0 ;;
esac
echo "$reply"
exit 1
