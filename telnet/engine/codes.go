package engine

import "strconv"

// Command is the byte after an IAC (RFC 854, RFC 885 for EORMark, RFC 1184 §2.1
// for the last three).
type Command byte

// The commands of RFC 854, and those that were added.
const (
	EOF     Command = 236 // end of file (RFC 1184)
	SUSP    Command = 237 // suspend the process (RFC 1184)
	ABORT   Command = 238 // abort the process (RFC 1184)
	EORMark Command = 239 // end of record (RFC 885)
	SE      Command = 240 // end of a subnegotiation
	NOP     Command = 241
	DM      Command = 242 // data mark: where a Synch ends
	BRK     Command = 243 // break
	IP      Command = 244 // interrupt the process
	AO      Command = 245 // abort output
	AYT     Command = 246 // are you there
	EC      Command = 247 // erase character
	EL      Command = 248 // erase line
	GA      Command = 249 // go ahead
	SB      Command = 250 // begins a subnegotiation
	WILL    Command = 251
	WONT    Command = 252
	DO      Command = 253
	DONT    Command = 254
	IAC     Command = 255
)

const iac = byte(IAC)

var commandNames = [...]string{"EOF", "SUSP", "ABORT", "EOR", "SE", "NOP", "DM", "BRK", "IP", "AO", "AYT", "EC", "EL",
	"GA", "SB", "WILL", "WONT", "DO", "DONT", "IAC"}

// String returns the command's name as in the RFC, or its number.
func (c Command) String() string {
	if c >= EOF {
		return commandNames[c-EOF]
	}
	return strconv.Itoa(int(c))
}

// Code is the number of an option.
type Code byte

// The options that have a name here. Which of them are implemented is said in
// package option.
const (
	Binary     Code = 0  // RFC 856
	Echo       Code = 1  // RFC 857
	SGA        Code = 3  // suppress go ahead, RFC 858
	Status     Code = 5  // RFC 859
	TM         Code = 6  // timing mark, RFC 860
	Logout     Code = 18 // RFC 727
	SndLoc     Code = 23 // send location, RFC 779
	TType      Code = 24 // terminal type, RFC 1091
	EOR        Code = 25 // end of record, RFC 885
	NAWS       Code = 31 // window size, RFC 1073
	TSpeed     Code = 32 // terminal speed, RFC 1079
	LFlow      Code = 33 // remote flow control, RFC 1372
	Linemode   Code = 34 // RFC 1184
	XDispLoc   Code = 35 // X display location, RFC 1096
	OldEnviron Code = 36 // RFC 1408, RFC 1571
	Auth       Code = 37 // RFC 2941
	Encrypt    Code = 38 // RFC 2946
	NewEnviron Code = 39 // RFC 1572
	Charset    Code = 42 // RFC 2066
	ComPort    Code = 44 // RFC 2217
	StartTLS   Code = 46
	MSDP       Code = 69
	MSSP       Code = 70
	MCCP1      Code = 85
	MCCP2      Code = 86
	MCCP3      Code = 87
	MSP        Code = 90
	MXP        Code = 91
	ZMP        Code = 93
	Aardwolf   Code = 102
	ATCP       Code = 200
	GMCP       Code = 201
)

var codeNames = map[Code]string{
	Binary: "BINARY", Echo: "ECHO", SGA: "SGA", Status: "STATUS", TM: "TM", Logout: "LOGOUT", SndLoc: "SNDLOC",
	TType: "TTYPE", EOR: "EOR", NAWS: "NAWS", TSpeed: "TSPEED", LFlow: "LFLOW", Linemode: "LINEMODE",
	XDispLoc: "XDISPLOC", OldEnviron: "ENVIRON", Auth: "AUTHENTICATION", Encrypt: "ENCRYPT", NewEnviron: "NEW_ENVIRON",
	Charset: "CHARSET", ComPort: "COM_PORT", StartTLS: "START_TLS", MSDP: "MSDP", MSSP: "MSSP", MCCP1: "MCCP1",
	MCCP2: "MCCP2", MCCP3: "MCCP3", MSP: "MSP", MXP: "MXP", ZMP: "ZMP", Aardwolf: "AARDWOLF", ATCP: "ATCP", GMCP: "GMCP",
	2: "RCP", 4: "NAMS", 7: "RCTE", 8: "NAOL", 9: "NAOP", 10: "NAOCRD", 11: "NAOHTS", 12: "NAOHTD", 13: "NAOFFD",
	14: "NAOVTS", 15: "NAOVTD", 16: "NAOLFD", 17: "XASCII", 19: "BM", 20: "DET", 21: "SUPDUP", 22: "SUPDUPOUTPUT",
	26: "TUID", 27: "OUTMRK", 28: "TTYLOC", 29: "3270REGIME", 30: "X3PAD", 40: "TN3270E", 41: "XAUTH", 43: "RSP",
	45: "SLE", 47: "KERMIT", 48: "SEND_URL", 49: "FORWARD_X", 138: "PRAGMA_LOGON", 139: "SSPI_LOGON",
	140: "PRAGMA_HEARTBEAT", 255: "EXOPL",
}

// String returns the option's name, or its number.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return strconv.Itoa(int(c))
}

// CodeOf returns the option of a name as String has it, or of a number.
func CodeOf(name string) (Code, bool) {
	for c, s := range codeNames {
		if s == name {
			return c, true
		}
	}
	n, err := strconv.ParseUint(name, 10, 8)
	return Code(n), err == nil
}

// Role is the end of the connection that an engine is.
type Role uint8

// The two ends. Telnet is symmetric, its options mostly are not.
const (
	Client Role = iota
	Server
)

func (r Role) String() string {
	if r == Server {
		return "server"
	}
	return "client"
}

// Side is one of the two halves of an option: whether we perform it, or the
// peer. WILL, WONT are said of one's own side, DO, DONT of the other's.
type Side uint8

// The sides, by the names of RFC 1143.
const (
	Us Side = iota
	Him
)

func (s Side) String() string {
	if s == Him {
		return "him"
	}
	return "us"
}

// Other returns the other side.
func (s Side) Other() Side { return s ^ 1 }
