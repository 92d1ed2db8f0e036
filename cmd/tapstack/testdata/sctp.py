# A host that speaks enough SCTP to be asked, for kernels without it: an INIT to
# port 7 is answered by INIT ACK, one to another port by ABORT (RFC 9260 §5.1,
# §8.4), and one with a bad checksum not at all. A line is written for each.
# The arguments are an address of each family.
import select
import socket
import struct
import sys

from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkInit, SCTPChunkInitAck, SCTPChunkParamStateCookie, crc32c

sockets = [socket.socket(f, socket.SOCK_RAW, 132) for f in (socket.AF_INET, socket.AF_INET6)]
for s, address in zip(sockets, sys.argv[1:]):
    s.bind((address, 0))
print("ready", flush=True)
while True:
    for s in select.select(sockets, [], [])[0]:
        data, peer = s.recvfrom(65535)
        if s is sockets[0]:
            data = data[(data[0] & 15) * 4:]
        p = SCTP(data)
        if not p.haslayer(SCTPChunkInit):
            continue
        good = crc32c(data[:8] + bytes(4) + data[12:]) == struct.unpack("!I", data[8:12])[0]
        init = p[SCTPChunkInit]
        print("INIT", p.dport, "good" if good and p.tag == 0 and init.init_tag != 0 else "bad", flush=True)
        if not good:
            continue
        answer = SCTP(sport=p.dport, dport=p.sport, tag=init.init_tag)
        if p.dport == 7:
            answer /= SCTPChunkInitAck(init_tag=1, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=1,
                                       params=[SCTPChunkParamStateCookie(cookie=b"a cookie")])
        else:
            answer /= SCTPChunkAbort()
        s.sendto(bytes(answer), (peer[0], 0))
