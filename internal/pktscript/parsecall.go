package pktscript

// This file owns the grammar of system calls and their arguments.

// call takes "... 0.2 read(4, ..., 1000) = -1 EAGAIN (Try again)" from behind
// its time.
func (p *parser) call(at *When) *Call {
	if p.accept("...") {
		p.accept("+")
		at.Blocks, at.Until = true, p.time()
	}
	c := &Call{Name: p.word()}
	p.expect("(")
	for !p.accept(")") {
		c.Args = append(c.Args, p.expr())
		if !p.accept(",") {
			p.expect(")")
			break
		}
	}
	p.expect("=")
	c.Result = p.expr()
	if p.peek().kind == tokWord && p.errnoFollows() {
		c.Errno = p.word()
	}
	if p.accept("(") { // a note for the reader
		for !p.accept(")") {
			if t := p.next(); t.kind == tokEOF {
				p.fail(t, "a note without its end")
			}
		}
	}
	return c
}

// errnoFollows tells the name of an error from the word of a next event.
func (p *parser) errnoFollows() bool {
	t := p.peek().text
	return len(t) > 1 && t[0] == 'E' && t[1] >= 'A' && t[1] <= 'Z'
}

// expr takes a value, with "|" between values.
func (p *parser) expr() *Expr {
	e := p.value()
	if !p.is("|") {
		return e
	}
	or := &Expr{Kind: ExprOr, List: []*Expr{e}}
	for p.accept("|") {
		or.List = append(or.List, p.value())
	}
	return or
}

func (p *parser) value() *Expr {
	t := p.next()
	switch t.kind {
	case tokInt, tokHex:
		n, err := parseInt(t)
		if err != nil {
			p.fail(t, "number %s", t)
		}
		return &Expr{Kind: ExprInt, Int: n}
	case tokString:
		e := &Expr{Kind: ExprString, Text: unescape(t.text)}
		for p.peek().kind == tokString {
			e.Text += unescape(p.next().text)
		}
		p.accept("...")
		return e
	case tokWord:
		if p.is("(") { // htons(80), inet_addr("192.0.2.1"): what is inside
			p.next()
			e := p.expr()
			p.expect(")")
			return e
		}
		return &Expr{Kind: ExprWord, Text: t.text}
	case tokPunct:
		switch t.text {
		case "...":
			return &Expr{Kind: ExprAny}
		case "[":
			e := &Expr{Kind: ExprList}
			for !p.accept("]") {
				e.List = append(e.List, p.expr())
				if !p.accept(",") {
					p.expect("]")
					break
				}
			}
			return e
		case "{":
			return p.structure()
		}
	}
	p.fail(t, "%q where a value should be", t)
	return nil
}

// structure takes the members of "{a=1, b(2)=[3], ...}".
func (p *parser) structure() *Expr {
	e := &Expr{Kind: ExprStruct}
	for !p.accept("}") {
		name := ""
		if p.peek().kind == tokWord {
			switch {
			case p.peekAt(1).text == "=":
				name = p.word()
				p.expect("=")
			case p.peekAt(1).text == "(" && p.peekAt(3).text == ")" && p.peekAt(4).text == "=":
				// msg_iov(2)=[...]: the count is checked by nobody else.
				name = p.word()
				p.expect("(")
				p.value()
				p.expect(")")
				p.expect("=")
			}
		}
		e.Names = append(e.Names, name)
		e.List = append(e.List, p.expr())
		if !p.accept(",") {
			p.expect("}")
			break
		}
	}
	return e
}

// unescape resolves the escapes of a string in C.
func unescape(s string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case '0':
			b = append(b, 0)
		case 'x':
			n, v := 0, byte(0)
			for n < 2 && i+1 < len(s) {
				d, ok := hexDigit(s[i+1])
				if !ok {
					break
				}
				v = v<<4 | d
				i++
				n++
			}
			b = append(b, v)
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
