package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/exporter"
	"github.com/tapstack/tapstack/probe"
)

type exporterOptions struct {
	attach               attach.Options
	listen, listenHost   string
	config               string
	parallel             int
	offset               wait
	listenHostWasDefault bool
}

// exporterPort is blackbox_exporter's.
const exporterPort = ":9115"

func exporterCommand() *cobra.Command {
	o := &exporterOptions{offset: wait(exporter.DefaultOffset)}
	c := &cobra.Command{
		Use:   "exporter",
		Short: "Probe what Prometheus asks for, and answer in its metrics",
		Long: `Answer Prometheus: /probe?target=TARGET&module=MODULE probes a target over the
stack (or with --net host over the host's sockets) and tells what became of it,
with blackbox_exporter's names where they mean the same; /metrics is about the
exporter itself, / lists the modules, and &debug=true lets people read why.

Prometheus scrapes machines, so it is the machine that listens: on
--listen-host, port 9115 of all its addresses unless it says otherwise. --listen
has the stack listen instead, or, given both, too.`,
		Example: `  tapstack exporter --tap tap7 --ip 10.77.0.7/24 --gw 10.77.0.1
  curl 'localhost:9115/probe?module=ssh&target=192.0.2.1'
  tapstack exporter --net host --listen-host localhost:9115 --config modules.json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.listenHostWasDefault = !c.Flags().Changed("listen-host")
			return o.run(c)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.listenHost, "listen-host", exporterPort, "serve HTTP on `ADDRESS` of the host")
	f.StringVar(&o.listen, "listen", "", "serve HTTP on `ADDRESS` of the stack, as 10.77.0.7:9115 or :9115")
	f.StringVar(&o.config, "config", "", "read modules from the JSON `FILE`, besides those that there are")
	f.IntVar(&o.parallel, "parallel", exporter.DefaultParallel, "make at most `N` probes at a time")
	f.Var(&o.offset, "timeout-offset", "end a probe `SECONDS` before Prometheus gives up")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	f.SortFlags = false
	return c
}

func (o *exporterOptions) modules() (map[string]*exporter.Module, error) {
	if o.config == "" {
		return exporter.Presets(), nil
	}
	f, err := os.Open(o.config)
	if err != nil {
		return nil, attach.Usagef("--config: %w", err)
	}
	defer f.Close()
	m, err := exporter.ReadModules(f)
	if err != nil {
		return nil, attach.Usagef("--config %s: %w", o.config, err)
	}
	return m, nil
}

// maxParallel bounds --parallel: each takes a goroutine and some sockets.
const maxParallel = 10000

func (o *exporterOptions) run(c *cobra.Command) error {
	if o.parallel < 1 || o.parallel > maxParallel {
		return attach.Usagef("--parallel %d: want 1 to %d", o.parallel, maxParallel)
	}
	modules, err := o.modules()
	if err != nil {
		return err
	}
	if o.listen != "" && o.listenHostWasDefault {
		o.listenHost = ""
	}
	if o.listen == "" && o.listenHost == "" {
		return attach.Usagef("nowhere to listen: want --listen-host or --listen")
	}
	return o.attach.Run(func(ctx context.Context, h *attach.Host) error {
		x := exporter.Options{Net: declaring{h.Net, &o.attach}, Modules: modules, Parallel: o.parallel, Offset: time.Duration(o.offset)}
		if o.offset == 0 {
			x.Offset = -1 // none, and not the default
		}
		if h.Stack != nil {
			p, err := probe.New(h.Stack, probe.Options{})
			if err != nil {
				return err
			}
			defer p.Close()
			x.Prober, x.Counters = p, h.Counters
		} else if o.listen != "" {
			return attach.Usagef("--listen: is about a stack, and with --net host there is none; want --listen-host")
		}
		var listeners []net.Listener
		defer func() {
			for _, l := range listeners {
				l.Close()
			}
		}()
		for _, w := range []struct {
			flag, address string
			listen        func(network, address string) (net.Listener, error)
		}{{"--listen-host", o.listenHost, net.Listen}, {"--listen", o.listen, h.Net.Listen}} {
			if w.address == "" {
				continue
			}
			l, err := w.listen("tcp", w.address)
			if err != nil {
				return fmt.Errorf("%s: %w", w.flag, err)
			}
			listeners = append(listeners, l)
		}
		out := c.OutOrStdout()
		fmt.Fprintln(out, h.ReadyLine())
		for _, l := range listeners {
			fmt.Fprintf(out, "listening address=%v\n", l.Addr())
		}
		return serveHTTP(ctx, exporter.New(x), listeners)
	})
}

// serveHTTP serves until ctx ends, or one of the listeners fails.
func serveHTTP(ctx context.Context, handler http.Handler, listeners []net.Listener) error {
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- s.Serve(l) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.Close() // a scrape under way is cut short, as Prometheus bears
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}
