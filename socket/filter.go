package socket

// This file owns classic BPF filters (SO_ATTACH_FILTER): the check that Linux
// makes of a program before it takes it, and its translation for package
// golang.org/x/net/bpf, whose virtual machine runs it.
//
// What Linux takes and that machine cannot do is refused with EINVAL, so that no
// filter decides otherwise than it would there: loads of SKF_AD_OFF other than
// the packet's length, loads relative to SKF_NET_OFF and SKF_LL_OFF, negative
// offsets from X, and the length loaded into X. Two differences are left, which
// only a running program shows: a shift by X of 32 or more bits gives 0, where
// Linux uses the low five bits of X; and an offset from X of 2^32 or more is
// outside of the packet, where Linux begins again at 0.

import (
	"encoding/binary"
	"math"
	"net"
	"syscall"

	"golang.org/x/net/bpf"

	"github.com/tapstack/tapstack/stack"
)

// Options of SOL_SOCKET, with Linux's numbers.
const (
	SO_ATTACH_FILTER = 26 // a program: see AttachFilterBytes; SO_GET_FILTER when it is read
	SO_DETACH_FILTER = 27
	SO_LOCK_FILTER   = 44
)

func init() {
	socketOptions[SO_DETACH_FILTER] = option{set: func(f *FD, _ int) error { return f.DetachFilter() }}
	socketOptions[SO_LOCK_FILTER] = option{(*FD).setLockFilter, (*FD).lockFilter}
	rawOptions[name{SOL_SOCKET, SO_ATTACH_FILTER}] = rawOption{set: (*FD).AttachFilterBytes, get: (*FD).filterBytes}
}

// filterBytes is Filter in the form of AttachFilterBytes.
func (f *FD) filterBytes() (b []byte, err error) {
	program, err := f.Filter()
	for _, i := range program {
		b = binary.NativeEndian.AppendUint16(b, i.Op)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b, err
}

// maxFilter is the most instructions of a program (BPF_MAXINSNS).
const maxFilter = 4096

// sockFilterLen is the size of struct sock_filter: code, jt, jf, k.
const sockFilterLen = 8

// AttachFilter lets a program decide what the socket receives, in place of the
// one it has (SO_ATTACH_FILTER). It returns how many bytes of a packet are kept,
// 0 for none. It sees the frame on a packet socket with SOCK_RAW; the packet from
// its network header on with SOCK_DGRAM, and on a raw IPv4 socket; from the
// transport header on anywhere else, where a shortened one arrives with less
// payload. What waits already is left. Accepted connections have their
// listener's filter. Errors: EINVAL for a program that Linux would not take, or
// that cannot be run here; EPERM after LockFilter.
func (f *FD) AttachFilter(program []bpf.RawInstruction) error {
	run, err := compileFilter(program)
	if err != nil {
		return err
	}
	return f.setFilter(append([]bpf.RawInstruction(nil), program...), run)
}

// AttachFilterBytes is AttachFilter for a program as C has it: an array of
// struct sock_filter in the machine's byte order, whose length is the slice's
// and not in a struct sock_fprog.
func (f *FD) AttachFilterBytes(b []byte) error {
	program, err := parseFilter(b)
	if err != nil {
		return err
	}
	return f.AttachFilter(program)
}

func parseFilter(b []byte) ([]bpf.RawInstruction, error) {
	if len(b) == 0 || len(b)%sockFilterLen != 0 || len(b) > maxFilter*sockFilterLen {
		return nil, syscall.EINVAL
	}
	program := make([]bpf.RawInstruction, len(b)/sockFilterLen)
	for i := range program {
		r := b[i*sockFilterLen:]
		program[i] = bpf.RawInstruction{Op: binary.NativeEndian.Uint16(r), Jt: r[2], Jf: r[3], K: binary.NativeEndian.Uint32(r[4:])}
	}
	return program, nil
}

// DetachFilter lets the socket receive everything again (SO_DETACH_FILTER).
// Errors: ENOENT without a filter, EPERM after LockFilter.
func (f *FD) DetachFilter() error {
	if p, err := f.Filter(); err != nil || p == nil {
		if err == nil && !f.filterLocked() {
			err = syscall.ENOENT
		}
		if err != nil {
			return err
		}
	}
	return f.setFilter(nil, nil)
}

// LockFilter keeps the filter, or that there is none, as it is for good
// (SO_LOCK_FILTER).
func (f *FD) LockFilter() error { return f.setLockFilter(1) }

// Filter returns the program that is attached, nil for none (SO_GET_FILTER).
func (f *FD) Filter() ([]bpf.RawInstruction, error) {
	if f.closed.Load() {
		return nil, net.ErrClosed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]bpf.RawInstruction(nil), f.settingsLocked().program...), nil
}

func (f *FD) filterLocked() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settingsLocked().filterLock
}

func (f *FD) setLockFilter(v int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.settingsLocked().filterLock && v == 0 {
		return syscall.EPERM
	}
	f.changeLocked().filterLock = v != 0
	return nil
}

func (f *FD) lockFilter() (int, error) { return b2i(f.filterLocked()), nil }

// setFilter attaches a filter, nil for none, to what the socket is.
func (f *FD) setFilter(program []bpf.RawInstruction, run stack.Filter) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return net.ErrClosed
	}
	s := f.changeLocked()
	if s.filterLock {
		return syscall.EPERM
	}
	s.program, s.filter = program, run
	switch {
	case f.packet != nil:
		f.packet.SetFilter(run)
	case f.dgram != nil:
		f.dgram.SetFilter(run)
	case f.conn != nil:
		f.conn.SetFilter(run)
	case f.bind != nil:
		f.bind.SetFilter(run)
	}
	return nil
}

// inheritFilter gives an accepted socket what the listener's filter is called;
// the connection has it already.
func (f *FD) inheritFilter(from *settings) {
	if from.program == nil && !from.filterLock {
		return
	}
	s := f.changeLocked()
	s.program, s.filter, s.filterLock = from.program, from.filter, from.filterLock
}

// The fields of an instruction's code that the check looks at (linux/filter.h).
const (
	bpfLD, bpfLDX, bpfST, bpfSTX, bpfALU, bpfJMP, bpfRET, bpfMISC = 0, 1, 2, 3, 4, 5, 6, 7

	bpfW, bpfH, bpfB                               = 0x00, 0x08, 0x10
	bpfIMM, bpfABS, bpfIND, bpfMEM, bpfLEN, bpfMSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xa0
	bpfK, bpfX, bpfA                               = 0x00, 0x08, 0x10

	bpfDIV, bpfLSH, bpfRSH, bpfNEG, bpfMOD = 0x30, 0x60, 0x70, 0x80, 0x90
	bpfMUL, bpfXOR                         = 0x20, 0xa0
	bpfJA, bpfJSET                         = 0x00, 0x40
	bpfTAX, bpfTXA                         = 0x00, 0x80
)

// skfLLOff is the offset from which on Linux gives loads another meaning:
// SKF_LL_OFF, SKF_NET_OFF and SKF_AD_OFF.
const skfLLOff = 0xffe00000

// memWords is the number of memory cells of a program (BPF_MEMWORDS).
const memWords = 16

// compileFilter checks a program and makes a filter of it.
func compileFilter(program []bpf.RawInstruction) (stack.Filter, error) {
	if len(program) == 0 || len(program) > maxFilter || !storesBeforeLoads(program) {
		return nil, syscall.EINVAL
	}
	list := make([]bpf.Instruction, len(program))
	for pc, i := range program {
		if !allowed(program, pc) || !runnable(i) {
			return nil, syscall.EINVAL
		}
		if i.Op == bpfALU|bpfNEG {
			// The machine has no negation; this is one, modulo 2^32.
			i = bpf.RawInstruction{Op: bpfALU | bpfMUL | bpfK, K: math.MaxUint32}
		}
		list[pc] = i.Disassemble()
	}
	if class := program[len(program)-1].Op & 7; class != bpfRET {
		return nil, syscall.EINVAL
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		return nil, syscall.EINVAL
	}
	return func(b []byte) int {
		n, err := vm.Run(b)
		if err != nil {
			return 0
		}
		return int(min(uint32(n), math.MaxInt32))
	}, nil
}

// allowed reports whether the kernel takes an instruction where it stands: its
// code exists, its constant makes sense, and its jumps stay in the program.
func allowed(program []bpf.RawInstruction, pc int) bool {
	i := program[pc]
	left := uint32(len(program) - pc - 1)
	switch i.Op & 7 {
	case bpfLD:
		switch i.Op {
		case bpfLD | bpfW | bpfABS, bpfLD | bpfH | bpfABS, bpfLD | bpfB | bpfABS:
			return i.K < skfLLOff
		case bpfLD | bpfW | bpfIND, bpfLD | bpfH | bpfIND, bpfLD | bpfB | bpfIND, bpfLD | bpfIMM, bpfLD | bpfW | bpfLEN:
			return true
		}
		return i.Op == bpfLD|bpfMEM && i.K < memWords
	case bpfLDX:
		switch i.Op {
		case bpfLDX | bpfIMM, bpfLDX | bpfW | bpfLEN, bpfLDX | bpfB | bpfMSH:
			return true
		}
		return i.Op == bpfLDX|bpfMEM && i.K < memWords
	case bpfST, bpfSTX:
		return (i.Op == bpfST || i.Op == bpfSTX) && i.K < memWords
	case bpfALU:
		if i.Op&^0xff != 0 || i.Op&0xf0 > bpfXOR {
			return false
		}
		constant := i.Op&bpfX == 0
		switch i.Op & 0xf0 {
		case bpfNEG:
			return constant
		case bpfDIV, bpfMOD:
			return !constant || i.K != 0
		case bpfLSH, bpfRSH:
			return !constant || i.K < 32
		}
		return true
	case bpfJMP:
		if i.Op == bpfJMP|bpfJA {
			return i.K < left
		}
		return i.Op&^0xff == 0 && i.Op&0xf0 != bpfJA && i.Op&0xf0 <= bpfJSET && uint32(i.Jt) < left && uint32(i.Jf) < left
	case bpfRET:
		return i.Op == bpfRET|bpfK || i.Op == bpfRET|bpfA
	}
	return i.Op == bpfMISC|bpfTAX || i.Op == bpfMISC|bpfTXA
}

// runnable reports whether the virtual machine does what Linux would do.
func runnable(i bpf.RawInstruction) bool {
	switch i.Op {
	case bpfLD | bpfW | bpfIND, bpfLD | bpfH | bpfIND, bpfLD | bpfB | bpfIND, bpfLDX | bpfB | bpfMSH:
		return i.K <= math.MaxInt32
	}
	return i.Op != bpfLDX|bpfW|bpfLEN
}

// storesBeforeLoads reports whether, however the program jumps, no memory cell
// is loaded before it has been stored to. Jumps only lead forward, so one pass
// over the program knows for each instruction which cells all the ways to it
// have stored to. Jumps out of the program are found elsewhere.
func storesBeforeLoads(program []bpf.RawInstruction) bool {
	const all = math.MaxUint16
	// known holds, for the instructions ahead, what the jumps to them leave.
	known := make([]uint16, len(program)+1)
	for i := range known {
		known[i] = all
	}
	jump := func(pc int, skip uint32, cells uint16) {
		if to := uint64(pc) + 1 + uint64(skip); to < uint64(len(known)) {
			known[to] &= cells
		}
	}
	cells := uint16(0)
	for pc, i := range program {
		cells &= known[pc]
		switch {
		case i.Op == bpfST || i.Op == bpfSTX:
			cells |= 1 << (i.K % memWords)
		case i.Op == bpfLD|bpfMEM || i.Op == bpfLDX|bpfMEM:
			if cells&(1<<(i.K%memWords)) == 0 {
				return false
			}
		case i.Op == bpfJMP|bpfJA:
			jump(pc, i.K, cells)
			cells = all // nothing goes on to the next instruction
		case i.Op&7 == bpfJMP:
			jump(pc, uint32(i.Jt), cells)
			jump(pc, uint32(i.Jf), cells)
			cells = all
		}
	}
	return true
}
