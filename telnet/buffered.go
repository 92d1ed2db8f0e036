package telnet

// This file owns how much of the text has come and was not read.

// Buffered is the number of bytes that ReadRune has without waiting, in the
// peer's character set. Like the other methods that read, it is for one
// goroutine at a time.
func (t *Text) Buffered() int { return len(t.raw) + t.c.Buffered() }
