package pktscript

import (
	"fmt"
	"strconv"
	"strings"
)

// This file owns the expressions of the code between %{ and }%.

// evaluator evaluates an expression while it parses it. Methods panic with
// evalError.
type evaluator struct {
	src     string
	at      int
	env     env
	condEnd int // where the condition of an assert ends
	message string
}

type evalError string

func (e evalError) Error() string { return string(e) }

// whole evaluates all of src: an expression, with assert one more behind a
// comma, the message.
func (x *evaluator) whole(assert bool) (val any, err error) {
	val, err = x.parse()
	x.condEnd = x.at
	if err == nil && assert && x.take(",") {
		m, e := x.parse()
		if e == nil {
			x.message = fmt.Sprint(m)
		}
		err = e
	}
	x.skip()
	if err == nil && x.at < len(x.src) {
		err = evalError(fmt.Sprintf("%q is too much", x.src[x.at:]))
	}
	return val, err
}

func (x *evaluator) parse() (val any, err error) {
	defer func() {
		if e := recover(); e != nil {
			known, ok := e.(evalError)
			if !ok {
				panic(e)
			}
			err = known
		}
	}()
	return x.or(), nil
}

func (x *evaluator) skip() {
	for x.at < len(x.src) && (x.src[x.at] == ' ' || x.src[x.at] == '\t' || x.src[x.at] == '\n') {
		x.at++
	}
}

// take passes an operator.
func (x *evaluator) take(op string) bool {
	x.skip()
	if !strings.HasPrefix(x.src[x.at:], op) {
		return false
	}
	if isWord(op[0]) && x.at+len(op) < len(x.src) && isWord(x.src[x.at+len(op)]) {
		return false
	}
	x.at += len(op)
	return true
}

func (x *evaluator) or() any {
	v := x.and()
	for x.take("or") {
		w := x.and()
		if !truth(v) {
			v = w
		}
	}
	return v
}

func (x *evaluator) and() any {
	v := x.not()
	for x.take("and") {
		w := x.not()
		if truth(v) {
			v = w
		}
	}
	return v
}

func (x *evaluator) not() any {
	if x.take("not") {
		return !truth(x.not())
	}
	return x.compare()
}

var comparisons = []string{"==", "!=", "<=", ">=", "<", ">", "in"}

// compare is a chain as "990 <= x <= 1010".
func (x *evaluator) compare() any {
	v := x.binary(0)
	result, chained := true, false
chain:
	for {
		for _, op := range comparisons {
			x.skip()
			if (op == "<" || op == ">") && strings.HasPrefix(x.src[x.at:], op+op) {
				continue // a shift; binary has taken those that belong here
			}
			if x.take(op) {
				w := x.binary(0)
				result = result && compare(op, v, w)
				v, chained = w, true
				continue chain
			}
		}
		break
	}
	if chained {
		return result
	}
	return v
}

func compare(op string, a, b any) bool {
	if s, ok := a.(string); ok {
		t, ok := b.(string)
		if !ok {
			panic(evalError("a string compared with a number"))
		}
		switch op {
		case "==":
			return s == t
		case "!=":
			return s != t
		case "in":
			return strings.Contains(t, s)
		}
		panic(evalError("strings compared by " + op))
	}
	d := 0
	if i, ok := toInt(a); ok {
		if j, ok := toInt(b); ok {
			switch {
			case i < j:
				d = -1
			case i > j:
				d = 1
			}
			return holds(op, d)
		}
	}
	p, q := toFloat(a), toFloat(b)
	switch {
	case p < q:
		d = -1
	case p > q:
		d = 1
	}
	return holds(op, d)
}

func holds(op string, d int) bool {
	switch op {
	case "==":
		return d == 0
	case "!=":
		return d != 0
	case "<=":
		return d <= 0
	case ">=":
		return d >= 0
	case "<":
		return d < 0
	case ">":
		return d > 0
	}
	panic(evalError("numbers compared by " + op))
}

func toInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func toFloat(v any) float64 {
	if f, ok := v.(float64); ok {
		return f
	}
	if i, ok := toInt(v); ok {
		return float64(i)
	}
	panic(evalError(fmt.Sprintf("%v is no number", v)))
}

// operators are the binary ones by rising precedence.
var operators = [][]string{{"|"}, {"^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "//", "/", "%"}}

func (x *evaluator) binary(level int) any {
	if level == len(operators) {
		return x.unary()
	}
	v := x.binary(level + 1)
again:
	for {
		for _, op := range operators[level] {
			if x.take(op) {
				v = apply(op, v, x.binary(level+1))
				continue again
			}
		}
		return v
	}
}

func apply(op string, a, b any) any {
	if s, ok := a.(string); ok {
		switch op {
		case "%":
			return s + " % " + fmt.Sprint(b) // only ever a message
		case "+":
			return s + fmt.Sprint(b)
		}
		panic(evalError("a string and " + op))
	}
	i, iok := toInt(a)
	j, jok := toInt(b)
	if iok && jok && op != "/" {
		if j == 0 && (op == "//" || op == "%") {
			panic(evalError("division by zero"))
		}
		switch op {
		case "|":
			return i | j
		case "^":
			return i ^ j
		case "&":
			return i & j
		case "<<":
			return i << uint64(j&63)
		case ">>":
			return i >> uint64(j&63)
		case "+":
			return i + j
		case "-":
			return i - j
		case "*":
			return i * j
		case "//":
			return floorDiv(i, j)
		case "%":
			return i - j*floorDiv(i, j)
		}
	}
	p, q := toFloat(a), toFloat(b)
	switch op {
	case "+":
		return p + q
	case "-":
		return p - q
	case "*":
		return p * q
	case "/":
		if q == 0 {
			panic(evalError("division by zero"))
		}
		return p / q
	case "//":
		if q == 0 {
			panic(evalError("division by zero"))
		}
		return float64(int64(p / q))
	}
	panic(evalError("numbers with a fraction and " + op))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

func (x *evaluator) unary() any {
	switch {
	case x.take("-"):
		v := x.unary()
		if i, ok := toInt(v); ok {
			return -i
		}
		return -toFloat(v)
	case x.take("+"):
		return x.unary()
	case x.take("~"):
		i, ok := toInt(x.unary())
		if !ok {
			panic(evalError("~ of no integer"))
		}
		return ^i
	}
	return x.primary()
}

func (x *evaluator) primary() any {
	x.skip()
	if x.at >= len(x.src) {
		panic(evalError("an expression ends too early"))
	}
	c := x.src[x.at]
	switch {
	case c == '(':
		return x.tuple()
	case c == '\'' || c == '"':
		return x.quoted(c)
	case isDigit(c) || c == '.':
		return x.number()
	case isWord(c):
		n := span(x.src[x.at:], isWord)
		name := x.src[x.at : x.at+n]
		x.at += n
		if x.skip(); x.at < len(x.src) && x.src[x.at] == '(' {
			return x.function(name)
		}
		switch name {
		case "True":
			return true
		case "False":
			return false
		case "None":
			return nil
		}
		v, ok := x.env[name]
		if !ok {
			panic(evalError(fmt.Sprintf("name %q is not defined", name)))
		}
		return v
	}
	panic(evalError(fmt.Sprintf("%q is not understood", x.src[x.at:])))
}

// tuple takes "(a)", or "(a, b)", which only ever is part of a message.
func (x *evaluator) tuple() any {
	x.take("(")
	v := x.or()
	list := []string{fmt.Sprint(v)}
	for x.take(",") {
		list = append(list, fmt.Sprint(x.or()))
	}
	if !x.take(")") {
		panic(evalError("a bracket is missing"))
	}
	if len(list) > 1 {
		return strings.Join(list, ", ")
	}
	return v
}

func (x *evaluator) quoted(q byte) any {
	i := x.at + 1
	for i < len(x.src) && x.src[i] != q {
		if x.src[i] == '\\' {
			i++
		}
		i++
	}
	if i >= len(x.src) {
		panic(evalError("a string without its end"))
	}
	s := x.src[x.at+1 : i]
	x.at = i + 1
	return s
}

func (x *evaluator) number() any {
	n := span(x.src[x.at:], func(c byte) bool { return isWord(c) || c == '.' })
	text := x.src[x.at : x.at+n]
	x.at += n
	if i, err := strconv.ParseInt(text, 0, 64); err == nil {
		return i
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(evalError(fmt.Sprintf("number %q", text)))
	}
	return f
}

func (x *evaluator) function(name string) any {
	x.take("(")
	var args []any
	for !x.take(")") {
		args = append(args, x.or())
		if !x.take(",") {
			if !x.take(")") {
				panic(evalError("a bracket is missing"))
			}
			break
		}
	}
	if len(args) == 0 {
		panic(evalError("function " + name + " without arguments"))
	}
	switch name {
	case "abs":
		if i, ok := toInt(args[0]); ok {
			return max(i, -i)
		}
		return max(toFloat(args[0]), -toFloat(args[0]))
	case "int":
		if i, ok := toInt(args[0]); ok {
			return i
		}
		return int64(toFloat(args[0]))
	case "float":
		return toFloat(args[0])
	case "str":
		return fmt.Sprint(args[0])
	case "min", "max":
		best := args[0]
		for _, a := range args[1:] {
			if compare("<", a, best) == (name == "min") {
				best = a
			}
		}
		return best
	}
	panic(evalError("function " + name))
}
