package inspect

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/cms"
)

const column = 24 // where values begin

// Text returns the report for people, one fact a line. It is the JSON form without brackets, so that neither lacks what the
// other has: a field that is empty has no line, and a list has one for each item.
func (r *Report) Text() string {
	var p page
	for _, a := range r.Artifacts {
		p.value("file", reflect.ValueOf(*a), true)
	}
	if v := r.Validation; v != nil {
		verdict := "refused"
		if v.OK {
			verdict = "accepted"
		}
		p.fact("verdict", verdict)
		p.below(reflect.ValueOf(*v), 1)
	}
	return p.String()
}

// page collects facts.
type page struct {
	strings.Builder
	indent string
}

// fact prints one line. What came from the artifact cannot forge lines or move the cursor.
func (p *page) fact(name, value string) {
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
		p.fact("refused", fmt.Sprintf("%s [%s]", known.Message, known.Code))
		if known.Hint != "" {
			p.fact("to do", known.Hint)
		}
		return
	case artifacts.Verdict:
		verdict := "ok"
		if !known.OK {
			verdict = "REFUSED"
		}
		p.fact(name, fmt.Sprintf("%s %s, %s", known.Step, verdict, known.Detail))
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
