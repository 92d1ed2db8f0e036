# What scripts that lay routers begin with: waits until the processes $1, $2 and $3
# are in namespaces of their own; at runs a command in that of one, and $router makes
# a router of it.
set -e
for pid in $1 $2 $3; do
	n=0
	while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do
		n=$((n + 1)); [ $n -lt 1500 ]; sleep 0.02
	done
done
at() { pid=$1; shift; nsenter -t $pid -n "$@"; }
router='echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
echo 0 >/proc/sys/net/ipv6/icmp/ratelimit
echo 10000 >/proc/sys/net/ipv4/icmp_msgs_per_sec
for f in all default; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; echo 0 >/proc/sys/net/ipv6/conf/$f/accept_dad; done
ip link set lo up'
