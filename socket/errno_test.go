package socket_test

import "syscall"

// errnos names what the calls return.
var errnos = map[syscall.Errno]string{
	syscall.EACCES: "EACCES", syscall.EADDRINUSE: "EADDRINUSE", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL",
	syscall.EAFNOSUPPORT: "EAFNOSUPPORT", syscall.EAGAIN: "EAGAIN", syscall.EALREADY: "EALREADY", syscall.EBADF: "EBADF",
	syscall.ECONNABORTED: "ECONNABORTED", syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET",
	syscall.EDESTADDRREQ: "EDESTADDRREQ", syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.EINPROGRESS: "EINPROGRESS",
	syscall.EINVAL: "EINVAL", syscall.EISCONN: "EISCONN", syscall.EMSGSIZE: "EMSGSIZE", syscall.ENOTTY: "ENOTTY", syscall.ENETDOWN: "ENETDOWN",
	syscall.ENETUNREACH: "ENETUNREACH", syscall.ENOPROTOOPT: "ENOPROTOOPT", syscall.ENOTCONN: "ENOTCONN",
	syscall.EOPNOTSUPP: "EOPNOTSUPP", syscall.EPERM: "EPERM", syscall.EPIPE: "EPIPE",
	syscall.ENODEV: "ENODEV", syscall.ENOBUFS: "ENOBUFS",
	syscall.EPROTONOSUPPORT: "EPROTONOSUPPORT", syscall.ESOCKTNOSUPPORT: "ESOCKTNOSUPPORT", syscall.ETIMEDOUT: "ETIMEDOUT",
}
