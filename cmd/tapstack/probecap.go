package main

// This file owns --pcap of the commands that probe, which writes their own
// frames and no others: whom they probe is declared where it becomes known.

import (
	"context"
	"net/netip"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/probecap"
	"github.com/tapstack/tapstack/socket"
)

// ownFrames makes --pcap, which o has registered with f, one of this command's
// own frames.
func ownFrames(f *pflag.FlagSet, o *attach.Options) {
	o.Recorder = probecap.New()
	f.Lookup("pcap").Usage = "write the frames of these probes, and no others, to `FILE` as pcapng, with a comment on each that says what it was for"
}

// toward declares a destination to --pcap.
func toward(o *attach.Options, dst netip.Addr) {
	if t, ok := o.Recorder.(*probecap.Tracker); ok && o.Pcap != "" {
		t.Toward(dst)
	}
}

// serving declares to --pcap that others may begin.
func serving(o *attach.Options, udp bool, port uint16) {
	if t, ok := o.Recorder.(*probecap.Tracker); ok && o.Pcap != "" {
		t.Serve(udp, port)
	}
}

// declaring is a network that declares what a name stands for, for those who
// look names up themselves.
type declaring struct {
	socket.System
	o *attach.Options
}

// LookupNetIP implements socket.System.
func (d declaring) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	list, err := d.System.LookupNetIP(ctx, network, host)
	for _, a := range list {
		toward(d.o, a)
	}
	return list, err
}
