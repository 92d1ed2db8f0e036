package lab

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

func run(t *testing.T, o Options, argv ...string) (status int, out, errOut string) {
	t.Helper()
	RequireNamespace(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var so, se bytes.Buffer
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader(""), &so, &se
	status, err := Run(ctx, o, argv)
	if err != nil {
		t.Fatal(err)
	}
	return status, so.String(), se.String()
}

func TestTry(t *testing.T) {
	_, out, errOut := run(t, Options{Hosts: 2}, "sh", "-c", "ip -br a; ip -d link; env | grep TAPSTACK; ls -l /proc/self/fd; cat /proc/self/stat; cat /proc/self/uid_map; bridge link")
	t.Log(out, errOut)
	_ = os.Stdout
}
