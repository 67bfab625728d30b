// Package strictxml reads the XML encoding of YANG data (RFC 7950 §7) from untrusted peers into the tree that strictjson makes
// of the JSON encoding (RFC 7951) of the same data, so that one set of rules applies to both. What an element is cannot be
// told from XML, so the caller describes the module. Document types, and with them entities, processing instructions and
// everything that two readers could understand differently, such as a comment inside of a value, are refused. Size of
// markup, depth, and the number of elements and attributes are bounded, so that memory stays in proportion to the input.
package strictxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/strictjson"
)

// Limits of what is read.
const (
	MaxDepth      = strictjson.MaxDepth  // elements
	MaxNodes      = strictjson.MaxValues // elements and attributes
	MaxAttributes = 16                   // of one element
	MaxMarkup     = 4096                 // bytes of one tag, comment or declaration
)

// Module describes data of one YANG module.
type Module struct {
	Name      string           // as JSON qualifies names with it
	Namespace string           // of its elements
	Roots     map[string]Shape // the elements that a document can consist of, by their local name
}

// Shape says what an element is, which its spelling in XML does not tell. The zero shape is that of unknown elements, whose
// contents are passed over.
type Shape struct {
	Kind     strictjson.Kind  // String and Number are leaves, Object is a container
	List     bool             // may appear more than once
	Verbatim bool             // white space belongs to the value
	Identity bool             // the value is a name in a namespace (RFC 7950 §9.10.3)
	Members  map[string]Shape // of a container, by their local name
}

// Parse reads a document, which must be one element of the module. tolerate is told, in words for people, of what other
// readers might have refused, and where it is; without it Parse refuses that. The result is an object with the root element
// as its only member, its name qualified as in JSON; an unknown element is a Null.
func (m *Module) Parse(data []byte, tolerate func(where, what string)) (strictjson.Value, error) {
	in := &markupReader{data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))}
	r := reader{module: m, tolerate: tolerate, in: in, tokens: xml.NewDecoder(in)}
	v, err := r.document()
	if err != nil {
		return strictjson.Value{}, fmt.Errorf("%w, at byte %d", err, r.tokens.InputOffset())
	}
	return v, nil
}

type reader struct {
	module   *Module
	tolerate func(where, what string) // nil refuses
	in       *markupReader
	tokens   *xml.Decoder
	nodes    int
	scopes   [][]xml.Attr // namespace declarations of the open elements, outermost first
}

// deviation is told to whoever tolerates it, and else an error.
func (r *reader) deviation(where, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if r.tolerate == nil {
		return fmt.Errorf("%s: %s", where, what)
	}
	r.tolerate(where, what)
	return nil
}

// document returns an object with the root element as its only member.
func (r *reader) document() (strictjson.Value, error) {
	v := strictjson.Value{Kind: strictjson.Object}
	for first := true; ; first = false {
		token, err := r.next()
		if err == io.EOF && len(v.Members) == 1 {
			return v, nil
		}
		if err == io.EOF {
			return v, errors.New("not XML: no root element")
		}
		if err != nil {
			return v, err
		}
		if declaration, ok := token.(xml.ProcInst); ok && first && declaration.Target == "xml" {
			continue
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			if err := between(token); err != nil {
				return v, err
			}
			continue
		}
		if len(v.Members) == 1 {
			return v, errors.New("not XML: a second root element")
		}
		name := r.nameOf(start.Name)
		s, known := r.module.Roots[name]
		if known {
			name = r.module.Name + ":" + name
		}
		root, err := r.element(start, s, 1)
		if err != nil {
			return v, err
		}
		v.Members = []strictjson.Member{{Name: name, Value: root}}
	}
}

// next returns a token of bounded size; only text may be long.
func (r *reader) next() (xml.Token, error) {
	r.in.allow(int(r.tokens.InputOffset()))
	token, err := r.tokens.Token()
	if err != nil && err != io.EOF {
		return nil, errors.New("not XML: " + printable(err.Error())) // it may quote what was sent
	}
	return token, err
}

// between refuses what must not be between elements. Comments and white space may.
func between(token xml.Token) error {
	switch t := token.(type) {
	case xml.Comment:
		return nil
	case xml.CharData:
		if len(bytes.Trim(t, space)) == 0 {
			return nil
		}
		return errors.New("text between elements")
	case xml.Directive:
		return errors.New("a document type declaration")
	}
	return errors.New("a processing instruction")
}

func (r *reader) element(start xml.StartElement, s Shape, depth int) (strictjson.Value, error) {
	if r.nodes += 1 + len(start.Attr); r.nodes > MaxNodes {
		return strictjson.Value{}, fmt.Errorf("more than %d elements and attributes", MaxNodes)
	}
	if depth > MaxDepth {
		return strictjson.Value{}, fmt.Errorf("nested more than %d deep", MaxDepth)
	}
	scope, err := r.attributes(start)
	if err != nil {
		return strictjson.Value{}, err
	}
	r.scopes = append(r.scopes, scope)
	defer func() { r.scopes = r.scopes[:len(r.scopes)-1] }()
	switch s.Kind {
	case strictjson.Object:
		return r.container(s, depth)
	case "":
		return strictjson.Value{Kind: strictjson.Null}, r.skip(depth)
	}
	return r.leaf(start.Name.Local, s)
}

// attributes returns the namespace declarations of an element, which are the only attributes that the module has.
func (r *reader) attributes(start xml.StartElement) (scope []xml.Attr, err error) {
	if len(start.Attr) > MaxAttributes {
		return nil, fmt.Errorf("%d attributes, at most %d are read", len(start.Attr), MaxAttributes)
	}
	for i, a := range start.Attr {
		same := func(other xml.Attr) bool { return other.Name == a.Name }
		if slices.ContainsFunc(start.Attr[:i], same) {
			return nil, fmt.Errorf("not XML: attribute %s appears twice", printable(a.Name.Local))
		}
		switch {
		case a.Name.Space == "xmlns" && !mayStandFor(a.Name.Local, a.Value):
			return nil, fmt.Errorf("not XML: prefix %s stands for nothing, or for what it must not", printable(a.Name.Local))
		case a.Name.Space == "xmlns", a.Name == xml.Name{Local: "xmlns"}:
			scope = append(scope, a)
		default:
			if err := r.deviation(printable(start.Name.Local), "unknown attribute %s", printable(a.Name.Local)); err != nil {
				return nil, err
			}
		}
	}
	return scope, nil
}

// container reads the children of an element up to its end. Entries of a list keep their order, wherever they are.
func (r *reader) container(s Shape, depth int) (strictjson.Value, error) {
	v := strictjson.Value{Kind: strictjson.Object}
	position := make(map[string]int)
	for {
		token, err := r.next()
		if err != nil {
			return v, err
		}
		if _, ok := token.(xml.EndElement); ok {
			return v, nil
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			if err := between(token); err != nil {
				return v, err
			}
			continue
		}
		name := r.nameOf(start.Name)
		member, known := s.Members[name]
		value, err := r.element(start, member, depth+1)
		if err != nil {
			return v, err
		}
		at, again := position[name]
		switch {
		case again && member.List:
			v.Members[at].Value.Items = append(v.Members[at].Value.Items, value)
			continue
		case again && known:
			return v, fmt.Errorf("element %s appears twice", name)
		case again:
			continue // an unknown element may be a list
		case member.List:
			value = strictjson.Value{Kind: strictjson.Array, Items: []strictjson.Value{value}}
		}
		position[name] = len(v.Members)
		v.Members = append(v.Members, strictjson.Member{Name: name, Value: value})
	}
}

// skip passes over the contents of an unknown element, within the same limits.
func (r *reader) skip(depth int) error {
	for {
		token, err := r.next()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if _, err := r.element(t, Shape{}, depth+1); err != nil {
				return err
			}
		case xml.CharData:
		default:
			if err := between(token); err != nil {
				return err
			}
		}
	}
}

// leaf reads the value of an element. The empty-element tag is an empty value.
func (r *reader) leaf(name string, s Shape) (strictjson.Value, error) {
	var text strings.Builder // not copied: the value may be megabytes long
	for {
		token, err := r.next()
		if err != nil {
			return strictjson.Value{}, err
		}
		switch t := token.(type) {
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			return r.value(name, s, text.String())
		default:
			return strictjson.Value{}, fmt.Errorf("%s has more than a value inside", name)
		}
	}
}

func (r *reader) value(name string, s Shape, text string) (strictjson.Value, error) {
	v := strictjson.Value{Kind: s.Kind, Text: text}
	if plain := strings.Trim(text, space); plain != text && !s.Verbatim {
		if err := r.deviation(name, "white space around the value"); err != nil {
			return v, err
		}
		v.Text = plain
	}
	var err error
	if s.Identity {
		v.Text, err = r.identity(name, v.Text)
	}
	if s.Kind == strictjson.Number {
		v.Text = strings.TrimPrefix(v.Text, "+") // RFC 7950 §9.2.1; JSON has no such sign
	}
	return v, err
}
