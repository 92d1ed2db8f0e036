package icmp

import "syscall"

// This file owns what an error message means to the socket that sent the
// quoted packet. RFC 1122 §4.1.3.3 and §4.2.3.9 leave the choice of errors;
// these are Linux's (icmp(7), its icmp_err_convert and icmpv6_err_convert).

type meaning struct {
	errno syscall.Errno
	hard  bool
}

var unreachable4 = [...]meaning{
	CodeNet4:           {syscall.ENETUNREACH, false},
	CodeHost4:          {syscall.EHOSTUNREACH, false},
	CodeProtocol4:      {syscall.ENOPROTOOPT, true},
	CodePort4:          {syscall.ECONNREFUSED, true},
	CodeFragNeeded4:    {syscall.EMSGSIZE, false},
	CodeSourceRoute4:   {syscall.EOPNOTSUPP, false},
	CodeNetUnknown4:    {syscall.ENETUNREACH, true},
	CodeHostUnknown4:   {syscall.EHOSTDOWN, true},
	CodeHostIsolated4:  {errNoNet, true},
	CodeNetProhibited4: {syscall.ENETUNREACH, true},
	CodeHostProhibit4:  {syscall.EHOSTUNREACH, true},
	CodeNetTOS4:        {syscall.ENETUNREACH, false},
	CodeHostTOS4:       {syscall.EHOSTUNREACH, false},
	CodeFiltered4:      {syscall.EHOSTUNREACH, true},
	CodePrecedence4:    {syscall.EHOSTUNREACH, true},
	CodePrecCutoff4:    {syscall.EHOSTUNREACH, true},
}

var unreachable6 = [...]meaning{
	CodeNoRoute6:     {syscall.ENETUNREACH, false},
	CodeProhibited6:  {syscall.EACCES, true},
	CodeScope6:       {syscall.EHOSTUNREACH, false},
	CodeAddress6:     {syscall.EHOSTUNREACH, false},
	CodePort6:        {syscall.ECONNREFUSED, true},
	CodePolicy6:      {syscall.EACCES, true},
	CodeRejectRoute6: {syscall.EACCES, true},
}

// Errno returns the error of a message. A hard one means that trying again is
// pointless: UDP and raw sockets report it to the next call. TCP takes every
// error of an established connection as soft (RFC 1122 §4.2.3.9, RFC 5461).
// ok is false when the message is no error, or one that sockets do not see
// (source quench, redirect).
func Errno(v6 bool, typ, code uint8) (errno syscall.Errno, hard bool, ok bool) {
	if v6 {
		return errno6(typ, code)
	}
	switch typ {
	case TypeUnreachable4:
		if int(code) < len(unreachable4) {
			m := unreachable4[code]
			return m.errno, m.hard, true
		}
	case TypeTimeExceeded4:
		return syscall.EHOSTUNREACH, false, true
	case TypeParamProblem4:
		return syscall.EPROTO, true, true
	}
	return 0, false, false
}

func errno6(typ, code uint8) (syscall.Errno, bool, bool) {
	switch typ {
	case TypeUnreachable6:
		if int(code) < len(unreachable6) {
			m := unreachable6[code]
			return m.errno, m.hard, true
		}
		return syscall.EPROTO, true, true
	case TypeTooBig6:
		return syscall.EMSGSIZE, false, true
	case TypeTimeExceeded6:
		return syscall.EHOSTUNREACH, false, true
	case TypeParamProblem6:
		return syscall.EPROTO, true, true
	}
	return 0, false, false
}
