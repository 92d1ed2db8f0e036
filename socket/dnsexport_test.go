package socket

import "golang.org/x/net/dns/dnsmessage"

// ParseDNS reads a message as an answer, for the fuzzer.
func ParseDNS(b []byte, id uint16, q dnsmessage.Question) int {
	var m dnsmessage.Message
	if !parse(&m, b, id, q) {
		return 0
	}
	return len(answers(&m, q))
}
