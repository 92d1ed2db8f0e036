package cc

import "slices"

// This file owns the names by which controllers are chosen, which are Linux's.

// Default is the name of the controller that connections have when nobody
// chooses (as Linux's net.ipv4.tcp_congestion_control).
const Default = "cubic"

// names is in alphabetical order.
var names = []string{"bbr", "cubic", "reno"}

// Names returns the names that ByName knows, in alphabetical order.
func Names() []string { return slices.Clone(names) }

// ByName returns the constructor of a controller, or false if there is none of
// that name.
func ByName(name string) (New, bool) {
	switch name {
	case "bbr":
		return NewBBR, true
	case "cubic":
		return NewCubic, true
	case "reno":
		return NewReno, true
	}
	return nil, false
}
