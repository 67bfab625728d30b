package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Invalid is the reason code of every error of Load.
const Invalid reason.Code = "config-invalid"

// The layers, weakest first. Drop-ins are read in the order of their names. Where a package brings the vendor's file, what the
// maker of a device has to say goes into drop-ins beside it, which an upgrade leaves alone.
const (
	VendorFile    = "/usr/lib/ztp/ztp.toml"
	VendorDropIns = "/usr/lib/ztp/ztp.toml.d/*.toml"
	AdminFile     = "/etc/ztp/ztp.toml"
	DropIns       = "/etc/ztp/ztp.toml.d/*.toml"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 256 << 10

// Load reads the configuration below root ("" is "/"): the vendor's file and drop-ins, then the administrator's, each of
// which may be absent. A key in a later file replaces the same key of an earlier one, lists as a whole. Every value is
// checked in the file that sets it, also when a later file replaces it. Then paths are moved below root and trust anchors
// are read. Errors are *reason.Error with the code Invalid and begin with "FILE:LINE: KEY: "; mistakes in the files are
// told all at once.
func Load(root string) (*Config, error) {
	paths, err := NewPaths(root)
	if err != nil {
		return nil, invalid(origin{File: root}, "", err, "name an existing folder with --root")
	}
	files, err := layers(paths)
	if err != nil {
		return nil, err
	}
	c := Default()
	c.Paths = paths
	l := loader{config: &c, settings: settings(&c), origins: map[string]origin{}, tables: collections(&c)}
	for _, file := range files {
		l.read(file)
	}
	if err := several(l.mistakes); err != nil {
		return nil, err
	}
	if err := l.checkTogether(); err != nil {
		return nil, err
	}
	c.relocate()
	if err := l.checkSocket(); err != nil {
		return nil, err
	}
	if err := l.loadAnchors(); err != nil {
		return nil, err
	}
	if err := l.loadSigners(); err != nil {
		return nil, err
	}
	return &c, nil
}

// layers lists the files to read, weakest first.
func layers(paths Paths) ([]string, error) {
	var files []string
	for _, layer := range [][2]string{{VendorFile, VendorDropIns}, {AdminFile, DropIns}} {
		files = append(files, paths.Below(layer[0]))
		folder := filepath.Dir(paths.Below(layer[1]))
		entries, err := os.ReadDir(folder) // sorted by name
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, invalid(origin{File: folder}, "", err, "let the agent read the folder, which under systemd runs as the user ztp, or remove it")
		}
		for _, e := range entries {
			if matched, _ := filepath.Match(filepath.Base(layer[1]), e.Name()); matched {
				files = append(files, filepath.Join(folder, e.Name()))
			}
		}
	}
	return files, nil
}

// settings maps every key, such as "identity.tpm", to the field of c that it sets.
func settings(c *Config) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	for table, value := range fields(reflect.ValueOf(c).Elem()) {
		for key, field := range fields(value) {
			all[table+"."+key] = field
		}
	}
	return all
}

// fields are those of a struct, by their keys.
func fields(v reflect.Value) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("toml"); key != "-" {
			all[key] = v.Field(i)
		}
	}
	return all
}

// loader merges files into config and remembers which file set what.
type loader struct {
	config   *Config
	settings map[string]reflect.Value
	origins  map[string]origin
	mistakes []error
	tables   []*tables
}

func (l *loader) mistake(err error) {
	if !slices.ContainsFunc(l.mistakes, func(known error) bool { return known.Error() == err.Error() }) {
		l.mistakes = append(l.mistakes, err)
	}
}

// read merges one file, if it exists, and collects the mistakes in it.
func (l *loader) read(file string) {
	data, err := readBounded(file, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		l.mistake(invalid(origin{File: file}, "", err, "let the agent read the file, which under systemd runs as the user ztp, or remove it"))
		return
	}
	l.config.Files = append(l.config.Files, file)

	var top map[string]toml.Primitive
	md, err := toml.Decode(string(data), &top)
	if err != nil {
		l.mistake(syntaxError(file, err))
		return
	}
	tables := map[string]map[string]toml.Primitive{}
	for _, key := range md.Keys() {
		name := key[0]
		at := origin{File: file, Line: lineOf(md, top, key)}
		if tables[name] == nil {
			table := map[string]toml.Primitive{}
			tables[name] = map[string]toml.Primitive{} // the keys of a mistaken table are not judged
			switch {
			case !l.isTable(name):
				l.mistake(l.unknown(at, name))
			case md.PrimitiveDecode(top[name], new(struct{})) != nil || md.PrimitiveDecode(top[name], &table) != nil:
				l.mistake(invalid(at, name, errors.New("is not a table"), "write ["+name+"] on a line of its own and its keys below it"))
			default:
				tables[name] = table
			}
		}
		if len(key) == 1 || len(tables[name]) == 0 {
			continue
		}
		if s := l.tablesAt(key); s != nil {
			l.add(s, at, md, key, tables[name][key[1]])
			continue
		}
		key = key[:2] // what is below a setting is a value of the wrong type
		if err := l.set(at, md, key, tables[name][key[1]]); err != nil {
			l.mistake(err)
		}
	}
	for _, s := range l.tables {
		if l.origins[s.path].File == file {
			l.finish(s, file, func(key toml.Key) int { return lineOf(md, top, key) })
		}
	}
}

// set decodes and checks one value.
func (l *loader) set(at origin, md toml.MetaData, key toml.Key, value toml.Primitive) error {
	name := strings.Join(key, ".")
	field, ok := l.settings[name]
	if !ok {
		return l.unknown(at, name)
	}
	fresh := reflect.New(field.Type()) // so that a list replaces instead of growing
	if err := md.PrimitiveDecode(value, fresh.Interface()); err != nil {
		return invalid(at, name, plain(err, md.Type(key...), field.Type()), "see the commented default file ztp.toml for this key")
	}
	field.Set(fresh.Elem())
	if check := checks[name]; check != nil {
		if err := check(l.config); err != nil {
			return invalid(at, name, err, "see the commented default file ztp.toml for this key")
		}
	}
	l.origins[name] = at
	return nil
}

func (l *loader) isTable(name string) bool {
	for key := range l.settings {
		if strings.HasPrefix(key, name+".") {
			return true
		}
	}
	return false
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO in a trust folder must not block the boot
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return data, err
}
