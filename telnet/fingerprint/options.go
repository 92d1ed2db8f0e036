package fingerprint

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns which options are asked for, and what they are called in the
// files: names there are part of what is hashed, so they are the seed's even
// where engine.Code has others.

// core are the options of a terminal session. LOGOUT is not among them: it would
// end the session.
var core = []engine.Code{engine.Binary, engine.SGA, engine.Echo, engine.Status, engine.TType, engine.TSpeed, engine.LFlow, engine.XDispLoc,
	engine.NAWS, engine.NewEnviron, engine.Charset, engine.Linemode, engine.EOR, engine.SndLoc}

// serial is asked for with the core.
var serial = []engine.Code{engine.ComPort}

// games are those beyond 140, at which some clients break off. Only who looks
// like a client for games is asked for them, and servers.
var games = []engine.Code{engine.GMCP, engine.MSDP, engine.MSSP, engine.MSP, engine.MXP, engine.ZMP, engine.Aardwolf, engine.ATCP}

// legacy are what else has a number, in the seed's order.
var legacy = []engine.Code{37, 38, 40, 41, 43, 45, 46, 47, 48, 49, 138, 139, 140, 30, 29, 28, 21, 22, 20, 19, 2, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// clientOnly are performed by clients alone: a server that offers one has the
// direction wrong.
var clientOnly = []engine.Code{engine.TType, engine.TSpeed, engine.NAWS, engine.XDispLoc, engine.NewEnviron, engine.LFlow, engine.Linemode, engine.SndLoc}

var names = map[engine.Code]string{29: "VT3270REGIME", 45: "SUPPRESS_LOCAL_ECHO", engine.StartTLS: "TLS"}

// nameOf is an option's name in the files.
func nameOf(code engine.Code) string {
	if s, ok := names[code]; ok {
		return s
	}
	s := code.String()
	if _, err := strconv.Atoi(s); err == nil { // it has none
		return fmt.Sprintf("0x%02x", byte(code))
	}
	return s
}

// gameClients are terminal types of clients for games.
var gameClients = []string{"mudlet", "cmud", "zmud", "mushclient", "atlantis", "tintin++", "tt++", "blowtorch", "mudrammer", "kildclient",
	"portal", "beip", "savitar"}

// isGameClient reports whether one of the first three names is one of those.
func isGameClient(types []string) bool {
	for _, t := range types[:min(3, len(types))] {
		for _, g := range gameClients {
			if strings.EqualFold(t, g) {
				return true
			}
		}
	}
	return false
}

// isMicrosoft reports whether it may be the client of Windows, which crashes at
// a burst of options that it does not know.
func isMicrosoft(types []string) bool {
	return len(types) > 0 && strings.EqualFold(types[0], "ANSI") && (len(types) == 1 || strings.EqualFold(types[1], "VT100"))
}
