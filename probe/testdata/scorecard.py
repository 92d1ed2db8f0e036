"""Measures a program that speaks mtr-packet's protocol.

Run where its packets pass, in the network that cmd/tapstack's TestScorecard
lays. The program is in MTR_PACKET, with what it needs to be started before it.
Arguments are names of rows; without any all are measured. Output is an object
with the rows.

The host near (10.77.0.1) is the next hop. The host far is 10 ms away: of the
SYNs to its port 82 the first of every second flow is lost, those to 83 take half a second
more; 5353 answers datagrams and 9 is closed. What has a TOS of 8 is quoted by
routers with the length of RFC 4884 and labels of MPLS behind it.
"""
import json
import os
import resource
import shlex
import socket
import statistics
import struct
import subprocess
import sys
import time

NEAR, FAR, NOBODY = "10.77.0.1", "8.8.8.8", "8.8.9.9"
PROGRAM = shlex.split(os.environ["MTR_PACKET"])


class Session:
    """One program, started anew."""

    def __init__(self, **env):
        self.begin = time.monotonic()
        self.process = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env={**os.environ, **env})
        self.rest = b""

    def say(self, *commands):
        """Writes commands at once."""
        data = "".join(c + "\n" for c in commands).encode()
        while data:
            data = data[self.process.stdin.write(data):]

    def hear(self, n=1):
        """Reads n replies, fewer if the program ends, as lists of words."""
        lines = []
        while len(lines) < n:
            if b"\n" not in self.rest:
                more = self.process.stdout.read(1 << 16)
                if not more:
                    break
                self.rest += more
                continue
            whole, _, self.rest = self.rest.rpartition(b"\n")
            lines += whole.decode().split("\n")
        if len(lines) > n:
            self.rest = ("\n".join(lines[n:]) + "\n").encode() + self.rest
        return [x.split(" ") for x in lines[:n]]

    def ask(self, *commands):
        self.say(*commands)
        return self.hear(len(commands))

    def probe(self, args, token=1):
        return self.ask("%d send-probe %s" % (token, args))[0]

    def end(self):
        """Ends the program as mtr does, and returns its status."""
        self.process.terminate()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def microseconds(reply):
    """The round trip of a reply, None without one."""
    return int(reply[reply.index("round-trip-time") + 1]) if "round-trip-time" in reply else None


def kinds(replies):
    count = {}
    for r in replies:
        count[r[1]] = count.get(r[1], 0) + 1
    return count


def start():
    """Milliseconds from exec to the first reply, and to the first round trip."""
    ready, trip = [], []
    for _ in range(21):
        s = Session()
        s.ask("1 check-support feature send-probe")
        ready.append(time.monotonic() - s.begin)
        s.probe("ip-4 %s timeout 3" % NEAR)
        trip.append(time.monotonic() - s.begin)
        s.end()
    return {"ready_ms": round(statistics.median(ready) * 1e3, 1), "first_trip_ms": round(statistics.median(trip) * 1e3, 1),
            "worst_ms": round(max(trip) * 1e3, 1)}


def wire():
    """Sequence number of the first probe, and lengths of packets of size 64."""
    sniff = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    sniff.settimeout(30)
    s = Session()
    s.say("1 send-probe ip-4 %s size 64" % NEAR, "2 send-probe ip-4 %s size 64 protocol udp port 9" % NEAR)
    got = {}
    while len(got) < 2:
        p = sniff.recv(65535)
        if socket.inet_ntoa(p[16:20]) == NEAR and (p[9] == 1 and p[20] == 8 or p[9] == 17):
            got.setdefault(p[9], p)
    s.hear(2)
    s.end()
    sniff.close()
    return {"first_sequence": struct.unpack("!H", got[1][26:28])[0], "icmp_bytes": len(got[1]), "udp_bytes": len(got[17]),
            "icmp_length": struct.unpack("!H", got[1][2:4])[0], "udp_length": struct.unpack("!H", got[17][2:4])[0]}


def unresolved():
    """Of 100 probes that are the first to a neighbour, how many are answered."""
    s = Session()
    count = kinds(s.ask(*["%d send-probe ip-4 %s timeout 30" % (i + 1, NEAR) for i in range(100)]))
    s.end()
    return count


def batch():
    """Median round trip of 100 probes written at once, and one at a time."""
    alone, together = [], []
    for _ in range(15):
        s = Session()
        s.probe("ip-4 " + NEAR)
        for _ in range(40):
            alone.append(microseconds(s.probe("ip-4 " + NEAR)))
        replies = s.ask(*["%d send-probe ip-4 %s timeout 2" % (i + 1, NEAR) for i in range(100)])
        together += [microseconds(r) for r in replies if r[1] == "reply"]
        s.end()
    return {"alone_us": statistics.median(alone), "together_us": statistics.median(together), "answered": len(together), "sent": 1500}


def throughput():
    """Probes per second of 20,000 ones."""
    best = {"per_second": 0}
    for _ in range(3):
        s = Session(TAPSTACK_IN_FLIGHT="65536")
        s.probe("ip-4 " + NEAR)
        n = 20000
        commands = ["%d send-probe ip-4 %s" % (i + 1, NEAR) for i in range(n)]
        if os.fork() == 0:
            s.say(*commands)
            os._exit(0)
        begin = time.monotonic()
        count = kinds(s.hear(n))
        elapsed = time.monotonic() - begin
        os.wait()
        s.end()
        rate = round(count.get("reply", 0) / elapsed)
        if rate > best["per_second"]:
            best = {"per_second": rate, **count}
    return best


def tcp():
    """10,000 probes with TCP, all of them under way at once."""
    s = Session(TAPSTACK_IN_FLIGHT="16384")
    # Routers find each other on every way first.
    s.ask(*["1 send-probe ip-4 %s protocol tcp port 81 timeout 30" % FAR] * 32)
    n = 10000
    if os.fork() == 0:
        try:
            s.say(*["%d send-probe ip-4 %s protocol tcp port 83 timeout 30" % (i + 1, FAR) for i in range(n)])
        except OSError:
            pass
        os._exit(0)
    s.process.stdin.close()
    begin = time.monotonic()
    replies = s.hear(n)
    elapsed = time.monotonic() - begin
    os.wait()
    status = s.process.wait()
    s.process.stdout.close()
    return {**kinds(replies), "status": status, "seconds": round(elapsed, 2),
            "least_ms": min((microseconds(r) or 0 for r in replies if r[1] == "reply"), default=0) // 1000}


def syn():
    """Ten probes with TCP, of which five are lost."""
    s = Session()
    s.probe("ip-4 %s" % FAR)
    replies = s.ask(*["1 send-probe ip-4 %s protocol tcp port 82 timeout 8" % FAR] * 10)
    s.end()
    return {**kinds(replies), "worst_ms": max(microseconds(r) or 0 for r in replies) // 1000}


def udp():
    """Ports that answer and that are closed."""
    s = Session()
    s.probe("ip-4 %s" % FAR)
    answer = {"open": s.probe("ip-4 %s protocol udp port 5353 timeout 30" % FAR)[1],
              "closed": s.probe("ip-4 %s protocol udp port 9 timeout 30" % FAR)[1]}
    s.end()
    return answer


def mpls():
    """Labels behind a quote of 160 bytes."""
    s = Session()
    r = s.probe("ip-4 %s ttl 2 tos 8" % FAR)
    s.end()
    return {"reply": r[1], "mpls": r[r.index("mpls") + 1] if "mpls" in r else None}


def sctp():
    s = Session()
    support = s.ask("1 check-support feature sctp")[0]
    r = s.probe("ip-4 %s protocol sctp ttl 2 timeout 30" % FAR)
    s.end()
    return {"support": support[3], "reply": r[1]}


def used_by_children():
    """Seconds of a processor that processes have used that have ended."""
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def waiting():
    """What share of a processor is used while probes wait for the end."""
    start = used_by_children()
    s = Session()
    s.probe("ip-4 %s" % FAR)
    s.end()
    begun = used_by_children() - start  # what it takes to begin
    s = Session()
    s.probe("ip-4 %s" % FAR)
    before = used_by_children()
    s.say("1 send-probe ip-4 %s timeout 2" % NOBODY)
    begin = time.monotonic()
    s.process.stdin.close()
    kind = s.hear()[0][1]
    s.process.wait()
    elapsed = time.monotonic() - begin
    used = max(used_by_children() - before - begun, 0)
    s.process.stdout.close()
    return {"reply": kind, "seconds": round(elapsed, 2), "share": round(used / elapsed, 3)}


ROWS = [start, wire, unresolved, batch, throughput, tcp, syn, udp, mpls, sctp, waiting]

result = {}
for row in ROWS:
    if not sys.argv[1:] or row.__name__ in sys.argv[1:]:
        result[row.__name__] = row()
json.dump(result, sys.stdout)
