package attach

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/tcp/trace"
)

// This file owns --tcp-trace: what TCP's connections tell of themselves, as
// lines or as a file for each of them.

// traceTCP returns who listens to the connections of a stack: nobody for "",
// lines on out for "-", else a qlog file for each connection in the directory
// where, which is made if it is missing.
func traceTCP(where string, out io.Writer) (stack.TraceTCP, error) {
	switch where {
	case "":
		return nil, nil
	case "-":
		text := trace.NewText(out)
		return func(local, remote netip.AddrPort) tcp.Trace { return text.Conn(local.String() + " " + remote.String()) }, nil
	}
	if err := os.MkdirAll(where, 0o777); err != nil {
		return nil, fmt.Errorf("--tcp-trace: %w", err)
	}
	var n atomic.Int64
	return func(local, remote netip.AddrPort) tcp.Trace {
		name := strings.ReplaceAll(fmt.Sprintf("%06d_%v_%v.sqlog", n.Add(1), local, remote), ":", "-")
		f, err := os.OpenFile(filepath.Join(where, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
		if err != nil {
			// The disk may be full or files too many: the connection goes on.
			fmt.Fprintln(os.Stderr, "--tcp-trace:", errors.Unwrap(err))
			return nil
		}
		return trace.NewQlog(f, fmt.Sprintf("%v to %v", local, remote)).Event
	}, nil
}
