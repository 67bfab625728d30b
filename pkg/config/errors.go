package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// origin is the place in a file that set a key. The zero origin is the built-in default.
type origin struct {
	File string
	Line int
}

func (o origin) String() string {
	switch {
	case o.File == "":
		return "built-in default"
	case o.Line == 0:
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// invalid builds the one kind of error of this package.
func invalid(at origin, key string, err error, fix string) error {
	msg := at.String()
	if key != "" {
		msg += ": " + key
	}
	return &reason.Error{Code: Invalid, Msg: msg, Fix: fix, Err: err}
}

// maxMistakes bounds how many mistakes one error tells.
const maxMistakes = 10

// several makes one error of all mistakes, so that a person can correct them in one go; nil when there is none.
func several(mistakes []error) error {
	switch len(mistakes) {
	case 0:
		return nil
	case 1:
		return mistakes[0]
	}
	var texts, fixes []string
	for _, err := range mistakes[:min(len(mistakes), maxMistakes)] {
		texts = append(texts, err.Error())
		if _, fix := reason.Of(err); !slices.Contains(fixes, fix) {
			fixes = append(fixes, fix)
		}
	}
	if more := len(mistakes) - maxMistakes; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return &reason.Error{Code: Invalid, Msg: strings.Join(texts, "; "), Fix: strings.Join(fixes, "; ")}
}

// unknown refuses a key that does not exist, with the key that was probably meant.
func (l *loader) unknown(at origin, name string) error {
	var known []string
	for key := range l.settings {
		table, _, _ := strings.Cut(key, ".")
		known = append(known, key, table)
	}
	fix := "remove it, or see the commented default file ztp.toml for the keys there are"
	if best := reason.Nearest(name, known); best != "" {
		fix = fmt.Sprintf("did you mean %s?", best)
	}
	return invalid(at, name, errors.New("unknown key"), fix)
}

// plain says what is wrong with a value without the decoder's Go vocabulary.
func plain(err error, found string, want reflect.Type) error {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return errors.New(parse.Message)
	}
	names := map[reflect.Kind]string{
		reflect.String: "a string in quotes", reflect.Bool: "true or false", reflect.Int: "a whole number",
		reflect.Slice: "a list of strings", reflect.Int64: "a string in quotes",
	}
	if want == reflect.TypeFor[[][]string]() {
		names[reflect.Slice] = "a list of lists of strings, an argument vector each"
	}
	if found == "" || found == "Hash" {
		found = "table"
	}
	return fmt.Errorf("want %s, found %s", names[want.Kind()], strings.ToLower(found))
}

// syntaxError places an error of the TOML reader.
func syntaxError(file string, err error) error {
	at := origin{File: file}
	var key string
	var parse toml.ParseError
	if errors.As(err, &parse) {
		at.Line, key, err = parse.Position.Line, parse.LastKey, errors.New(parse.Message)
	}
	return invalid(at, key, err, "correct the TOML syntax at this line")
}

// lineOf returns the line of a key below top. The decoder knows it and tells only when it places an error, so it is given
// one.
func lineOf(md toml.MetaData, top map[string]toml.Primitive, key toml.Key) int {
	value := top[key[0]]
	for _, name := range key[1:] {
		table := map[string]toml.Primitive{}
		if md.PrimitiveDecode(value, &table) != nil {
			break
		}
		value = table[name]
	}
	var parse toml.ParseError
	errors.As(md.PrimitiveDecode(value, new(unwilling)), &parse)
	return parse.Position.Line
}

// unwilling is a value that cannot be decoded.
type unwilling struct{}

func (*unwilling) UnmarshalTOML(any) error { return errors.New("unwilling") }
