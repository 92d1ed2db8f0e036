package telnet_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// vector is one of testdata/vectors.json: bytes in, bytes out and data, as they
// were seen from another implementation, and corrected where that errs.
type vector struct {
	Name    string
	Role    string
	In      string
	RefOut  string  `json:"ref_out"`
	WantOut *string `json:"want_out"`
	Data    string
	Pre     struct {
		Local   map[string]bool `json:"local_option"`
		Remote  map[string]bool `json:"remote_option"`
		Pending map[string]bool `json:"pending_option"`
	}
}

func vectors(t *testing.T) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) < 100 {
		t.Fatalf("only %d vectors", len(file.Vectors))
	}
	return file.Vectors
}

// vectorOptions are the options that the vectors suppose.
func vectorOptions(r engine.Role) []engine.Option {
	if r == engine.Client {
		return option.Client(option.ClientConfig{Terms: []string{"xterm"}, Size: option.Size{Cols: 80, Rows: 24},
			Speed: option.Speed{Tx: 38400, Rx: 38400}, Display: "host:0", Charsets: []string{"UTF-8"}})
	}
	o := option.Server(option.ServerConfig{Charsets: []string{"UTF-8", "LATIN1"}, MSDP: true, MSSP: option.MSSPVars{}, Compress: true})
	for _, x := range o {
		if tt, ok := x.(*option.TType); ok {
			tt.Cycle = false
		}
	}
	return append(o, option.NewMessage(engine.ZMP, true, false), option.NewMessage(engine.ATCP, true, false),
		option.NewMessage(engine.MXP, true, false))
}

func code(t *testing.T, name string) engine.Code {
	t.Helper()
	c, ok := engine.CodeOf(strings.TrimSuffix(name, "_COMPRESS"))
	if !ok {
		t.Fatalf("option %s", name)
	}
	return c
}

func drain(e *engine.Engine) (data []byte, events []engine.Event) {
	for {
		ev, ok := e.Next()
		if !ok {
			return data, events
		}
		if ev.Kind == engine.Data {
			data = append(data, ev.Data...)
		} else {
			events = append(events, ev)
		}
	}
}

// prepare brings an engine to the state that a vector begins in, by the words
// of a peer.
func (v *vector) prepare(t *testing.T) *engine.Engine {
	role := engine.Client
	if v.Role == "server" {
		role = engine.Server
	}
	e := engine.New(engine.Config{Role: role, Options: vectorOptions(role)})
	settle := func(side engine.Side, name string, on bool) {
		c := code(t, name)
		e.Enable(side, c)
		verb := engine.DO
		if side == engine.Him {
			verb = engine.WILL
		}
		if !on {
			verb++ // DONT, WONT
		}
		e.Feed([]byte{255, byte(verb), byte(c)})
		drain(e)
	}
	for name, on := range v.Pre.Local {
		settle(engine.Us, name, on)
	}
	for name, on := range v.Pre.Remote {
		settle(engine.Him, name, on)
	}
	for name := range v.Pre.Pending {
		verb, name, _ := strings.Cut(name, " ")
		side := engine.Us
		if verb == "DO" {
			side = engine.Him
		}
		e.Enable(side, code(t, name))
	}
	if v.Name == "server WILL CHARSET" {
		// The vector was taken from a server that had asked already, which its
		// state does not say. Without that RFC 854 wants a DO in front.
		e.Enable(engine.Him, engine.Charset)
	}
	e.Take()
	return e
}

// TestVectors plays each vector whole, cut in two at every place, and byte by
// byte.
func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		in, err1 := hex.DecodeString(v.In)
		wantData, err2 := hex.DecodeString(v.Data)
		want := v.RefOut
		if v.WantOut != nil {
			want = *v.WantOut
		}
		wantOut, err3 := hex.DecodeString(want)
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(v.Name, err1, err2, err3)
		}
		for cut := 0; cut <= len(in); cut++ {
			e := v.prepare(t)
			parts := [][]byte{in[:cut], in[cut:]}
			if cut == 0 { // in its place: byte by byte
				parts = nil
				for i := range in {
					parts = append(parts, in[i:i+1])
				}
			}
			var data, out []byte
			for _, p := range parts {
				e.Feed(p)
				d, _ := drain(e)
				data = append(data, d...)
				out = append(out, e.Take()...)
			}
			if !bytes.Equal(data, wantData) || !bytes.Equal(out, wantOut) {
				t.Errorf("%s, cut at %d of %d:\n in   %x\n out  %x\n want %x\n data %x\n want %x", v.Name, cut, len(in), in, out, wantOut, data, wantData)
				break
			}
		}
	}
}
