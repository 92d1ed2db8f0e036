package pktscript

import (
	"fmt"
	"syscall"
)

// This file owns the names of the kernel's interface with Linux's numbers.

// symbols are the names that stand for a number in arguments and results.
var symbols = map[string]int64{
	"NULL": 0,

	"AF_UNSPEC": 0, "AF_INET": 2, "AF_INET6": 10,
	"SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3, "SOCK_NONBLOCK": 0x800, "SOCK_CLOEXEC": 0x80000,
	"IPPROTO_IP": 0, "IPPROTO_ICMP": 1, "IPPROTO_TCP": 6, "IPPROTO_UDP": 17, "IPPROTO_IPV6": 41, "IPPROTO_ICMPV6": 58,
	"SHUT_RD": 0, "SHUT_WR": 1, "SHUT_RDWR": 2,

	"SOL_IP": 0, "SOL_SOCKET": 1, "SOL_TCP": 6, "SOL_UDP": 17, "SOL_IPV6": 41,
	"SO_DEBUG": 1, "SO_REUSEADDR": 2, "SO_TYPE": 3, "SO_ERROR": 4, "SO_DONTROUTE": 5, "SO_BROADCAST": 6, "SO_SNDBUF": 7,
	"SO_RCVBUF": 8, "SO_KEEPALIVE": 9, "SO_OOBINLINE": 10, "SO_PRIORITY": 12, "SO_LINGER": 13, "SO_REUSEPORT": 15,
	"SO_RCVLOWAT": 18, "SO_SNDLOWAT": 19, "SO_RCVTIMEO": 20, "SO_SNDTIMEO": 21, "SO_ACCEPTCONN": 30, "SO_SNDBUFFORCE": 32,
	"SO_RCVBUFFORCE": 33, "SO_MARK": 36, "SO_TIMESTAMPING": 37, "SO_PROTOCOL": 38, "SO_DOMAIN": 39, "SO_BUSY_POLL": 46,
	"SO_MAX_PACING_RATE": 47, "SO_ZEROCOPY": 60,
	"IP_TOS": 1, "IP_TTL": 2, "IP_MTU_DISCOVER": 10, "IP_RECVERR": 11, "IP_MTU": 14, "IP_FREEBIND": 15,
	"IP_PMTUDISC_DONT": 0, "IP_PMTUDISC_WANT": 1, "IP_PMTUDISC_DO": 2, "IP_PMTUDISC_PROBE": 3,
	"IPV6_UNICAST_HOPS": 16, "IPV6_MTU_DISCOVER": 23, "IPV6_MTU": 24, "IPV6_RECVERR": 25, "IPV6_V6ONLY": 26, "IPV6_TCLASS": 67,
	"TCP_NODELAY": 1, "TCP_MAXSEG": 2, "TCP_CORK": 3, "TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6,
	"TCP_SYNCNT": 7, "TCP_LINGER2": 8, "TCP_DEFER_ACCEPT": 9, "TCP_WINDOW_CLAMP": 10, "TCP_INFO": 11, "TCP_QUICKACK": 12,
	"TCP_CONGESTION": 13, "TCP_MD5SIG": 14, "TCP_THIN_LINEAR_TIMEOUTS": 16, "TCP_THIN_DUPACK": 17, "TCP_USER_TIMEOUT": 18,
	"TCP_REPAIR": 19, "TCP_FASTOPEN": 23, "TCP_TIMESTAMP": 24, "TCP_NOTSENT_LOWAT": 25, "TCP_CC_INFO": 26, "TCP_SAVE_SYN": 27,
	"TCP_SAVED_SYN": 28, "TCP_FASTOPEN_CONNECT": 30, "TCP_ULP": 31, "TCP_FASTOPEN_KEY": 33, "TCP_FASTOPEN_NO_COOKIE": 34,
	"TCP_ZEROCOPY_RECEIVE": 35, "TCP_INQ": 36, "TCP_TX_DELAY": 37,

	"MSG_OOB": 1, "MSG_PEEK": 2, "MSG_DONTROUTE": 4, "MSG_CTRUNC": 8, "MSG_TRUNC": 0x20, "MSG_DONTWAIT": 0x40, "MSG_EOR": 0x80,
	"MSG_WAITALL": 0x100, "MSG_ERRQUEUE": 0x2000, "MSG_NOSIGNAL": 0x4000, "MSG_MORE": 0x8000, "MSG_ZEROCOPY": 0x4000000,
	"MSG_FASTOPEN": 0x20000000,

	"F_GETFL": 3, "F_SETFL": 4, "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_NONBLOCK": 0x800, "O_CLOEXEC": 0x80000,
	"FIONREAD": 0x541b, "SIOCINQ": 0x541b, "SIOCOUTQ": 0x5411, "TIOCOUTQ": 0x5411, "SIOCOUTQNSD": 0x894b, "SIOCATMARK": 0x8905,
	"FIONBIO": 0x5421,

	"POLLIN": 1, "POLLPRI": 2, "POLLOUT": 4, "POLLERR": 8, "POLLHUP": 16, "POLLNVAL": 32, "POLLRDNORM": 64, "POLLWRNORM": 256,
	"POLLRDHUP": 0x2000,
	"EPOLLIN":   1, "EPOLLPRI": 2, "EPOLLOUT": 4, "EPOLLERR": 8, "EPOLLHUP": 16, "EPOLLRDNORM": 64, "EPOLLWRNORM": 256,
	"EPOLLRDHUP": 0x2000, "EPOLLONESHOT": 1 << 30, "EPOLLET": 1 << 31,
	"EPOLL_CTL_ADD": 1, "EPOLL_CTL_DEL": 2, "EPOLL_CTL_MOD": 3,
}

// codeSymbols are the names that assertions know besides the fields of
// tcp_info.
var codeSymbols = map[string]int64{
	"TCP_ESTABLISHED": 1, "TCP_SYN_SENT": 2, "TCP_SYN_RECV": 3, "TCP_FIN_WAIT1": 4, "TCP_FIN_WAIT2": 5, "TCP_TIME_WAIT": 6,
	"TCP_CLOSE": 7, "TCP_CLOSE_WAIT": 8, "TCP_LAST_ACK": 9, "TCP_LISTEN": 10, "TCP_CLOSING": 11,
	"TCPI_ESTABLISHED": 1, "TCPI_SYN_SENT": 2, "TCPI_SYN_RECEIVED": 3, "TCPI_FIN_WAIT_1": 4, "TCPI_FIN_WAIT_2": 5,
	"TCPI_TIME_WAIT": 6, "TCPI_CLOSED": 7, "TCPI_CLOSE_WAIT": 8, "TCPI_LAST_ACK": 9, "TCPI_LISTEN": 10, "TCPI_CLOSING": 11, // FreeBSD's
	"TCP_CA_Open": 0, "TCP_CA_Disorder": 1, "TCP_CA_CWR": 2, "TCP_CA_Recovery": 3, "TCP_CA_Loss": 4,
	"TCPI_OPT_TIMESTAMPS": 1, "TCPI_OPT_SACK": 2, "TCPI_OPT_WSCALE": 4, "TCPI_OPT_ECN": 8, "TCPI_OPT_ECN_SEEN": 16,
	"TCPI_OPT_SYN_DATA": 32, "TCPI_OPT_USEC_TS": 64, "TCPI_OPT_TFO_CHILD": 128,
}

// errnos are the errors that scripts name.
var errnos = map[string]syscall.Errno{
	"EPERM": syscall.EPERM, "ENOENT": syscall.ENOENT, "EINTR": syscall.EINTR, "EIO": syscall.EIO, "EBADF": syscall.EBADF,
	"EAGAIN": syscall.EAGAIN, "EWOULDBLOCK": syscall.EAGAIN, "ENOMEM": syscall.ENOMEM, "EACCES": syscall.EACCES,
	"EFAULT": syscall.EFAULT, "EINVAL": syscall.EINVAL, "EPIPE": syscall.EPIPE, "EDOM": syscall.EDOM,
	"ENOTSOCK": syscall.ENOTSOCK, "EDESTADDRREQ": syscall.EDESTADDRREQ, "EMSGSIZE": syscall.EMSGSIZE,
	"EPROTOTYPE": syscall.EPROTOTYPE, "ENOPROTOOPT": syscall.ENOPROTOOPT, "EPROTONOSUPPORT": syscall.EPROTONOSUPPORT,
	"EPROTO": syscall.EPROTO, "EOPNOTSUPP": syscall.EOPNOTSUPP, "EAFNOSUPPORT": syscall.EAFNOSUPPORT,
	"EADDRINUSE": syscall.EADDRINUSE, "EADDRNOTAVAIL": syscall.EADDRNOTAVAIL, "ENETDOWN": syscall.ENETDOWN,
	"ENETUNREACH": syscall.ENETUNREACH, "ENETRESET": syscall.ENETRESET, "ECONNABORTED": syscall.ECONNABORTED,
	"ECONNRESET": syscall.ECONNRESET, "ENOBUFS": syscall.ENOBUFS, "EISCONN": syscall.EISCONN, "ENOTCONN": syscall.ENOTCONN,
	"ETIMEDOUT": syscall.ETIMEDOUT, "ECONNREFUSED": syscall.ECONNREFUSED, "EHOSTDOWN": syscall.EHOSTDOWN,
	"EHOSTUNREACH": syscall.EHOSTUNREACH, "EALREADY": syscall.EALREADY, "EINPROGRESS": syscall.EINPROGRESS,
	"ENOSPC": syscall.ENOSPC, "ENOSYS": syscall.ENOSYS,
}

// errnoName returns the name of an error as scripts write it.
func errnoName(e syscall.Errno) string {
	for n, x := range errnos {
		if x == e && n != "EWOULDBLOCK" {
			return n
		}
	}
	return fmt.Sprintf("errno %d", int(e))
}

// number returns the value of an expression of numbers and names.
func (e *Expr) number() (int64, error) {
	switch e.Kind {
	case ExprInt:
		return e.Int, nil
	case ExprWord:
		if n, ok := symbols[e.Text]; ok {
			return n, nil
		}
		if n, ok := codeSymbols[e.Text]; ok {
			return n, nil
		}
		if n, ok := errnos[e.Text]; ok {
			return int64(n), nil
		}
		return 0, &Unsupported{Reason: e.Text}
	case ExprOr:
		n := int64(0)
		for _, x := range e.List {
			m, err := x.number()
			if err != nil {
				return 0, err
			}
			n |= m
		}
		return n, nil
	case ExprList:
		if len(e.List) == 1 {
			return e.List[0].number()
		}
	}
	return 0, fmt.Errorf("%s is no number", e)
}

// icmpName is a name of an ICMP type or code in one family.
type icmpName struct {
	v6   bool
	name string
}

// icmpTypes are the names of types. ICMPv6 lacks some and has others.
var icmpTypes = map[icmpName]uint8{
	{false, "echo_reply"}: 0, {false, "unreachable"}: 3, {false, "source_quench"}: 4, {false, "redirect"}: 5,
	{false, "echo_request"}: 8, {false, "time_exceeded"}: 11, {false, "parameter_problem"}: 12,
	{false, "timestamp_request"}: 13, {false, "timestamp_reply"}: 14,
	{true, "unreachable"}: 1, {true, "packet_too_big"}: 2, {true, "time_exceeded"}: 3, {true, "parameter_problem"}: 4,
	{true, "echo_request"}: 128, {true, "echo_reply"}: 129,
}

// icmpCodes are the names of codes, each of which belongs to one type.
var icmpCodes = map[icmpName]uint8{
	{false, "net_unreachable"}: 0, {false, "host_unreachable"}: 1, {false, "protocol_unreachable"}: 2,
	{false, "port_unreachable"}: 3, {false, "frag_needed"}: 4, {false, "source_route_failed"}: 5, {false, "net_unknown"}: 6,
	{false, "host_unknown"}: 7, {false, "source_host_isolated"}: 8, {false, "net_prohibited"}: 9,
	{false, "host_prohibited"}: 10, {false, "net_unreachable_for_tos"}: 11, {false, "host_unreachable_for_tos"}: 12,
	{false, "packet_filtered"}: 13, {false, "precedence_violation"}: 14, {false, "precedence_cutoff"}: 15,
	{false, "ttl_exceeded_in_transit"}: 0, {false, "ttl_exceeded"}: 0, {false, "frag_time_exceeded"}: 1,
	{true, "net_unreachable"}: 0, {true, "no_route"}: 0, {true, "admin_prohibited"}: 1, {true, "not_neighbour"}: 2,
	{true, "address_unreachable"}: 3, {true, "port_unreachable"}: 4,
	{true, "exceeded_hop_limit"}: 0, {true, "exceeded_frag_time"}: 1,
	{true, "header_field"}: 0, {true, "unknown_next_header"}: 1, {true, "unknown_option"}: 2,
}
