package tcp

// bare completes a connection that a test has put together itself.
func bare(c Conn) *Conn {
	c.extras = &noExtras
	return &c
}
