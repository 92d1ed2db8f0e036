package pkt

// Memory returns the size of the slab that a buffer for size bytes of data has:
// what it costs to keep one, however little is in it.
func Memory(size int) int {
	if size <= SmallSlab-Headroom {
		return SmallSlab
	}
	return LargeSlab
}

// Memory returns the size of the buffer's slab.
func (b *Buf) Memory() int { return len(b.slab) }
