package pktscript

import (
	"fmt"
	"strings"
)

// This file owns the code between %{ and }%: the small part of Python that
// scripts use. A statement is an assertion, an assignment, a call of print
// (which prints nothing), or a condition in one line. Values are numbers and
// strings.

// env are the variables that code sees.
type env map[string]any

// assertion is the failure of an assert.
type assertion struct{ text, message string }

func (a *assertion) Error() string {
	if a.message == "" {
		return "assertion failed: " + a.text
	}
	return fmt.Sprintf("assertion failed: %s (%s)", a.text, a.message)
}

// exec runs code. It returns an *assertion, or an error for what is not
// understood.
func (v env) exec(code string) (err error) {
	code = strings.ReplaceAll(code, "\\\n", " ")
	for _, line := range splitStatements(code) {
		if err := v.statement(line); err != nil {
			return err
		}
	}
	return nil
}

// splitStatements cuts code at newlines and semicolons outside strings and
// brackets, and drops comments.
func splitStatements(code string) (list []string) {
	depth, quote, from := 0, byte(0), 0
	cut := func(to int) {
		if s := strings.TrimSpace(code[from:to]); s != "" {
			list = append(list, s)
		}
		from = to + 1
	}
	for i := 0; i < len(code); i++ {
		c := code[i]
		switch {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == '#':
			end := strings.IndexByte(code[i:], '\n')
			if end < 0 {
				end = len(code) - i
			}
			code = code[:i] + strings.Repeat(" ", end) + code[i+end:]
			i--
		case depth <= 0 && (c == '\n' || c == ';'):
			cut(i)
		}
	}
	cut(len(code))
	return list
}

func (v env) statement(s string) error {
	if rest, ok := keyword(s, "assert"); ok {
		x := &evaluator{src: rest, env: v}
		val, err := x.whole(true)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if truth(val) {
			return nil
		}
		return &assertion{strings.TrimSpace(x.src[:x.condEnd]), x.message}
	}
	if _, ok := keyword(s, "print"); ok {
		return nil
	}
	for _, word := range []string{"import", "pass"} {
		if _, ok := keyword(s, word); ok {
			return nil
		}
	}
	if rest, ok := keyword(s, "if"); ok {
		x := &evaluator{src: rest, env: v}
		val, err := x.parse()
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if !x.take(":") {
			return fmt.Errorf("%s: not understood", s)
		}
		if truth(val) {
			return v.exec(x.src[x.at:])
		}
		return nil
	}
	if name, rest, ok := strings.Cut(s, "="); ok {
		name = strings.TrimSpace(name)
		if name != "" && span(name, isWord) == len(name) && !strings.HasPrefix(rest, "=") {
			x := &evaluator{src: rest, env: v}
			val, err := x.whole(false)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			v[name] = val
			return nil
		}
	}
	return fmt.Errorf("%s: not understood", s)
}

func keyword(s, word string) (rest string, ok bool) {
	if !strings.HasPrefix(s, word) || len(s) > len(word) && isWord(s[len(word)]) {
		return s, false
	}
	return s[len(word):], true
}

func truth(v any) bool {
	switch v := v.(type) {
	case int64:
		return v != 0
	case float64:
		return v != 0
	case bool:
		return v
	case string:
		return v != ""
	}
	return v != nil
}
