// Package seed makes seeds for NoCloud, the data source from which cloud-init configures a machine out of a local folder. A
// configuration is what cloud-init calls user-data, in any of its formats that are text, or compressed; or, as a MIME message
// whose parts have the names of a seed's files, a whole seed. The instance-id comes from the content, so that cloud-init takes
// a seed with another content for another instance and the same content for the same one. Everything here is a pure function.
package seed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The files of a seed. cloud-init takes no seed without the first two.
const (
	UserData      = "user-data"
	MetaData      = "meta-data"
	VendorData    = "vendor-data"
	NetworkConfig = "network-config"
)

// Names lists them.
func Names() []string { return []string{UserData, MetaData, VendorData, NetworkConfig} }

// MaxSize bounds each file, in bytes.
const MaxSize = 16 << 20

// Seed is the content of a seed's files, by their names.
type Seed map[string][]byte

// ErrMerge is in the chain of an error that only merging has.
var ErrMerge = errors.New("the present seed and the new one cannot be merged")

// New returns the seed that a configuration asks for, which has nothing of an earlier one.
func New(configuration []byte) (Seed, error) {
	s, err := read(configuration)
	if err != nil {
		return nil, err
	}
	return s.identified(nil)
}

// Merge adds a configuration to the present seed. Its user-data and vendor-data become further parts, which cloud-init
// processes after those that are there, so that what they say last counts; a part that is there already moves to the end. A
// network-config is added, and the rest of meta-data stays. Merging the same once more changes nothing.
func Merge(present Seed, configuration []byte) (Seed, error) {
	s, err := read(configuration)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{UserData, VendorData} {
		joined, err := join(present[name], s[name])
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMerge, name, err)
		}
		if joined != nil {
			s[name] = joined
		}
	}
	if old, ok := present[NetworkConfig]; ok {
		if wanted, both := s[NetworkConfig]; both && !bytes.Equal(old, wanted) {
			return nil, fmt.Errorf("%w: there is another %s", ErrMerge, NetworkConfig)
		}
		s[NetworkConfig] = old
	}
	rest, err := withoutID(present[MetaData])
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMerge, MetaData, err)
	}
	return s.identified(rest)
}

// read takes a configuration apart.
func read(configuration []byte) (Seed, error) {
	if len(configuration) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(configuration), MaxSize)
	}
	s, err := files(configuration)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = Seed{UserData: configuration}
	}
	if len(s[UserData]) == 0 {
		return nil, errors.New("it has no " + UserData)
	}
	for name, content := range s {
		if name == NetworkConfig {
			err = plainText(content)
		} else {
			err = format(content)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return s, nil
}

// files returns the files of a whole seed in one message, or nil when it is none.
func files(configuration []byte) (Seed, error) {
	if !isMessage(configuration) {
		return nil, nil
	}
	parts, err := split(configuration)
	if err != nil {
		return nil, err
	}
	s, others := Seed{}, 0
	for _, p := range parts {
		name := p.name()
		if name == MetaData {
			return nil, errors.New("it has a part named " + MetaData + ", which ztp makes itself; put what it says into " + UserData)
		}
		if !slices.Contains(Names(), name) {
			others++
			continue
		}
		if s[name] != nil {
			return nil, fmt.Errorf("it has two parts named %s", name)
		}
		if s[name], err = p.content(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	switch {
	case len(s) == 0:
		return nil, nil
	case others > 0:
		return nil, errors.New("some of its parts have the names of a seed's files and some have not")
	}
	return s, nil
}

// keywords are the first lines by which cloud-init tells what something is, and whether more may follow on that line.
func keywords() map[string]bool {
	return map[string]bool{
		"#cloud-config": false, "#cloud-config-archive": false, "#cloud-config-jsonp": false, "#cloud-boothook": false,
		"#part-handler": false, "#include": true, "#include-once": true,
	}
}

// format refuses what cloud-init would not recognise, and would pass over with a warning that nobody reads.
func format(content []byte) error {
	if bytes.HasPrefix(content, []byte{0x1f, 0x8b}) || isMessage(content) {
		return nil
	}
	if err := plainText(content); err != nil {
		return err
	}
	line, rest, _ := bytes.Cut(content, []byte("\n"))
	first := strings.TrimRight(string(line), " \t\r")
	if first == "## template: jinja" {
		line, _, _ = bytes.Cut(rest, []byte("\n"))
		first = strings.TrimRight(string(line), " \t\r")
	}
	if strings.HasPrefix(first, "#!") {
		return nil
	}
	word, _, more := strings.Cut(first, " ")
	if argument, known := keywords()[word]; known && (argument || !more) {
		return nil
	}
	return fmt.Errorf("its first line, %.40q, is none by which cloud-init knows a format, such as \"#cloud-config\" or \"#!/bin/sh\"", first)
}

func plainText(content []byte) error {
	if len(bytes.TrimSpace(content)) == 0 {
		return errors.New("it is empty")
	}
	if !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0 {
		return errors.New("it is neither text in UTF-8 nor compressed with gzip")
	}
	return nil
}

const idLine = "instance-id: "

// identified adds meta-data with an instance-id that stands for the content and, after it, rest.
func (s Seed) identified(rest []byte) (Seed, error) {
	hash := sha256.New()
	for _, name := range Names() {
		content := s[name]
		if name == MetaData {
			content = rest
		}
		if len(content) > MaxSize {
			return nil, fmt.Errorf("%s would have %d bytes, more than %d", name, len(content), MaxSize)
		}
		sum := sha256.Sum256(content)
		fmt.Fprintf(hash, "%s %t %x\n", name, content != nil, sum)
	}
	id := "ztp-" + hex.EncodeToString(hash.Sum(nil)[:16])
	s[MetaData] = append([]byte(idLine+id+"\n"), rest...)
	return s, nil
}

// ID is the instance-id that New or Merge gave a seed with this meta-data; empty when they did not make it.
func ID(metaData []byte) string {
	line, _, _ := bytes.Cut(metaData, []byte("\n"))
	id, _ := strings.CutPrefix(string(line), idLine)
	if !strings.HasPrefix(id, "ztp-") {
		return ""
	}
	return id
}

// withoutID removes the instance-id from meta-data, as far as that can be done without knowing all of YAML.
func withoutID(metaData []byte) ([]byte, error) {
	var rest []byte
	removing, begun := false, false
	for line := range bytes.Lines(metaData) {
		text := strings.TrimRight(string(line), " \t\r\n")
		key, _, _ := strings.Cut(text, ":")
		switch {
		case text == "" || strings.HasPrefix(text, "#"):
		case text == "---" && !begun:
			continue
		case text[0] == ' ' || text[0] == '\t':
			if removing {
				continue
			}
			if !begun {
				return nil, errors.New("it is indented, so that nothing can be added to it")
			}
		case strings.ContainsRune("{[%.-?!&*", rune(text[0])) || !strings.Contains(text, ":"):
			return nil, errors.New("it is not the usual lines of \"key: value\"")
		default:
			begun = true
			if removing = strings.Trim(strings.TrimSpace(key), `"'`) == "instance-id"; removing {
				continue
			}
		}
		rest = append(rest, line...)
	}
	if len(rest) > 0 && rest[len(rest)-1] != '\n' {
		rest = append(rest, '\n')
	}
	return rest, nil
}
