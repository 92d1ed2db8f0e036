package wire

// fifo is a queue that grows to what it once held and then reuses its memory.
type fifo[T any] struct {
	ring        []T
	first, size int
}

func (q *fifo[T]) len() int { return q.size }

// at returns the element that i others come before.
func (q *fifo[T]) at(i int) T { return q.ring[(q.first+i)%len(q.ring)] }

func (q *fifo[T]) push(v T) {
	if q.size == len(q.ring) {
		bigger := make([]T, max(16, 2*len(q.ring)))
		n := copy(bigger, q.ring[q.first:])
		copy(bigger[n:], q.ring[:q.first])
		q.ring, q.first = bigger, 0
	}
	q.ring[(q.first+q.size)%len(q.ring)] = v
	q.size++
}

func (q *fifo[T]) pop() (v T, ok bool) {
	if q.size == 0 {
		return v, false
	}
	var zero T
	v, q.ring[q.first] = q.ring[q.first], zero
	q.first = (q.first + 1) % len(q.ring)
	q.size--
	return v, true
}
