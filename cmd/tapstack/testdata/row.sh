# Three routers in a row, the first of them the lab's kernel host, and a host:
#
#   stack 10.77.0.7 -- R 10.77.0.1 -- A 10.81.0.2 -- B 10.82.0.2 -- S 10.83.0.2
#             fd77::7    fd77::1        fd81::2        fd82::2        fd83::2
#
# The arguments are processes in the namespaces of A, B and S.
. "${0%/*}/router.sh"
sh -c "$router"
for pid in $1 $2 $3; do at $pid sh -c "$router"; done
ip link add east type veth peer name west netns $1
ip addr add 10.81.0.1/24 dev east
ip addr add fd81::1/64 dev east nodad
ip link set east up
at $1 ip link add east type veth peer name west netns $2
at $2 ip link add east type veth peer name west netns $3
n=81
for pid in $1 $2 $3; do
	at $pid ip addr add 10.$n.0.2/24 dev west
	at $pid ip addr add fd$n::2/64 dev west nodad
	at $pid ip link set west up
	at $pid ip route add default via 10.$n.0.1
	at $pid ip -6 route add default via fd$n::1
	n=$((n + 1))
	[ $pid = $3 ] && break
	at $pid ip addr add 10.$n.0.1/24 dev east
	at $pid ip addr add fd$n::1/64 dev east nodad
	at $pid ip link set east up
done
for n in 82 83; do
	ip route add 10.$n.0.0/24 via 10.81.0.2
	ip -6 route add fd$n::/64 via fd81::2
done
at $1 ip route add 10.83.0.0/24 via 10.82.0.2
at $1 ip -6 route add fd83::/64 via fd82::2
