// Package strictjson reads JSON from untrusted peers into a tree, for decoders that must know exactly what they were
// sent. Unlike encoding/json into structs it refuses duplicate names, text after the value and invalid UTF-8, matches
// names by their exact case, and bounds depth and the number of values, so that memory stays in proportion to the input.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Limits of what is read.
const (
	MaxDepth  = 16
	MaxValues = 10000
)

// Kind is the JSON type of a value.
type Kind string

// The kinds, as they are called in messages.
const (
	Null   Kind = "null"
	Bool   Kind = "boolean"
	Number Kind = "number"
	String Kind = "string"
	Array  Kind = "array"
	Object Kind = "object"
)

// Value is a JSON value.
type Value struct {
	Kind    Kind
	Text    string   // of a String the decoded text; of a Number its literal; of a Bool "true" or "false"
	Items   []Value  // of an Array
	Members []Member // of an Object, in the order they were sent, no name twice
}

// Member is a named value of an object.
type Member struct {
	Name  string
	Value Value
}

// Parse reads data, which must be one JSON value and nothing more.
func Parse(data []byte) (Value, error) {
	if !utf8.Valid(data) {
		return Value{}, errors.New("not UTF-8")
	}
	p := parser{d: json.NewDecoder(bytes.NewReader(data))}
	p.d.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return Value{}, fmt.Errorf("%w, at byte %d", err, p.d.InputOffset())
	}
	if _, err := p.d.Token(); err != io.EOF {
		return Value{}, fmt.Errorf("text after the end of the value, at byte %d", p.d.InputOffset())
	}
	// Token accepts some texts that are not JSON, such as a comma before a bracket in older versions.
	if !json.Valid(data) {
		return Value{}, errors.New("not JSON")
	}
	return v, nil
}

type parser struct {
	d      *json.Decoder
	values int
}

func (p *parser) value(depth int) (Value, error) {
	token, err := p.d.Token()
	if err != nil {
		return Value{}, notJSON(err)
	}
	if p.values++; p.values > MaxValues {
		return Value{}, fmt.Errorf("more than %d values", MaxValues)
	}
	switch t := token.(type) {
	case nil:
		return Value{Kind: Null}, nil
	case bool:
		return Value{Kind: Bool, Text: fmt.Sprint(t)}, nil
	case json.Number:
		return Value{Kind: Number, Text: t.String()}, nil
	case string:
		return Value{Kind: String, Text: t}, nil
	}
	if depth == MaxDepth {
		return Value{}, fmt.Errorf("nested more than %d deep", MaxDepth)
	}
	if token == json.Delim('[') {
		return p.array(depth + 1)
	}
	return p.object(depth + 1)
}

func (p *parser) array(depth int) (Value, error) {
	v := Value{Kind: Array}
	for p.d.More() {
		item, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.Items = append(v.Items, item)
	}
	return v, p.end()
}

func (p *parser) object(depth int) (Value, error) {
	v := Value{Kind: Object}
	names := make(map[string]bool)
	for p.d.More() {
		token, err := p.d.Token()
		if err != nil {
			return Value{}, notJSON(err)
		}
		name, ok := token.(string)
		if !ok {
			return Value{}, errors.New("not JSON: a name is not a string")
		}
		if names[name] {
			return Value{}, fmt.Errorf("member %.80q appears twice", name)
		}
		names[name] = true
		member, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.Members = append(v.Members, Member{Name: name, Value: member})
	}
	return v, p.end()
}

// end reads a closing bracket.
func (p *parser) end() error {
	if _, err := p.d.Token(); err != nil {
		return notJSON(err)
	}
	return nil
}

func notJSON(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not JSON: %w", err)
}
