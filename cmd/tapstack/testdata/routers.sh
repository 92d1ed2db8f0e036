# Routers around the lab's kernel host, which forwards:
#
#   stack 10.77.0.7 -- R 10.77.0.1 --+-- M1 10.81.0.2 --+-- S 8.8.8.8 2001:4860:4860::8888
#                                    +-- M2 10.82.0.2 --+
#
# Flows are shared out between M1 and M2. Towards 8.8.4.4 the line behind M1
# carries 1400 bytes. 8.8.254.254 is a black hole. The arguments are processes
# in the namespaces of M1, M2 and S. With a fourth, the ways from R to M1 and M2
# are cut, and somebody has to carry frames between x1 and y1, and x2 and y2.
. "${0%/*}/router.sh"
sh -c "$router"
echo 1 >/proc/sys/net/ipv4/fib_multipath_hash_policy
echo 1 >/proc/sys/net/ipv6/fib_multipath_hash_policy
for i in 1 2; do
	eval m=\$$i
	if [ -z "$4" ]; then
		ip link add r$i type veth peer name m$i
	else
		ip link add r$i type veth peer name x$i
		ip link add y$i type veth peer name m$i
		for end in x$i y$i; do
			echo 1 >/proc/sys/net/ipv6/conf/$end/disable_ipv6
			ip link set $end up
		done
	fi
	ip link set m$i netns $m
	at $m ip link add s$i type veth peer name t$i
	at $m ip link set t$i netns $3
	at $m sh -c "$router"
	ip addr add 10.8$i.0.1/24 dev r$i
	ip addr add fd8$i::1/64 dev r$i nodad
	ip link set r$i up
	at $m ip addr add 10.8$i.0.2/24 dev m$i
	at $m ip addr add fd8$i::2/64 dev m$i nodad
	at $m ip link set m$i up
	at $m ip addr add 10.9$i.0.1/24 dev s$i
	at $m ip addr add fd9$i::1/64 dev s$i nodad
	at $m ip link set s$i up
	at $3 ip addr add 10.9$i.0.2/24 dev t$i
	at $3 ip addr add fd9$i::2/64 dev t$i nodad
	at $3 ip link set t$i up
	at $m ip route add 10.77.0.0/24 via 10.8$i.0.1
	at $m ip -6 route add fd77::/64 via fd8$i::1
	at $m ip route add 8.8.0.0/16 via 10.9$i.0.2
	at $m ip -6 route add 2001:4860::/32 via fd9$i::2
done
at $1 ip link add s3 mtu 1400 type veth peer name t3 mtu 1400
at $1 ip link set t3 netns $3
at $1 ip addr add 10.93.0.1/24 dev s3
at $1 ip link set s3 up
at $3 ip addr add 10.93.0.2/24 dev t3
at $3 ip link set t3 up
at $1 ip route add 8.8.4.0/24 via 10.93.0.2
at $3 sh -c "$router"
at $3 ip addr add 8.8.8.8/32 dev lo
at $3 ip addr add 8.8.4.4/32 dev lo
at $3 ip addr add 2001:4860:4860::8888/128 dev lo nodad
at $3 ip route add 10.77.0.0/24 via 10.91.0.1
at $3 ip -6 route add fd77::/64 via fd91::1
ip route add 8.8.0.0/16 nexthop via 10.81.0.2 nexthop via 10.82.0.2
ip -6 route add 2001:4860::/32 nexthop via fd81::2 nexthop via fd82::2
ip route add 8.8.4.0/24 via 10.81.0.2
ip route add blackhole 8.8.254.254/32
