package ipv6

// RouterAlertLen is the length in bytes of the header PutRouterAlertHBH writes.
const RouterAlertLen = 8

// PutRouterAlertHBH writes a hop-by-hop header of RouterAlertLen bytes with the
// router alert for MLD, of value 0 (RFC 2711 §2.1), followed by ICMPv6. MLD is
// what RFC 6398 §4 leaves that option for: it does not leave the link.
func PutRouterAlertHBH(b []byte) {
	copy(b, []byte{ProtoICMPv6, 0, optRouterAlert, 2, 0, 0, optPadN, 0})
}
