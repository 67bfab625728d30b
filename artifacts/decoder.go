package artifacts

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
)

// maxWarnings is how many deviations of one document are told; after so many, more say nothing new.
const maxWarnings = 16

// decoder reads YANG data encoded in JSON (RFC 7951) and, for conveyed information, in XML. It keeps the first error, after
// which results mean nothing, so that callers read a document top-down and look at err once.
type decoder struct {
	lenient  bool
	warnings []string
	err      error
}

func (d *decoder) fail(path, format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) warn(path, format string, args ...any) {
	if d.err == nil && len(d.warnings) < maxWarnings {
		d.warnings = append(d.warnings, fmt.Sprintf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
}

// object is an object of which every member must be asked for, or else is unknown.
type object struct {
	d       *decoder
	path    string
	members map[string]strictjson.Value
}

// object takes the members of v, which belong to a YANG module. known are the names that may be there. tolerant objects
// may have others, which are ignored with a warning.
func (d *decoder) object(path string, v strictjson.Value, module string, tolerant bool, known ...string) object {
	o := object{d: d, path: path, members: make(map[string]strictjson.Value, len(v.Members))}
	if v.Kind != strictjson.Object {
		d.fail(path, "an object is expected, not %s", article(v.Kind))
		return o
	}
	for _, m := range v.Members {
		name := m.Name
		if plain, qualified := strings.CutPrefix(name, module+":"); qualified && module != "" && d.lenient {
			name = plain
			d.warn(path, "%s is needlessly qualified with its module", name)
		}
		if _, twice := o.members[name]; twice {
			d.fail(path, "%s appears twice", name)
		}
		switch near := spelling(name, known); {
		case near == name:
			o.members[name] = m.Value
		case near != "":
			d.fail(path, "%s is not a name; %s is", cms.Printable(m.Name), near)
		case d.lenient || tolerant:
			d.warn(path, "unknown member %s is ignored", cms.Printable(m.Name))
		default:
			d.fail(path, "unknown member %s", cms.Printable(m.Name))
		}
	}
	return o
}

// spelling returns name when it is known, a known name that differs only by case, or nothing.
func spelling(name string, known []string) (near string) {
	for _, k := range known {
		if k == name {
			return k
		}
		if strings.EqualFold(k, name) {
			near = k
		}
	}
	return near
}

func (o object) has(name string) bool {
	_, ok := o.members[name]
	return ok
}

// at is the path of a member, for messages.
func (o object) at(name string) string { return o.path + "/" + name }

// take returns a member of the wanted kind, if it is there.
func (o object) take(name string, kind strictjson.Kind) (strictjson.Value, bool) {
	v, ok := o.members[name]
	if ok && v.Kind != kind {
		o.d.fail(o.at(name), "%s is expected, not %s", article(kind), article(v.Kind))
		return strictjson.Value{}, false
	}
	return v, ok
}

// text returns a string member, or "".
func (o object) text(name string) string {
	v, _ := o.take(name, strictjson.String)
	return v.Text
}

// list returns the items of an array member.
func (o object) list(name string) []strictjson.Value {
	if o.d.lenient && o.members[name].Kind == strictjson.Null { // which encoders make of a list that they do not have
		o.d.warn(o.at(name), "null is read as an empty list")
		return nil
	}
	v, _ := o.take(name, strictjson.Array)
	return v.Items
}

// binary returns the bytes of a base64 member, or nil when it is not there.
func (o object) binary(name string) []byte {
	v, ok := o.take(name, strictjson.String)
	if !ok {
		return nil
	}
	text := v.Text
	// encoding/base64 skips line breaks silently; the type binary has none (RFC 7951 §6.6).
	if strings.ContainsAny(text, "\r\n\t ") {
		if !o.d.lenient {
			o.d.fail(o.at(name), "base64 with white space, such as line breaks; `base64 -w0` writes none")
			return nil
		}
		o.d.warn(o.at(name), "base64 with white space")
		text = strings.Map(dropSpace, text)
	}
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		o.d.fail(o.at(name), "not standard base64 with padding")
	}
	return data
}

func dropSpace(r rune) rune {
	if strings.ContainsRune("\r\n\t ", r) {
		return -1
	}
	return r
}

func article(k strictjson.Kind) string {
	switch k {
	case strictjson.Null:
		return "null"
	case strictjson.Array, strictjson.Object:
		return "an " + string(k)
	}
	return "a " + string(k)
}
