package artifacts

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
)

// The namespace of conveyed information, and limits of what is read.
const (
	conveyedNamespace = "urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info"
	maxXMLDepth       = strictjson.MaxDepth
	maxXMLNodes       = strictjson.MaxValues // elements and attributes
	maxXMLAttributes  = 16
	maxXMLMarkup      = 4096 // bytes of one tag, comment or declaration
)

// shape says what an element is, which its spelling in XML does not tell. The zero shape is that of unknown elements,
// whose contents are passed over.
type shape struct {
	kind     strictjson.Kind // String and Number are leaves
	list     bool            // may appear more than once
	verbatim bool            // white space belongs to the value
	identity bool            // the value is a name in a namespace (RFC 7950 §9.10.3)
	members  map[string]shape
}

// conveyedShape is the YANG module of RFC 8572 §6.3.
func conveyedShape() shape {
	leaf := shape{kind: strictjson.String}
	name := shape{kind: strictjson.String, verbatim: true}
	binary := shape{kind: strictjson.String, verbatim: true} // white space is judged as in JSON
	container := func(members map[string]shape) shape { return shape{kind: strictjson.Object, members: members} }
	list := func(s shape) shape { s.list = true; return s }
	return container(map[string]shape{
		"redirect-information": container(map[string]shape{
			"bootstrap-server": list(container(map[string]shape{
				"address": leaf, "port": {kind: strictjson.Number}, "trust-anchor": binary,
			})),
		}),
		"onboarding-information": container(map[string]shape{
			"boot-image": container(map[string]shape{
				"os-name": name, "os-version": name, "download-uri": list(leaf),
				"image-verification": list(container(map[string]shape{
					"hash-algorithm": {kind: strictjson.String, identity: true}, "hash-value": leaf,
				})),
			}),
			"configuration-handling": leaf, "configuration": binary,
			"pre-configuration-script": binary, "post-configuration-script": binary,
		}),
	})
}

// parseXML reads the XML encoding of YANG data (RFC 7950 §7) into what strictjson makes of the JSON encoding of the same
// data, so that one set of rules applies to both. Document types, and with them entities, and processing instructions are
// refused, and so is everything that two readers could understand differently, such as comments inside of a value.
func (d *decoder) parseXML(data []byte) (strictjson.Value, error) {
	in := &markupReader{data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))}
	r := xmlReader{d: d, in: in, tokens: xml.NewDecoder(in)}
	v, err := r.document()
	if err != nil {
		return strictjson.Value{}, fmt.Errorf("%w, at byte %d", err, r.tokens.InputOffset())
	}
	return v, nil
}

type xmlReader struct {
	d      *decoder
	in     *markupReader
	tokens *xml.Decoder
	nodes  int
	scopes [][]xml.Attr // namespace declarations of the open elements, outermost first
}

// document returns an object with the root element as its only member.
func (r *xmlReader) document() (strictjson.Value, error) {
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
		name := nameOf(start.Name)
		s, known := conveyedShape().members[name]
		if known {
			name = conveyedModule + ":" + name
		}
		root, err := r.element(start, s, 1)
		if err != nil {
			return v, err
		}
		v.Members = []strictjson.Member{{Name: name, Value: root}}
	}
}

// next returns a token of bounded size; only text may be long.
func (r *xmlReader) next() (xml.Token, error) {
	r.in.allow(int(r.tokens.InputOffset()))
	token, err := r.tokens.Token()
	if err != nil && err != io.EOF {
		return nil, errors.New("not XML: " + cms.Printable(err.Error())) // it may quote what was sent
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

func (r *xmlReader) element(start xml.StartElement, s shape, depth int) (strictjson.Value, error) {
	if r.nodes += 1 + len(start.Attr); r.nodes > maxXMLNodes {
		return strictjson.Value{}, fmt.Errorf("more than %d elements and attributes", maxXMLNodes)
	}
	if depth > maxXMLDepth {
		return strictjson.Value{}, fmt.Errorf("nested more than %d deep", maxXMLDepth)
	}
	scope, err := r.attributes(start)
	if err != nil {
		return strictjson.Value{}, err
	}
	r.scopes = append(r.scopes, scope)
	defer func() { r.scopes = r.scopes[:len(r.scopes)-1] }()
	switch s.kind {
	case strictjson.Object:
		return r.container(s, depth)
	case "":
		return strictjson.Value{Kind: strictjson.Null}, r.skip(depth)
	}
	return r.leaf(start.Name.Local, s)
}

// attributes returns the namespace declarations of an element, which are the only attributes that the module has.
func (r *xmlReader) attributes(start xml.StartElement) (scope []xml.Attr, err error) {
	if len(start.Attr) > maxXMLAttributes {
		return nil, fmt.Errorf("%d attributes, at most %d are read", len(start.Attr), maxXMLAttributes)
	}
	for i, a := range start.Attr {
		same := func(other xml.Attr) bool { return other.Name == a.Name }
		if slices.ContainsFunc(start.Attr[:i], same) {
			return nil, fmt.Errorf("not XML: attribute %s appears twice", cms.Printable(a.Name.Local))
		}
		switch {
		case a.Name.Space == "xmlns" && a.Value == "":
			return nil, fmt.Errorf("not XML: prefix %s stands for nothing", cms.Printable(a.Name.Local))
		case a.Name.Space == "xmlns", a.Name == xml.Name{Local: "xmlns"}:
			scope = append(scope, a)
		case !r.d.lenient:
			return nil, fmt.Errorf("unknown attribute %s of %s", cms.Printable(a.Name.Local), cms.Printable(start.Name.Local))
		default:
			r.d.warn(cms.Printable(start.Name.Local), "unknown attribute %s is ignored", cms.Printable(a.Name.Local))
		}
	}
	return scope, nil
}

// container reads the children of an element up to its end. Entries of a list keep their order, wherever they are.
func (r *xmlReader) container(s shape, depth int) (strictjson.Value, error) {
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
		name := nameOf(start.Name)
		member, known := s.members[name]
		value, err := r.element(start, member, depth+1)
		if err != nil {
			return v, err
		}
		at, again := position[name]
		switch {
		case again && member.list:
			v.Members[at].Value.Items = append(v.Members[at].Value.Items, value)
			continue
		case again && known:
			return v, fmt.Errorf("element %s appears twice", name)
		case again:
			continue // an unknown element may be a list
		case member.list:
			value = strictjson.Value{Kind: strictjson.Array, Items: []strictjson.Value{value}}
		}
		position[name] = len(v.Members)
		v.Members = append(v.Members, strictjson.Member{Name: name, Value: value})
	}
}

// skip passes over the contents of an unknown element, within the same limits.
func (r *xmlReader) skip(depth int) error {
	for {
		token, err := r.next()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if _, err := r.element(t, shape{}, depth+1); err != nil {
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
func (r *xmlReader) leaf(name string, s shape) (strictjson.Value, error) {
	var text []byte
	for {
		token, err := r.next()
		if err != nil {
			return strictjson.Value{}, err
		}
		switch t := token.(type) {
		case xml.CharData:
			text = append(text, t...)
		case xml.EndElement:
			return r.value(name, s, string(text))
		default:
			return strictjson.Value{}, fmt.Errorf("%s has more than a value inside", name)
		}
	}
}

func (r *xmlReader) value(name string, s shape, text string) (strictjson.Value, error) {
	v := strictjson.Value{Kind: s.kind, Text: text}
	if plain := strings.Trim(text, space); plain != text && !s.verbatim {
		if !r.d.lenient {
			return v, fmt.Errorf("%s has white space around its value", name)
		}
		r.d.warn(name, "white space around the value")
		v.Text = plain
	}
	var err error
	if s.identity {
		v.Text, err = r.identity(name, v.Text)
	}
	if s.kind == strictjson.Number {
		v.Text = strings.TrimPrefix(v.Text, "+") // RFC 7950 §9.2.1; JSON has no such sign
	}
	return v, err
}
