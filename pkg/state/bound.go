package state

import (
	"encoding/json"
	"reflect"
	"strings"
	"unicode"
)

const (
	// maxText bounds one text of a status, in bytes. Certificates, replies and error messages can hold more.
	maxText = 1 << 10
	// maxLast bounds the encoded Record.Last: the record must always have room for what the device needs to go on.
	maxLast = MaxRecord / 2
	// lastServers is how many servers Record.Last keeps when it has to choose.
	lastServers = 16
)

// tidy shortens every text of v, and takes out what could move the cursor of a terminal: who reads the file is not always
// `ztp status`.
func tidy(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			tidy(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() { // leaves out the inside of time.Time
				tidy(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			tidy(v.Index(i))
		}
	case reflect.String:
		if text := v.String(); !isTidy(text) {
			v.SetString(tidyText(text))
		}
	}
}

func isTidy(s string) bool { return len(s) <= maxText && !strings.ContainsFunc(s, odd) }

func odd(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }

func tidyText(s string) string {
	const more = "…"
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText/2], "") + more // half, since replacements are longer
	}
	return strings.Map(func(r rune) rune {
		if odd(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// Abridged returns s with as much of its lists left out as is needed for it to be kept in a record.
func (s Status) Abridged() *Status {
	for _, leaveOut := range []func(){
		func() { s.Servers = s.Servers[max(0, len(s.Servers)-lastServers):] },
		func() {
			s.Servers, s.Sources, s.Interfaces, s.Downloads, s.Reports, s.Warnings = nil, nil, nil, nil, nil, nil
		},
	} {
		if data, err := json.Marshal(s); err == nil && len(data) <= maxLast {
			break
		}
		leaveOut()
	}
	return &s
}
