#!/bin/sh
# Makes the bridge that stacks join with their TAPs (see tap.sh), or takes it
# away again. Needs root and the ip program.
#
#   [BRIDGE=br0] [ADDRESS="10.77.0.1/24 fd77::1/64"] [UPLINK=eth0] bridge.sh up
#   [BRIDGE=br0] [UPLINK=eth0] bridge.sh down
#
# The settings are environment variables (`make bridge UPLINK=eth0` sets one as
# well). Without UPLINK the bridge stands alone
# and ADDRESS makes this machine a host on it. With UPLINK=eth0 that interface
# becomes a port of the bridge and its addresses and routes move to the bridge,
# so that the stacks are on the same network as this machine:
#
#   router --- eth0 [br0: this machine] tap7 --- stack
#
# No interface but the one named is touched, and only a bridge that this script
# has made is removed. Both commands may be repeated.
set -eu

BRIDGE=${BRIDGE:-br0}
UPLINK=${UPLINK:-}
if [ -z "$UPLINK" ]; then
	ADDRESS=${ADDRESS-10.77.0.1/24 fd77::1/64}
else
	ADDRESS=${ADDRESS-}
fi
MARK="tapstack bridge"

die() {
	echo "bridge.sh: $*" >&2
	exit 1
}

exists() { ip link show dev "$1" >/dev/null 2>&1; }

# show FIELD DEV prints the word that follows FIELD in DEV's description.
show() {
	ip -o -d link show dev "$2" | tr ' \\' '\n\n' | sed -n "/^$1\$/{n;p;q;}"
}

is_bridge() { ip -o link show dev "$1" type bridge 2>/dev/null | grep -q .; }

is_ours() { ip -d link show dev "$1" | grep -q "alias $MARK"; }

# routes FAMILY DEV lists the routes that somebody has set on DEV.
routes() {
	ip "$1" route show dev "$2" | grep -v -e 'proto kernel' -e 'proto ra' | sed 's/ linkdown//; s/ dead//' || :
}

# addresses FAMILY DEV lists those that do not come again by themselves, as the
# ones do that an IPv6 router hands out.
addresses() {
	ip -o "$1" addr show dev "$2" scope global |
		if [ "$1" = -6 ]; then grep -v ' dynamic'; else cat; fi |
		sed 's/^[0-9]*: *[^ ]* *inet6* *\([^ ]*\).*/\1/'
}

# move FROM TO moves addresses and the routes that hang on them.
move() {
	for family in -4 -6; do
		saved=$(routes $family "$1")
		for a in $(addresses $family "$1"); do
			ip $family addr replace "$a" dev "$2"
			# It may have gone together with the first of its network.
			ip $family addr del "$a" dev "$1" 2>/dev/null || :
		done
		# Routes that need no gateway have to be there before the others.
		for pass in direct via; do
			echo "$saved" | while read -r route; do
				[ -n "$route" ] || continue
				case $pass:$route in
				direct:*' via '* | direct:*' nexthop '*) continue ;;
				via:*' via '*) ;;
				via:*) continue ;;
				esac
				# The words of a route are separate arguments.
				# shellcheck disable=SC2086
				ip $family route replace $route dev "$2"
			done
		done
	done
}

up() {
	if ! exists "$BRIDGE"; then
		ip link add name "$BRIDGE" type bridge
		ip link set dev "$BRIDGE" alias "$MARK"
		for a in $ADDRESS; do
			ip addr add "$a" dev "$BRIDGE"
		done
		echo "made $BRIDGE"
	fi
	is_bridge "$BRIDGE" || die "$BRIDGE is not a bridge"
	ip link set dev "$BRIDGE" up
	[ -n "$UPLINK" ] || return 0
	exists "$UPLINK" || die "there is no interface $UPLINK"
	case $(show master "$UPLINK") in
	"$BRIDGE") return 0 ;;
	'') ;;
	*) die "$UPLINK belongs to $(show master "$UPLINK") already" ;;
	esac
	ip link set dev "$UPLINK" up
	ip link set dev "$UPLINK" master "$BRIDGE"
	move "$UPLINK" "$BRIDGE"
	echo "joined $UPLINK to $BRIDGE"
}

down() {
	exists "$BRIDGE" || return 0
	is_bridge "$BRIDGE" || die "$BRIDGE is not a bridge"
	if [ -n "$UPLINK" ] && exists "$UPLINK" && [ "$(show master "$UPLINK")" = "$BRIDGE" ]; then
		ip link set dev "$UPLINK" nomaster
		move "$BRIDGE" "$UPLINK"
		echo "took $UPLINK off $BRIDGE"
	fi
	if ! is_ours "$BRIDGE"; then
		echo "$BRIDGE was not made by this script, it stays"
		return 0
	fi
	ports=$(ip -o link show master "$BRIDGE" | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | tr '\n' ' ')
	for p in $ports; do
		ip -o -d link show dev "$p" | grep -q 'tun type tap' ||
			die "$p is a port of $BRIDGE and its addresses may be there; say UPLINK=$p, or take it off first"
	done
	ip link del dev "$BRIDGE"
	echo "removed $BRIDGE"
}

# Settings behind the command would be ignored, so nothing may stand there.
[ $# -le 1 ] || set --
case ${1:-} in
up) up ;;
down) down ;;
*)
	echo "usage: [BRIDGE=br0] [ADDRESS=...] [UPLINK=eth0] $0 up|down" >&2
	exit 2
	;;
esac
