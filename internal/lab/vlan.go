package lab

// This file owns the kernel as a host in a VLAN, for tests of tagged frames.
// Where it has no VLAN sub-interfaces (CONFIG_VLAN_8021Q), its plain interface
// gets two programs of cls_bpf: one takes the tag from what comes in, and drops
// what has none or another, and one puts the tag onto what goes out. The tags
// are made and read by the kernel's own code, and its IP stack is on the other
// side of them. Other ways were not to be had on every kernel: act_vlan is a
// module, nftables changes tags but neither adds nor removes them, and a bridge
// that filters VLANs has no IP behind it without a sub-interface.

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"

	"github.com/tapstack/tapstack/ether"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bpfInsn is an instruction of eBPF (linux/bpf.h).
type bpfInsn struct {
	code byte
	regs byte // source << 4 | destination
	off  int16
	imm  int32
}

// What the programs are made of: loads of words of struct __sk_buff, and calls.
const (
	skbVLANPresent, skbVLANTag = 20, 24

	helperVLANPush, helperVLANPop = 18, 19

	actOK, actShot = 0, 2 // TC_ACT_OK, TC_ACT_SHOT
)

func bpfMov(dst byte, imm int32) bpfInsn { return bpfInsn{0xb7, dst, 0, imm} }
func bpfLoad(dst byte, at int16) bpfInsn { return bpfInsn{0x61, 1<<4 | dst, at, 0} } // from r1
func bpfAnd(dst byte, imm int32) bpfInsn { return bpfInsn{0x57, dst, 0, imm} }
func bpfCall(helper int32) bpfInsn       { return bpfInsn{0x85, 0, 0, helper} }
func bpfExit() bpfInsn                   { return bpfInsn{0x95, 0, 0, 0} }
func bpfUnless(dst byte, imm int32, skip int16) bpfInsn {
	return bpfInsn{0x55, dst, skip, imm} // jump if not equal
}

func untagProgram(id uint16) []bpfInsn {
	return []bpfInsn{
		bpfLoad(0, skbVLANPresent),
		bpfUnless(0, 1, 6),
		bpfLoad(0, skbVLANTag),
		bpfAnd(0, 0xfff),
		bpfUnless(0, int32(id), 3),
		bpfCall(helperVLANPop),
		bpfMov(0, actOK),
		bpfExit(),
		bpfMov(0, actShot),
		bpfExit(),
	}
}

func tagProgram(tag uint16) []bpfInsn {
	return []bpfInsn{
		bpfMov(2, int32(binary.NativeEndian.Uint16([]byte{0x81, 0}))),
		bpfMov(3, int32(tag)),
		bpfCall(helperVLANPush),
		bpfMov(0, actOK),
		bpfExit(),
	}
}

// loadBPF gives the kernel a program for traffic control.
func loadBPF(program []bpfInsn) (fd int, err error) {
	license, log := []byte("GPL\x00"), make([]byte, 64<<10)
	attr := struct {
		kind, count    uint32
		insns, license uint64
		level, logSize uint32
		log            uint64
		version, flags uint32
	}{3, uint32(len(program)), uint64(uintptr(unsafe.Pointer(&program[0]))), uint64(uintptr(unsafe.Pointer(&license[0]))),
		1, uint32(len(log)), uint64(uintptr(unsafe.Pointer(&log[0]))), 0, 0}
	const cmdProgLoad = 5
	n, _, errno := unix.Syscall(unix.SYS_BPF, cmdProgLoad, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return -1, fmt.Errorf("bpf: %w\n%s", errno, strings.TrimRight(string(log), "\x00"))
	}
	return int(n), nil
}

// IntoVLAN makes an interface of the kernel's, such as Bridge, a member of a
// VLAN, and of nothing else. It takes the right to load programs of eBPF.
func (l *Lab) IntoVLAN(name string, id uint16, priority uint8) (err error) {
	l.Do(func() { err = intoVLAN(name, id, priority) })
	return err
}

func intoVLAN(name string, id uint16, priority uint8) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	at := netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	if err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: at, QdiscType: "clsact"}); err != nil {
		return fmt.Errorf("clsact on %s: %w", name, err)
	}
	for _, x := range []struct {
		parent  uint32
		program []bpfInsn
	}{{netlink.HANDLE_MIN_INGRESS, untagProgram(id)}, {netlink.HANDLE_MIN_EGRESS, tagProgram(uint16(ether.MakeTag(id, priority)))}} {
		fd, err := loadBPF(x.program)
		if err != nil {
			return err
		}
		err = netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: at.LinkIndex, Parent: x.parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
			Fd:          fd, Name: "vlan", DirectAction: true})
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("cls_bpf on %s: %w", name, err)
		}
	}
	return nil
}
