package telnet

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	utf "golang.org/x/text/encoding/unicode"

	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the names of character sets.

// moreCharsets are names that the indexes of x/text do not have in this form.
var moreCharsets = []struct {
	name string
	enc  encoding.Encoding
}{
	{"CP437", charmap.CodePage437}, {"IBM437", charmap.CodePage437},
	{"CP850", charmap.CodePage850}, {"CP852", charmap.CodePage852}, {"CP855", charmap.CodePage855},
	{"CP858", charmap.CodePage858}, {"CP860", charmap.CodePage860}, {"CP862", charmap.CodePage862},
	{"CP863", charmap.CodePage863}, {"CP865", charmap.CodePage865}, {"CP866", charmap.CodePage866},
	{"CP037", charmap.CodePage037}, {"IBM037", charmap.CodePage037},
	{"LATIN1", charmap.ISO8859_1}, {"ISO8859-1", charmap.ISO8859_1}, {"8859-1", charmap.ISO8859_1},
	{"US-ASCII", charmap.ISO8859_1}, {"ASCII", charmap.ISO8859_1}, {"ANSI_X3.4-1968", charmap.ISO8859_1},
	{"UTF-16", utf.UTF16(utf.BigEndian, utf.UseBOM)},
}

// asia are the numbers of code pages for which the indexes have other names.
var asia = map[string]string{"cp932": "shift_jis", "ms932": "shift_jis", "sjis": "shift_jis", "cp936": "gbk", "gb2312": "gbk",
	"cp949": "euc-kr", "uhc": "euc-kr", "cp950": "big5", "eucjp": "euc-jp", "euckr": "euc-kr", "utf8": "utf-8",
	"big5hkscs": "big5", "koi8r": "koi8-r", "koi8u": "koi8-u"}

// lookupCharset returns the encoding of a name, nil for UTF-8. ASCII is taken
// for Latin-1: a byte beyond it is more useful than a question mark.
func lookupCharset(name string) (enc encoding.Encoding, ok bool) {
	if strings.ContainsFunc(name, unicode.IsControl) {
		return nil, false // it comes from the peer, and is shown
	}
	if option.SameCharset(name, "UTF-8") {
		return nil, true
	}
	for _, m := range moreCharsets {
		if option.SameCharset(m.name, name) {
			return m.enc, true
		}
	}
	low := strings.ToLower(name)
	plain := strings.NewReplacer("-", "", "_", "", " ", "").Replace(low)
	try := []string{low, asia[plain], strings.Replace(plain, "iso8859", "iso-8859-", 1), strings.Replace(plain, "cp", "windows-", 1)}
	for _, s := range try {
		if s == "" {
			continue
		}
		if e, err := htmlindex.Get(s); err == nil && e != encoding.Replacement {
			return e, true
		}
		if e, err := ianaindex.IANA.Encoding(s); err == nil && e != nil {
			return e, true
		}
	}
	return nil, false
}

// KnownCharset reports whether text can be in a character set: UTF-8, the ISO
// 8859 and Windows families, KOI8, IBM's code pages, the sets of China, Japan,
// Korea and Taiwan, UTF-16, EBCDIC 037.
func KnownCharset(name string) bool {
	_, ok := lookupCharset(name)
	return ok
}

// DecodeText is text that was received in a character set as UTF-8; what is no
// character of it becomes U+FFFD. The error is that of an unknown name.
func DecodeText(charset, s string) (string, error) {
	enc, ok := lookupCharset(charset)
	switch {
	case !ok:
		return "", fmt.Errorf("telnet: no character set %q", charset)
	case enc == nil:
		return strings.ToValidUTF8(s, "\ufffd"), nil
	}
	return enc.NewDecoder().String(s)
}

// otherCharsets are what a server offers behind the one it likes best.
func otherCharsets(but string) []string {
	var names []string
	for _, n := range []string{"UTF-8", "LATIN1", "CP1252", "ISO-8859-15", "KOI8-R", "CP437", "SHIFT_JIS", "EUC-JP", "BIG5", "GBK", "GB18030",
		"EUC-KR", "US-ASCII"} {
		if !option.SameCharset(n, but) {
			names = append(names, n)
		}
	}
	return names
}
