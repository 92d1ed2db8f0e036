package traceview

import (
	"strings"
	"testing"
)

func TestAS(t *testing.T) {
	x, err := ReadAS(strings.NewReader("# prefix, number, name\n\n10.0.0.0/8\t64500\tTen  \tand more\r\n10.1.0.0/16\tAS64501\n10.1.2.3/32\tas4294967295\tOne\x1b\n" +
		"2001:db8::/32\t64502\tSix\n2001:db8:0:1::/64\t64503\n192.0.2.77/24\t64504\tmasked\n"))
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]string{
		"10.9.9.9": "AS64500 Ten and more", "10.1.9.9": "AS64501 ", "10.1.2.3": "AS4294967295 One?", "::ffff:10.1.9.9": "AS64501 ",
		"2001:db8::1": "AS64502 Six", "2001:db8:0:1::9": "AS64503 ", "192.0.2.1": "AS64504 masked", "11.0.0.1": "AS??? ", "::1": "AS??? ",
		"fe80::1%eth0": "AS??? ",
	} {
		as, _ := x.Of(addr(a))
		if got := x.Text(addr(a)) + " " + as.Name; got != want {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
	}
	var none *ASTable
	if none.Text(addr("10.0.0.1")) != "AS???" {
		t.Error("no table")
	}
	for text, want := range map[string]string{
		"10.0.0.0/8 64500":           "line 1: want a prefix",
		"\n10.0.0.0\t64500":          "line 2: \"10.0.0.0\" is not a prefix",
		"10.0.0.0/8\tAS":             "is not the number",
		"10.0.0.0/8\t4294967296\tx":  "is not the number",
		"10.0.0.0/8\t-1":             "is not the number",
		strings.Repeat("x", 1<<17):   "too long",
		"10.0.0.0/33\t1":             "is not a prefix",
		"10.0.0.0/8\t1\nfoo\tbar\n#": "line 2",
	} {
		if _, err := ReadAS(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %s", text, err, want)
		}
	}
}

func TestOrder(t *testing.T) {
	list, err := Order("LSDRNBAWVGJMXI")
	if err != nil || len(list) != len(Columns) {
		t.Errorf("%d columns, %v", len(list), err)
	}
	if list, err = Order(DefaultOrder); err != nil || len(list) != 7 || !list[1].Whole() || list[0].Whole() {
		t.Errorf("%d columns, %v", len(list), err)
	}
	if _, err = Order("LQ"); err == nil || !strings.Contains(err.Error(), "'Q'") {
		t.Error(err)
	}
	if !strings.HasPrefix(Fields(), "L Loss%, D Drop, ") {
		t.Error(Fields())
	}
}

// FuzzReadAS: any file is read or refused, and what was read is asked for.
func FuzzReadAS(f *testing.F) {
	f.Add("10.0.0.0/8\t64500\tTen\n")
	f.Add("2001:db8::/0\tAS1\n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		if x, err := ReadAS(strings.NewReader(text)); err == nil {
			x.Text(addr("10.0.0.1"))
			x.Text(addr("2001:db8::1"))
		}
	})
}
