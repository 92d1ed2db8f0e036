package fingerprint

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// This file owns the files. Peers decide what is in them, within bounds, and
// never where they are: paths are made of hashes alone, and an os.Root keeps
// what is done with them below the directory even if somebody has put symbolic
// links there. A file is written beside its place and renamed, so that who reads
// it sees all or nothing.

const (
	defaultFiles        = 200
	defaultFingerprints = 1000
	maxFile             = 1 << 20 // bytes; what is longer is not ours, and is replaced
	maxSessions         = 1000    // in one file: the last
	maxNames            = 10000   // in namesFile
	maxName             = 100     // bytes of one
	namesFile           = "fingerprint_names.json"
	unknownTerminal     = "0000000000000000"
)

// ErrFull is Save's error when there are as many fingerprints, or files of one,
// as there may be.
var ErrFull = errors.New("fingerprint: as many are kept as may be")

// Store is the directory of the files. It may be used by several goroutines; of
// two programs that write the same file at the same time the last one wins.
type Store struct {
	Dir             string // made if it is not there
	MaxFiles        int    // of one fingerprint: 200 if zero
	MaxFingerprints int    // of clients, and of servers: 1000 if zero

	mu sync.Mutex
}

// Settings is what the environment says: of this program's variables or, where
// those are not set, of the seed's.
type Settings struct {
	Dir                       string // TAPSTACK_DATA_DIR, TELNETLIB3_DATA_DIR
	MaxFiles, MaxFingerprints int    // ..._FINGERPRINT_MAX_FILES, ..._FINGERPRINT_MAX_FINGERPRINTS; 0: not said
	PostScript                string // ..._FINGERPRINT_POST_SCRIPT
}

// Environment reads Settings with a function as os.Getenv.
func Environment(getenv func(string) string) (s Settings, err error) {
	get := func(name string) (string, string) {
		for _, prefix := range []string{"TAPSTACK_", "TELNETLIB3_"} {
			if v := getenv(prefix + name); v != "" {
				return v, prefix + name
			}
		}
		return "", ""
	}
	s.Dir, _ = get("DATA_DIR")
	s.PostScript, _ = get("FINGERPRINT_POST_SCRIPT")
	for name, to := range map[string]*int{"FINGERPRINT_MAX_FILES": &s.MaxFiles, "FINGERPRINT_MAX_FINGERPRINTS": &s.MaxFingerprints} {
		v, from := get(name)
		if v == "" {
			continue
		}
		if *to, err = strconv.Atoi(v); err != nil || *to <= 0 {
			return s, fmt.Errorf("%s=%q: want a number above 0", from, v)
		}
	}
	return s, nil
}

// Record is a fingerprint with the session that it was taken in.
type Record struct {
	// Kind is who was probed: "client" or "server".
	Kind string
	// Data is the fingerprint: what is the same for all who run the same
	// program. Hash is its name.
	Data object
	Hash string
	// Session is what this session showed, Entry who and when, ID the name of
	// the session's peer.
	Session, Entry object
	ID             string
}

func newRecord(kind string, data, session, entry, identity object) *Record {
	return &Record{Kind: kind, Data: data, Hash: hashOf(data), Session: session, Entry: entry, ID: hashOf(identity)}
}

// probeKey is the key of the fingerprint in a file.
func (r *Record) probeKey() string {
	if r.Kind == "server" {
		return "server-probe"
	}
	return "telnet-probe"
}

func (r *Record) document() object {
	return object{r.probeKey(): object{"fingerprint": r.Hash, "fingerprint-data": r.Data, "session_data": r.Session}, "sessions": []any{r.Entry}}
}

// JSON is the text of a file with this session alone. All in it that a peer has
// said is ASCII without control characters.
func (r *Record) JSON() []byte { return pretty(r.document()) }

// Save writes the record's file and returns its path: in Dir, client/HASH/
// TERMINAL/ID.json, where TERMINAL is that of a folder which a program that
// probes terminals has made, or zeros; or server/HASH/ID.json. What such a
// program has added to the file stays, and so do the sessions before. Errors:
// ErrFull, and those of the file system.
func (s *Store) Save(r *Record) (file string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	root, err := s.open()
	if err != nil {
		return "", err
	}
	defer root.Close()
	dir := path.Join(r.Kind, r.Hash)
	isNew := !isDir(root, dir)
	if r.Kind == "client" {
		dir = path.Join(dir, terminalOf(root, dir))
	}
	name := path.Join(dir, r.ID+".json")
	if isNew {
		if n := count(root, r.Kind, func(e fs.DirEntry) bool { return e.IsDir() }); n >= orDefault(s.MaxFingerprints, defaultFingerprints) {
			return "", fmt.Errorf("%w: %d fingerprints", ErrFull, n)
		}
	}
	old := read(root, name)
	if old == nil {
		if n := count(root, dir, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".json") }); n >= orDefault(s.MaxFiles, defaultFiles) {
			return "", fmt.Errorf("%w: %d files", ErrFull, n)
		}
	}
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := write(root, name, pretty(r.merge(old))); err != nil {
		return "", err
	}
	return path.Join(s.Dir, name), nil
}

// merge is the record in what a file has already, or alone if that is nothing
// that Save could have written.
func (r *Record) merge(old object) object {
	doc := r.document()
	probe, ok1 := old[r.probeKey()].(object)
	sessions, ok2 := old["sessions"].([]any)
	if !ok1 || !ok2 {
		return doc
	}
	probe["session_data"] = r.Session
	sessions = append(sessions, any(r.Entry))
	old["sessions"] = sessions[max(0, len(sessions)-maxSessions):]
	return old
}

// SetName keeps a name for people of a fingerprint.
func (s *Store) SetName(hash, name string) error {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("fingerprint: name %q: want 1 to %d bytes of text", name, maxName)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	root, err := s.open()
	if err != nil {
		return err
	}
	defer root.Close()
	all := read(root, namesFile)
	if all == nil {
		all = object{}
	}
	if _, ok := all[hash]; !ok && len(all) >= maxNames {
		return fmt.Errorf("%w: %d names", ErrFull, len(all))
	}
	all[hash] = name
	return write(root, namesFile, pretty(all))
}

// Name returns the name of a fingerprint, "" if it has none.
func (s *Store) Name(hash string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	root, err := s.open()
	if err != nil {
		return ""
	}
	defer root.Close()
	name, _ := read(root, namesFile)[hash].(string)
	return name
}

func (s *Store) open() (*os.Root, error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenRoot(s.Dir)
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

func isDir(root *os.Root, name string) bool {
	i, err := root.Stat(name)
	return err == nil && i.IsDir()
}

// entries is what is in a folder, by name.
func entries(root *os.Root, dir string) []fs.DirEntry {
	list, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return nil
	}
	return list
}

func count(root *os.Root, dir string, is func(fs.DirEntry) bool) (n int) {
	for _, e := range entries(root, dir) {
		if is(e) {
			n++
		}
	}
	return n
}

// terminalOf is the folder of the terminal: that which somebody has found out,
// else zeros.
func terminalOf(root *os.Root, dir string) string {
	for _, e := range entries(root, dir) {
		if e.IsDir() && e.Name() != unknownTerminal && isHash(e.Name()) {
			return e.Name()
		}
	}
	return unknownTerminal
}

func isHash(s string) bool {
	return len(s) == 16 && !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// read returns the object in a file, nil if there is none.
func read(root *os.Root, name string) object {
	if i, err := root.Stat(name); err != nil || !i.Mode().IsRegular() { // a pipe would be waited for
		return nil
	}
	f, err := root.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil || len(b) > maxFile {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v object
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// write puts a file in its place at once.
func write(root *os.Root, name string, b []byte) (err error) {
	// No ".json" at the end: such are counted.
	temp := name + "." + rand.Text()[:8] + ".new"
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		err = errors.Join(err, root.Remove(temp))
	}
	return err
}

// WriteFile writes a record alone to a path of the user's, at once. A device or a
// pipe is written to, not replaced by a file.
func WriteFile(name string, r *Record) error {
	if i, err := os.Stat(name); err == nil && !i.Mode().IsRegular() && !i.IsDir() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(r.JSON())
		return errors.Join(err, f.Close())
	}
	dir, base := path.Split(name)
	if dir == "" {
		dir = "."
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return write(root, base, r.JSON())
}
