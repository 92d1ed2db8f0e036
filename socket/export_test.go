package socket

// RunFilter checks a program given as bytes and runs it on a packet.
func RunFilter(program, packet []byte) (int, error) {
	p, err := parseFilter(program)
	if err != nil {
		return 0, err
	}
	f, err := compileFilter(p)
	if err != nil {
		return 0, err
	}
	return f(packet), nil
}
