package stack

import (
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// tupleOf makes a four-tuple of a number, of both families.
func tupleOf(n uint32) fourTuple {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0x0a000000+n>>8)
	local, remote := netip.AddrFrom4([4]byte{10, 77, 0, 7}), netip.AddrFrom4(b)
	if n%3 == 0 {
		local = netip.MustParseAddr("fd77::7")
		v6 := local.As16()
		copy(v6[8:], b[:])
		remote = netip.AddrFrom16(v6)
	}
	return fourTuple{netip.AddrPortFrom(local, 80), netip.AddrPortFrom(remote, uint16(n))}
}

func TestConnKey(t *testing.T) {
	seen := make(map[connKey]bool)
	for n := range uint32(3000) {
		id := tupleOf(n)
		k := id.key()
		if k.tuple() != id || seen[k] {
			t.Fatalf("%v became %v", id, k.tuple())
		}
		seen[k] = true
	}
	// The order is by all of it.
	a, b := tupleOf(1).key(), tupleOf(1).key()
	if a.compare(&b) != 0 {
		t.Error("differs from itself")
	}
	if b.remotePort++; a.compare(&b) >= 0 || b.compare(&a) <= 0 {
		t.Error("order")
	}
}

// TestShardAgainstModel does what the table does to its shards and to a Go map,
// with chains that are long because few hashes are used.
func TestShardAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, bits := range []int{2, 8, 32} {
		var sh tcpShard
		model := make(map[connKey]tcpEntry)
		seed := maphash.MakeSeed()
		hash := func(k connKey) uint32 { return uint32(maphash.Comparable(seed, k)) >> (32 - bits) }
		for step := range 20_000 {
			k := tupleOf(uint32(rng.IntN(600))).key()
			e := sh.findLocked(hash(k), &k)
			if e != model[k] {
				t.Fatalf("step %d: found %p, want %p", step, e, model[k])
			}
			grow := step%4000 < 2000
			switch {
			case e == nil && (grow || rng.IntN(4) == 0):
				x := &timeWaitEntry{}
				x.key, x.hash = k, hash(k)
				sh.putLocked(x)
				model[k] = x
			case e != nil && rng.IntN(3) == 0:
				x := &timeWaitEntry{}
				if !sh.replaceLocked(e, x) || sh.replaceLocked(e, x) {
					t.Fatal("replace")
				}
				model[k] = x
			case e != nil && (!grow || rng.IntN(4) == 0):
				if !sh.removeLocked(e) || sh.removeLocked(e) {
					t.Fatal("remove")
				}
				delete(model, k)
			}
			if sh.n != len(model) || sh.n > len(sh.chains) || len(sh.chains) > max(minChains, 8*sh.n) {
				t.Fatalf("%d entries of %d, %d chains", sh.n, len(model), len(sh.chains))
			}
		}
		n := 0
		sh.eachLocked(func(e tcpEntry) {
			if n++; model[e.link().key] != e {
				t.Error("an entry that is not there")
			}
		})
		if n != len(model) {
			t.Errorf("%d entries, want %d", n, len(model))
		}
		for _, e := range model {
			sh.removeLocked(e)
		}
		if sh.n != 0 || sh.chains != nil {
			t.Errorf("%d entries, %d chains left", sh.n, len(sh.chains))
		}
	}
}

// BenchmarkLookup finds an established connection among 10,000.
func BenchmarkLookup(b *testing.B) {
	s := New(Config{Seed: 1}) // not closed: its connections have no cores
	ids := make([]fourTuple, 10_000)
	for n := range ids {
		ids[n] = tupleOf(uint32(n))
		if err := s.tcp.insert(ids[n], &TCPConn{stack: s, removed: true}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if s.tcp.lookup(ids[n%len(ids)]) == nil {
			b.Fatal("lost")
		}
	}
}
