package workloads

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// TestWebsocket takes connections away from the HTTP server and sends back
// messages of all sizes over them, with pings between, compressed or not.
func TestWebsocket(t *testing.T) {
	each(t, func(t *testing.T, h *hosts) {
		const limit = 4 << 20
		served := make(chan error, 2)
		w := serve(t, h, versions[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served <- func() error {
				c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
				if err != nil {
					return err
				}
				defer c.CloseNow()
				c.SetReadLimit(limit)
				for {
					typ, message, err := c.Read(h.ctx)
					if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
						return nil
					}
					if err == nil {
						err = c.Write(h.ctx, typ, message)
					}
					if err != nil {
						return err
					}
				}
			}()
		}))
		for name, mode := range map[string]websocket.CompressionMode{
			"plain": websocket.CompressionDisabled, "compressed": websocket.CompressionContextTakeover,
		} {
			t.Run(name, func(t *testing.T) {
				c, _, err := websocket.Dial(h.ctx, w.url, &websocket.DialOptions{HTTPClient: w.Client, CompressionMode: mode})
				must(t, err)
				defer c.CloseNow()
				c.SetReadLimit(limit)
				messages := [][]byte{{}, noiseBytes(1, h.size(2<<20, 1<<20)), bytes.Repeat([]byte("again and "), 50_000)}
				for n := range h.size(200, 100) {
					messages = append(messages, noiseBytes(n, 1+n*n))
				}
				errs := make(chan error, 2)
				go func() {
					for i, m := range messages {
						err := c.Write(h.ctx, websocket.MessageBinary, m)
						if err == nil && i%20 == 0 {
							err = c.Ping(h.ctx)
						}
						if err != nil {
							errs <- fmt.Errorf("message %d: %w", i, err)
							return
						}
					}
					errs <- nil
				}()
				go func() {
					for i, m := range messages {
						typ, r, err := c.Reader(h.ctx)
						if err == nil {
							var got []byte
							got, err = io.ReadAll(r)
							if err == nil && (typ != websocket.MessageBinary || !bytes.Equal(got, m)) {
								err = fmt.Errorf("%d bytes of type %v came back for %d", len(got), typ, len(m))
							}
						}
						if err != nil {
							errs <- fmt.Errorf("echo %d: %w", i, err)
							return
						}
					}
					errs <- nil
				}()
				join(t, 2, errs)
				if err := c.Close(websocket.StatusNormalClosure, "enough"); err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("close: %v", err)
				}
				join(t, 1, served)
			})
		}
	})
}
