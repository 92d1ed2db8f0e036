#!/bin/sh
# Makes the TAP that a stack opens and joins it to the bridge that bridge.sh has
# made, or takes it away again. Needs root and the ip program.
#
#   [TAP=tap7] [BRIDGE=br0] [OWNER=$SUDO_USER] tap.sh up
#   [TAP=tap7] tap.sh down
#
# The settings are environment variables (`make tap TAP=tap9` sets one as well).
# OWNER may open the TAP without being root. Only a TAP that this script has
# made is removed. Both commands may be repeated.
set -eu

TAP=${TAP:-tap7}
BRIDGE=${BRIDGE:-br0}
OWNER=${OWNER-${SUDO_USER:-}}
MARK="tapstack tap"
# How many frames may wait for the stack, beyond which they are lost: a receive
# window of 6 MiB is 4345 of 1448 bytes, where Linux makes room for 1000.
QUEUE=5000

die() {
	echo "tap.sh: $*" >&2
	exit 1
}

exists() { ip link show dev "$1" >/dev/null 2>&1; }

up() {
	ip -o link show dev "$BRIDGE" type bridge 2>/dev/null | grep -q . ||
		die "there is no bridge $BRIDGE; run bridge.sh up first"
	if ! exists "$TAP"; then
		if [ -n "$OWNER" ]; then
			ip tuntap add dev "$TAP" mode tap user "$OWNER"
		else
			ip tuntap add dev "$TAP" mode tap
		fi
		ip link set dev "$TAP" alias "$MARK" txqueuelen "$QUEUE"
		# The address that counts is the stack's, so the kernel needs none on
		# this end; not every ip program can say so.
		ip link set dev "$TAP" addrgenmode none 2>/dev/null || :
		echo "made $TAP"
	fi
	ip -d link show dev "$TAP" | grep -q 'tun type tap' || die "$TAP is not a TAP"
	ip link set dev "$TAP" master "$BRIDGE"
	ip link set dev "$TAP" up
}

down() {
	exists "$TAP" || return 0
	if ! ip -d link show dev "$TAP" | grep -q "alias $MARK"; then
		echo "$TAP was not made by this script, it stays"
		return 0
	fi
	ip link del dev "$TAP"
	echo "removed $TAP"
}

# Settings behind the command would be ignored, so nothing may stand there.
[ $# -le 1 ] || set --
case ${1:-} in
up) up ;;
down) down ;;
*)
	echo "usage: [TAP=tap7] [BRIDGE=br0] [OWNER=user] $0 up|down" >&2
	exit 2
	;;
esac
