"""Sends a host IP fragments of every shape and tells what it answers.

usage: fragments.py INTERFACE DESTINATION-MAC

The host is 10.77.0.7 and fd77::7. Each case is followed by an echo request in
one piece: since a host answers in order, everything that comes before its
reply is the answer to the case, and nothing has to be waited for. What is not
whole the host gives up half a minute or a minute later, while another case is
tried on a slow machine: that is the answer to none. Prints a JSON object: "IPv4 case" -> list of answers.
"""
import itertools
import json
import logging
import select
import socket
import struct
import sys
import time

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
from scapy.layers.inet import IP, IPOption, ICMP, TCP  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    IPv6, ICMPv6EchoRequest, ICMPv6ND_NS, IPv6ExtHdrFragment, IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop, in6_chksum, PadN)
from scapy.compat import raw  # noqa: E402

IFACE, HOST_MAC = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
MY_MAC = bytes.fromhex("020000000066")
HOST = {4: "10.77.0.7", 6: "fd77::7"}
ME = {4: "10.77.0.66", 6: "fd77::66"}
PACKED = {4: socket.inet_pton(socket.AF_INET, ME[4]), 6: socket.inet_pton(socket.AF_INET6, ME[6])}
LINK_LOCAL = socket.inet_pton(socket.AF_INET6, "fe80::66")
ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
CLOSED = 9  # a TCP port on which nobody listens

sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
sock.bind((IFACE, 0))
poll = select.poll()
poll.register(sock, select.POLLIN)
results = {}
counter = itertools.count(1)


def checksum(b):
    if len(b) % 2:
        b += b"\0"
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def frame(v, packet, mac=HOST_MAC):
    sock.send(mac + MY_MAC + ETHERTYPE[v] + packet)


def solicited(b):
    """Answers an ARP request or a neighbour solicitation for our addresses."""
    if b[12:14] == b"\x08\x06" and b[20:22] == b"\0\1" and b[38:42] == PACKED[4]:
        sock.send(b[6:12] + MY_MAC + b[12:20] + b"\0\2" + MY_MAC + PACKED[4] + b[22:32])
        return True
    if b[12:14] == b"\x86\xdd" and b[20] == 58 and b[54] == 135 and b[62:78] in (PACKED[6], LINK_LOCAL):
        src, dst = b[62:78], b[22:38]
        m = b"\x88\0\0\0\x60\0\0\0" + src + b"\2\1" + MY_MAC
        m = m[:2] + struct.pack("!H", in6_chksum(58, IPv6(src=socket.inet_ntop(10, src), dst=socket.inet_ntop(10, dst)), m)) + m[4:]
        sock.send(b[6:12] + MY_MAC + ETHERTYPE[6] + struct.pack("!IHBB", 6 << 28, len(m), 58, 255) + src + dst + m)
        return True
    return False


def echo(v, data, seq=1, ident=0x7070):
    """An echo request as bytes, from its ICMP header on."""
    if v == 4:
        return raw(ICMP(type=8, id=ident, seq=seq) / data)
    return raw(IPv6(src=ME[6], dst=HOST[6]) / ICMPv6EchoRequest(id=ident, seq=seq, data=data))[40:]


def describe(b):
    """What a frame to us answers, or None."""
    if b[:6] != MY_MAC:
        return None
    if b[12:14] == ETHERTYPE[4]:
        ip = b[14:14 + struct.unpack("!H", b[16:18])[0]]
        if ip[16:20] != PACKED[4]:
            return None
        hl, proto, v, ecn = (ip[0] & 15) * 4, ip[9], 4, ip[1] & 3
        if struct.unpack("!H", ip[6:8])[0] & 0x1fff:
            return ""  # the rest of a long reply
    elif b[12:14] == ETHERTYPE[6]:
        ip = b[14:54 + struct.unpack("!H", b[18:20])[0]]
        if ip[24:40] not in (PACKED[6], LINK_LOCAL):
            return None
        hl, proto, v, ecn = 40, ip[6], 6, ip[1] >> 4 & 3
        if proto == 44:
            hl, proto = 48, ip[40]
            if struct.unpack("!H", ip[42:44])[0] & 0xfff8:
                return ""
    else:
        return None
    t = ip[hl:]
    if proto == 6:
        return "RST" if t[13] & 4 else "SYN-ACK" if t[13] & 18 == 18 else "TCP"
    if proto not in (1, 58):
        return "protocol %d" % proto
    if t[0] == 0 and v == 4 or t[0] == 129:
        ident, seq = struct.unpack("!HH", t[4:8])
        if ident == 0x5e5e:
            return ("sentinel", seq)
        return "reply %s" % told(t[8:]) + (" ecn %d" % ecn if ecn else "")
    if (v, t[0], t[1]) in ((4, 11, 1), (6, 3, 1)):
        return ""  # the time for reassembly of an earlier case is over
    if v == 6 and 133 <= t[0] <= 137:
        return "neighbour discovery %d" % t[0]
    s = "error %d:%d" % (t[0], t[1])
    if v == 6 and t[0] == 4:
        s += " at %d" % struct.unpack("!I", t[4:8])
    return s


def told(data):
    """What the two overlapping pieces say, in the order of the bytes."""
    said = "".join(c for c, _ in itertools.groupby(chr(b) for b in data[::8] if b in b"AB"))
    return said if said else "of %d" % len(data)


def case(v, name, packets, mac=HOST_MAC, patience=30.0):
    seq = next(counter) & 0xffff
    for p in packets:
        frame(v, p, mac)
    ping = echo(v, b"", seq, 0x5e5e)
    frame(v, raw(IP(src=ME[4], dst=HOST[4], proto=1) / ping if v == 4 else IPv6(src=ME[6], dst=HOST[6], nh=58) / ping))
    answers, end = [], time.monotonic() + patience
    while True:
        left = end - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            answers.append("DEAD")
            break
        b = sock.recv(1 << 16)
        if b[6:12] == MY_MAC or solicited(b):
            continue
        d = describe(b)
        if d == ("sentinel", seq):
            break
        if d and not isinstance(d, tuple):
            answers.append(d)
    results["IPv%d %s" % (v, name)] = answers
    return answers


ids = itertools.count(0x101)


def piece4(data, at, more, ident, proto=1, flags=0, **fields):
    return raw(IP(src=ME[4], dst=fields.pop("dst", HOST[4]), id=ident & 0xffff, proto=proto, frag=at // 8,
                  flags=(1 if more else 0) | flags, **fields) / data)


def piece6(data, at, more, ident, proto=58, before=None, src=None, **fields):
    base = IPv6(src=src or ME[6], dst=fields.pop("dst", HOST[6]), **fields)
    if before is not None:
        base = base / before
    return raw(base / IPv6ExtHdrFragment(nh=proto, offset=at // 8, m=int(more), id=ident) / data)


def piece(v, *a, **k):
    return piece4(*a, **k) if v == 4 else piece6(*a, **k)


def cut(v, whole, size, ident=None, **k):
    """The datagram in pieces of that size."""
    ident = ident or next(ids)
    return [piece(v, whole[i:i + size], i, i + size < len(whole), ident, **k) for i in range(0, len(whole), size)]


def renumber(v, p, ident):
    """The same fragment of another datagram."""
    if v == 6:
        return p[:44] + struct.pack("!I", ident) + p[48:]
    h = p[:4] + struct.pack("!H", ident & 0xffff) + p[6:10] + b"\0\0" + p[12:20]
    return h[:10] + struct.pack("!H", checksum(h)) + h[12:] + p[20:]


# The thirteen relations of two intervals (Allen). A is [64, 128) of 256 bytes.
RELATIONS = [
    ("A before B", 136, 192), ("A after B", 16, 56), ("A meets B", 128, 192), ("A met by B", 16, 64),
    ("A equals B", 64, 128), ("A overlaps B", 96, 192), ("A overlapped by B", 16, 96),
    ("A starts B", 64, 192), ("A started by B", 64, 96), ("A during B", 16, 192),
    ("A contains B", 72, 120), ("A finishes B", 16, 128), ("A finished by B", 96, 128)]


# The ones' complement sum of both is the same, so that the checksum of a
# datagram is right whichever of two pieces wins.
BLOCKS = {"A": b"AAAA....", "B": b"BBBB----"}


def shapes(v, differ):
    """Every relation in every order, the overlap with the same bytes in both
    pieces or with others."""
    size = 256
    for name, lo, hi in RELATIONS:
        first, last = min((64, 128), (lo, hi)), max((64, 128), (lo, hi))
        parts = {"A": (64, 128), "B": (lo, hi), "h": (0, first[0]), "t": (max(128, hi), size)}
        if first[1] < last[0]:
            parts["g"] = (first[1], last[0])
        data = bytearray(b"." * size)
        if differ:
            for a, b in (parts["A"], parts["B"]):
                data[a:b] = BLOCKS["A"] * ((b - a) // 8)
        whole = echo(v, bytes(data[8:]))
        made = {}
        for k, (a, b) in parts.items():
            text = BLOCKS[k] * ((b - a) // 8) if differ and k in BLOCKS else whole[a:b]
            made[k] = piece(v, text, a, b < size, 0)
        for order in itertools.permutations(sorted(parts)):
            ident = next(ids)
            case(v, "%s, %s bytes, %s" % (name, "other" if differ else "same", "".join(order)),
                 [renumber(v, made[k], ident) for k in order])


def single(v):
    """The shapes that stand alone."""
    def whole(n, **k):
        return echo(v, b"." * (n - 8), **k)

    def do(name, packets, **k):
        return case(v, name, packets, **k)

    def spans(*list_, data=None, ident=None):
        ident = ident or next(ids)
        d = data or whole(512)
        return [piece(v, d[a:b], a, m, ident) for a, b, m in list_]

    do("no fragments", [raw(IP(src=ME[4], dst=HOST[4], proto=1) / whole(64)) if v == 4
                        else raw(IPv6(src=ME[6], dst=HOST[6], nh=58) / whole(64))])
    do("in order", cut(v, whole(3000), 1448))
    do("backwards", cut(v, whole(3000), 1448)[::-1])
    do("three, middle last", [cut(v, whole(3000), 1448, 99)[i] for i in (0, 2, 1)])
    p = cut(v, whole(3000), 1000)
    do("each twice in a row", [p[0], p[0], p[1], p[1], p[2], p[2]])
    p = cut(v, whole(3000), 1000)
    do("all twice", [p[0], p[1], p[0], p[1], p[2], p[2]])
    p = cut(v, whole(3000), 1000)
    do("whole twice", p + p)
    do("pieces of 8 bytes", cut(v, whole(256), 8))
    do("255 pieces of 8 bytes", cut(v, whole(255 * 8), 8))
    do("300 pieces of 8 bytes", cut(v, whole(300 * 8), 8))
    do("largest datagram", cut(v, whole(65515 if v == 4 else 65535), 1448))
    big = b"." * 1440
    head, d = next(ids), whole(1440)
    do("ping of death", [piece(v, d, at, True, head) for at in range(0, 65520, 1440)] + [piece(v, big, 65520, False, head)])
    do("ping of death, last piece alone", [piece(v, big, 65528, False, next(ids))])
    do("beyond the end, not last", [piece(v, big, 65520, True, next(ids))])
    do("teardrop", spans((0, 40, True), (24, 28, False)))
    do("teardrop, reversed", spans((24, 28, False), (0, 40, True)))
    do("nothing in the only piece but more to come", spans((0, 0, True)))
    p = spans((0, 256, True), (256, 256, True), (256, 512, False))
    do("empty piece in the middle", p)
    do("empty last piece", spans((0, 512, True), (512, 512, False)))
    do("empty last piece, then the end again", spans((0, 512, True), (512, 512, False), (504, 512, False)))
    do("length not a multiple of 8", spans((0, 252, True), (248, 512, False)))
    do("length not a multiple of 8, after the end", spans((256, 512, False), (0, 252, True)))
    do("two ends, the later longer", spans((256, 264, False), (264, 512, False), (0, 256, True)))
    do("two ends, the later shorter", spans((264, 512, False), (256, 264, False), (0, 256, True)))
    do("data behind the end", spans((256, 264, False), (264, 512, True), (0, 256, True)))
    do("end before data", spans((264, 512, True), (256, 264, False), (0, 256, True)))
    do("same piece as last and as not last", spans((256, 512, True), (256, 512, False), (0, 256, True)))
    do("first piece in two lengths", spans((0, 256, True), (0, 128, True), (256, 512, False)))
    do("after an overlap all again", spans((0, 256, True), (128, 300, True), (0, 256, True), (256, 512, False)))
    # Interleaved datagrams.
    a, b = spans((0, 256, True), (256, 512, False)), spans((0, 256, True), (256, 512, False))
    do("two datagrams interleaved", [a[0], b[0], b[1], a[1]])
    for x in range(4):
        for y in range(4):
            f = {"tos": x} if v == 4 else {"tc": x}
            g = {"tos": y} if v == 4 else {"tc": y}
            ident, d = next(ids), whole(512)
            do("ECN %d and %d" % (x, y), [piece(v, d[:256], 0, True, ident, **f), piece(v, d[256:], 256, False, ident, **g)])
    # TCP to a closed port: what is in front must be whole for some.
    tcp = raw((IP(src=ME[4], dst=HOST[4]) if v == 4 else IPv6(src=ME[6], dst=HOST[6])) / TCP(sport=4000, dport=CLOSED, flags="S", seq=5))
    tcp = tcp[20 if v == 4 else 40:]
    do("TCP header in pieces of 8 bytes", cut(v, tcp, 8, proto=6))
    p = cut(v, tcp, 16, proto=6)
    do("TCP header cut at 16 bytes, backwards", p[::-1])


def only4():
    v = 4

    def do(name, packets, **k):
        return case(v, name, packets, **k)
    d = echo(4, b"." * 504)
    i = next(ids)
    do("DF and MF", [piece4(d[:256], 0, True, i, flags=2), piece4(d[256:], 256, False, i, flags=2)])
    i = next(ids)
    do("reserved flag", [piece4(d[:256], 0, True, i, flags=4), piece4(d[256:], 256, False, i, flags=4)])
    i = next(ids)
    do("another protocol", [piece4(d[:256], 0, True, i), piece4(d[256:], 256, False, i, proto=17)])
    i = next(ids)
    do("another TTL", [piece4(d[:256], 0, True, i, ttl=3), piece4(d[256:], 256, False, i, ttl=200)])
    i = next(ids)
    opts = [IPOption(b"\x01\x01\x01\x00")]
    do("options in the first piece only", [piece4(d[:256], 0, True, i, options=opts), piece4(d[256:], 256, False, i)])
    i = next(ids)
    do("options in the last piece only", [piece4(d[:256], 0, True, i), piece4(d[256:], 256, False, i, options=opts)])
    i = next(ids)
    long = echo(4, b"." * (65515 - 8))
    first = piece4(long[:1400], 0, True, i, options=[IPOption(b"\x01" * 40)])
    do("largest datagram, options make it too long",
       [piece4(long[a:a + 1400], a, a + 1400 < len(long), i) for a in range(1400, len(long), 1400)] + [first])
    i = next(ids)
    do("to broadcast", [piece4(d[:256], 0, True, i, dst="10.77.0.255"), piece4(d[256:], 256, False, i, dst="10.77.0.255")],
       mac=b"\xff" * 6)
    i = next(ids)
    do("from 255.255.255.255", [raw(IP(src="255.255.255.255", dst=HOST[4], id=i, proto=1, flags=1) / d[:256])])


def only6():
    v = 6

    def do(name, packets, **k):
        return case(v, name, packets, **k)
    d = echo(6, b"." * 504)
    do("atomic", [piece6(d, 0, False, next(ids))])
    i = next(ids)
    do("atomic beside pieces of the same identification",
       [piece6(d[:256], 0, True, i), piece6(d, 0, False, i), piece6(d[256:], 256, False, i)])
    i = next(ids)
    do("reserved bits set", [p[:41] + b"\xff" + p[42:43] + bytes([p[43] | 6]) + p[44:] for p in
                             (piece6(d[:256], 0, True, i), piece6(d[256:], 256, False, i))])
    i = next(ids)
    do("later next header differs", [piece6(d[:256], 0, True, i), piece6(d[256:], 256, False, i, proto=17)])
    i = next(ids)
    do("hop limits differ", [piece6(d[:256], 0, True, i, hlim=3), piece6(d[256:], 256, False, i, hlim=200)])
    i = next(ids)
    hbh = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")])
    do("hop-by-hop header in front", [piece6(d[:256], 0, True, i, before=hbh), piece6(d[256:], 256, False, i, before=hbh)])
    i = next(ids)
    do("hop-by-hop header in front of the first only", [piece6(d[:256], 0, True, i, before=hbh), piece6(d[256:], 256, False, i)])
    i = next(ids)
    do("destination options in front of the second only",
       [piece6(d[:256], 0, True, i), piece6(d[256:], 256, False, i, before=IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")]))])
    dst = bytes([58, 0, 1, 4, 0, 0, 0, 0])
    do("destination options behind", cut(6, dst + d, 256, proto=60))
    do("first piece ends in a destination header", cut(6, bytes([58, 3, 1, 4, 0, 0, 0, 0]) + bytes([0] * 24) + d, 16, proto=60)[:1])
    do("first piece has headers only", cut(6, dst + d, 8, proto=60))
    do("first piece ends before the ICMPv6 header", [piece6(b"", 0, True, next(ids))])
    i = next(ids)
    inner = raw(IPv6ExtHdrFragment(nh=58, offset=0, m=1, id=i) / d[:128])
    do("fragments within fragments", [piece6(inner[:64], 0, True, i, proto=44), piece6(inner[64:], 64, False, i, proto=44)])
    i = next(ids)
    do("atomic within an atomic", [piece6(raw(IPv6ExtHdrFragment(nh=58, offset=0, m=0, id=i) / d), 0, False, i, proto=44)])
    i = next(ids)
    do("no next header, in pieces", [piece6(b"." * 256, 0, True, i, proto=59), piece6(b"." * 256, 256, False, i, proto=59)])
    i = next(ids)
    do("unknown protocol, in pieces", [piece6(b"." * 256, 0, True, i, proto=143), piece6(b"." * 256, 256, False, i, proto=143)])
    # Neighbour discovery must not come in fragments (RFC 6980).
    ns = raw(IPv6(src=ME[6], dst=HOST[6], hlim=255) / ICMPv6ND_NS(tgt=HOST[6]) / b"\x01\x01\x02\0\0\0\0\x66" )[40:]
    i = next(ids)
    do("solicitation in pieces", [piece6(ns[:16], 0, True, i, hlim=255), piece6(ns[16:], 16, False, i, hlim=255)])
    do("solicitation in an atomic fragment", [piece6(ns, 0, False, next(ids), hlim=255)])
    i = next(ids)
    m = raw(IPv6(src=ME[6], dst="ff02::1") / ICMPv6EchoRequest(id=1, seq=1, data=b"." * 504))[40:]
    do("to all nodes", [piece6(m[:256], 0, True, i, dst="ff02::1"), piece6(m[256:], 256, False, i, dst="ff02::1")],
       mac=b"\x33\x33\0\0\0\1")
    do("bad length to all nodes", [piece6(m[:252], 0, True, next(ids), dst="ff02::1")], mac=b"\x33\x33\0\0\0\1")
    do("payload length 0", [piece6(d[:256], 0, True, next(ids))[:4] + b"\0\0" + piece6(d[:256], 0, True, next(ids))[6:]])
    do("fragment header cut short", [raw(IPv6(src=ME[6], dst=HOST[6], nh=44) / b"\x3a\0\0\1")])


for version in (4, 6):
    single(version)
    (only4 if version == 4 else only6)()
    shapes(version, False)
    shapes(version, True)
json.dump(results, sys.stdout)
