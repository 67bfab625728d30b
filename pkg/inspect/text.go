package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

const (
	column   = 24  // where values begin
	maxValue = 480 // characters of a value that are shown
)

// Text returns the report for people, one fact a line. It is the JSON form without brackets, so that neither lacks what the
// other has: a field that is empty has no line, and a list has one for each item.
func (r *Report) Text() string {
	p := page{verdict: Refused}
	for _, a := range r.Artifacts {
		p.value("file", reflect.ValueOf(*a), true)
	}
	if v := r.Validation; v != nil {
		p.verdict = v.Verdict
		p.fact("verdict", string(v.Verdict))
		p.below(reflect.ValueOf(*v), 1)
	}
	return p.String()
}

// page collects facts.
type page struct {
	strings.Builder
	indent  string
	verdict Verdict // that a problem stands for
}

// fact prints one line. What came from the artifact cannot forge lines or move the cursor, and does not fill the screen; the
// JSON form has all of it.
func (p *page) fact(name, value string) {
	if runes := []rune(value); len(runes) > maxValue {
		value = fmt.Sprintf("%s… (%d characters)", string(runes[:maxValue]), len(runes))
	}
	line := fmt.Sprintf("%-*s%s", column, p.indent+name+" ", cms.Visible(value))
	p.WriteString(strings.TrimRight(line, " ") + "\n")
}

// value prints what there is of v. An item of a list that has fields is known by the first of them.
func (p *page) value(name string, v reflect.Value, item bool) {
	if v.IsZero() {
		return
	}
	switch known := v.Interface().(type) {
	case *Problem:
		p.fact(string(p.verdict), fmt.Sprintf("%s [%s]", known.Message, known.Code))
		if known.Hint != "" {
			p.fact("to do", known.Hint)
		}
		return
	case []Check:
		p.checks(known)
		return
	case time.Time:
		p.fact(name, known.UTC().Format(time.RFC3339))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p.value(name, v.Elem(), item)
	case reflect.Slice:
		for i := range v.Len() {
			p.value(strings.TrimSuffix(name, "s"), v.Index(i), true)
		}
	case reflect.Struct:
		if item {
			p.fact(name, v.Field(0).String())
			p.below(v, 1)
			return
		}
		p.fact(name, "")
		p.below(v, 0)
	case reflect.String:
		p.fact(name, v.String())
	case reflect.Bool:
		p.fact(name, "yes")
	default:
		p.fact(name, fmt.Sprint(v.Interface()))
	}
}

// checks prints one line for each check that ran, and one for those in a row that did not for the same reason.
func (p *page) checks(all []Check) {
	for i := 0; i < len(all); i++ {
		c := all[i]
		switch c.Result {
		case NotRun:
			steps := string(c.Step)
			for ; i+1 < len(all) && all[i+1].Result == NotRun && all[i+1].Detail == c.Detail; i++ {
				steps += ", " + string(all[i+1].Step)
			}
			p.fact("not run", c.Detail+": "+steps)
		case Failed:
			p.fact("check", fmt.Sprintf("%s FAILED: %s", c.Step, c.Detail))
		default:
			p.fact("check", fmt.Sprintf("%s %s: %s", c.Step, c.Result, c.Detail))
		}
	}
}

// below prints the fields of a struct from the given one on.
func (p *page) below(v reflect.Value, first int) {
	outer := p.indent
	p.indent += "  "
	for i := first; i < v.NumField(); i++ {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			p.value(strings.ReplaceAll(name, "_", " "), v.Field(i), false)
		}
	}
	p.indent = outer
}

// JSON returns the report as one line of JSON in which every character that a terminal could take for a command is escaped.
func (r *Report) JSON() ([]byte, error) {
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, c := range string(plain) {
		if unicode.IsPrint(c) {
			b.WriteRune(c)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, c) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
