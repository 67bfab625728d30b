package efi

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The two kinds of entries of the Boot Loader Specification (UAPI.1), by the ends of their names.
const (
	suffixConf = ".conf" // type 1: a description of what to start, in loader/entries
	suffixUKI  = ".efi"  // type 2: a unified kernel image, in EFI/Linux
)

// name is the file name of an entry: STEM+LEFT-DONE.conf or .efi, with the counters of the Boot Loader Specification's boot
// counting, or without.
type name struct {
	file    string // as it is on the disk
	stem    string
	suffix  string // suffixConf or suffixUKI
	counted bool
	left    int // how often it may still be started before it counts as bad
	done    int // how often it was started
}

// parseName reads a file name as systemd-boot does. What looks like a counter but is none is part of the stem.
func parseName(file string) (n name, ok bool) {
	for _, suffix := range []string{suffixConf, suffixUKI} {
		if stem, found := cutSuffixFold(file, suffix); found && stem != "" && stem[0] != '.' {
			n, ok = name{file: file, stem: stem, suffix: suffix}, true
		}
	}
	if !ok {
		return name{}, false
	}
	plus := strings.LastIndexByte(n.stem, '+')
	if plus < 0 {
		return n, true
	}
	left, done, twice := strings.Cut(n.stem[plus+1:], "-")
	if !twice {
		done = "0"
	}
	l, okLeft := parseCount(left)
	d, okDone := parseCount(done)
	if okLeft && okDone {
		n.stem, n.counted, n.left, n.done = n.stem[:plus], true, l, d
	}
	return n, true
}

func parseCount(s string) (int, bool) {
	u, err := strconv.ParseUint(s, 10, 64) // takes digits only
	return int(min(u, math.MaxInt32)), err == nil && u <= math.MaxInt32
}

func cutSuffixFold(s, suffix string) (string, bool) {
	at := len(s) - len(suffix)
	if at < 0 || !strings.EqualFold(s[at:], suffix) {
		return "", false
	}
	return s[:at], true
}

// entryOf reads an id as systemd-boot reports it, which is the name of a file at the time it was found, in lower case. One of
// several profiles of a unified kernel image has a number behind an @.
func entryOf(id string) (name, bool) {
	if at := strings.LastIndexByte(id, '@'); at >= 0 {
		if _, ok := parseCount(id[at+1:]); ok {
			id = id[:at]
		}
	}
	return parseName(id)
}

// entry is what is configured as the entry of a slot.
type entry struct{ slot, stem, suffix string }

// has reports whether a file name is one of those that the entry goes by. FAT does not tell upper from lower case.
func (e *entry) has(n name) bool { return e.suffix == n.suffix && strings.EqualFold(e.stem, n.stem) }

// plain is the name of an entry that is good.
func (e *entry) plain() string { return e.stem + e.suffix }

// hidden is a name that neither systemd-boot nor bootctl looks at: of an image that must not be started, or of the copy of a
// vendor's entry.
func (e *entry) hidden() string { return "." + e.plain() + ".ztp" }

// notInIDs reports what an id may not consist of: what is part of a pattern to systemd-boot, of a counter, or of no name on FAT.
func notInIDs(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.-", r)
}

// parseEntry reads the id of a slot's entry from the configuration: "ztp-a" or "ztp-a.conf" is of type 1, "ztp-a.efi" a
// unified kernel image.
func parseEntry(slot, id string) (*entry, error) {
	e := entry{slot, id, suffixConf}
	if n, ok := parseName(id); ok {
		e.stem, e.suffix = n.stem, n.suffix
	}
	if strings.ContainsFunc(id, notInIDs) || id == "" || len(id) > 128 || id[0] == '.' || id[0] == '-' ||
		strings.HasPrefix(strings.ToLower(id), "auto-") || strings.HasSuffix(e.stem, "-") {
		return nil, fmt.Errorf("%.64q cannot be the id of a boot entry: it must be of letters, digits, dots, dashes and underscores, "+
			"not begin with a dot, a dash or auto-, and not end with a dash", id)
	}
	return &e, nil
}
