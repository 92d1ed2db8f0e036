// The benchmarks, in a module of their own so that the stacks they compare
// with never enter the dependencies of those who import tapstack.
module github.com/tapstack/tapstack/bench

go 1.26.0

require (
	github.com/spf13/pflag v1.0.9
	github.com/tapstack/tapstack v0.0.0
	github.com/vishvananda/netlink v1.3.1
	github.com/vishvananda/netns v0.0.5
	golang.org/x/sys v0.49.0
)

require (
	github.com/google/gopacket v1.1.19 // indirect
	github.com/songgao/water v0.0.0-20200317203138-2b4b6d7c09d8 // indirect
	golang.org/x/net v0.62.0 // indirect
)

replace github.com/tapstack/tapstack => ..
