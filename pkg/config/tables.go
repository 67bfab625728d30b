package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// tables is a setting that consists of tables under names of the reader's choice, such as [discovery.static.eth0]. Those in a
// file replace all of earlier files.
type tables struct {
	path  string                 // of the setting
	what  string                 // what a name is, for people
	fresh func() table           // one of them
	keep  func(map[string]table) // puts those of a file into the configuration
	found map[string]table       // of the latest file that has any; nil where a mistake was told
}

// table is what one of them becomes.
type table interface {
	// check returns the key whose value makes no sense; it is empty when the mistake is that of the whole.
	check(name string) (key string, err error)
}

// maxTables bounds the tables of a setting, and what each has.
const maxTables = 64

func collections(c *Config) []*tables {
	return []*tables{
		{
			path: "discovery.static", what: "INTERFACE", fresh: func() table { return &Static{} },
			keep: func(found map[string]table) {
				c.Discovery.Static = map[string]Static{}
				for name, t := range found {
					c.Discovery.Static[name] = *t.(*Static)
				}
			},
		},
		{
			path: "image.slot", what: "NAME", fresh: func() table { return &Slot{} },
			keep: func(found map[string]table) {
				c.Image.Slot = map[string]Slot{}
				for name, t := range found {
					c.Image.Slot[name] = *t.(*Slot)
				}
			},
		},
	}
}

// tablesAt returns the setting that a key belongs to, or nil.
func (l *loader) tablesAt(key toml.Key) *tables {
	for _, s := range l.tables {
		if len(key) > 1 && key[0]+"."+key[1] == s.path {
			return s
		}
	}
	return nil
}

// add decodes one key of a setting that consists of tables, such as discovery.static.eth0.dns.
func (l *loader) add(s *tables, at origin, md toml.MetaData, key toml.Key, value toml.Primitive) {
	if l.origins[s.path].File != at.File {
		s.found, l.origins[s.path] = map[string]table{}, at
	}
	if _, known := s.found[key[min(len(key)-1, 2)]]; !known && len(key) > 2 {
		t := s.fresh()
		s.found[key[2]] = t
		for name, field := range fields(reflect.ValueOf(t).Elem()) {
			l.settings[s.path+"."+key[2]+"."+name] = field
		}
	}
	for i := 2; i < min(len(key)+1, 4); i++ {
		inner := map[string]toml.Primitive{}
		if md.PrimitiveDecode(value, new(struct{})) != nil || md.PrimitiveDecode(value, &inner) != nil {
			l.mistake(invalid(at, key[:i].String(), errors.New("is not a table"), "write ["+s.path+"."+s.what+"] above its keys"))
			s.found[key[i-1]] = nil
			return
		}
		if i < len(key) {
			value = inner[key[i]]
		}
	}
	if len(key) == 4 {
		if err := l.set(at, md, key, value); err != nil {
			l.mistake(err)
			s.found[key[2]] = nil
		}
	}
}

// finish judges what a file said of such a setting; line finds the line of a key.
func (l *loader) finish(s *tables, file string, line func(toml.Key) int) {
	kept := map[string]table{}
	for _, name := range slices.Sorted(maps.Keys(s.found)) {
		t := s.found[name]
		if t == nil {
			continue
		}
		key := append(toml.Key(strings.Split(s.path, ".")), name)
		field, err := t.check(name)
		if len(s.found) > maxTables {
			err = fmt.Errorf("is one of more than %d", maxTables)
		}
		if err != nil {
			if field != "" {
				key = append(key, field)
			}
			l.mistake(invalid(origin{File: file, Line: line(key)}, key.String(), err, "see the commented default file ztp.toml for these keys"))
		}
		kept[name] = t
	}
	s.keep(kept)
}
