package both

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// This file owns files that outlive the program: JSON which says by a checksum
// that it is whole. A new one is written beside the old one and then takes its
// place, so that there is always a whole one.

// FileMax is the size in bytes beyond which a file is none of ours.
const FileMax = 16 << 10

// Summed is a record that has a field for its checksum.
type Summed interface{ Sum() *string }

// sum is the checksum of a record, which is that of the record with an empty one.
func sum(c Summed) string {
	was := *c.Sum()
	*c.Sum() = ""
	b, _ := json.Marshal(c) // which has no way to fail
	*c.Sum() = was
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(b))
}

// ReadFile reads a file; what is what it is called in errors. That there is none
// is no error, and nil.
func ReadFile(what, path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, FileMax+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

// ParseFile reads the content of a file.
func ParseFile(what, path string, b []byte, c Summed) error {
	if len(b) > FileMax {
		return fmt.Errorf("%s %s: %d bytes or more are none of ours", what, path, FileMax)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return fmt.Errorf("%s %s: %w", what, path, err)
	}
	if *c.Sum() != sum(c) {
		return fmt.Errorf("%s %s: damaged: its checksum is not that of its content", what, path)
	}
	return nil
}

// WriteFile replaces the file as a whole, and on the disk.
func WriteFile(what, path string, c Summed) (err error) {
	*c.Sum() = sum(c)
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("%s: %w", what, err)
		}
	}()
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// RemoveFile removes a file that may be there.
func RemoveFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
