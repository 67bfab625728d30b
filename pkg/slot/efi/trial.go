package efi

import (
	"path"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// trial is how an entry is started once: by a name with one try left, and by a pattern for LoaderEntryOneShot.
//
// systemd-boot compares a pattern with the id of an entry, which is the whole name of its file until about 257, and since
// then (systemd pull request 38897, in 259 and the later ones of 257 and 258) the name without its counter. Nothing tells
// before the first trial which of them a device has, so the pattern fits both, and not the name that the entry has once it
// was started: ztp-*[b1].conf is for ztp-b+1-1.conf, or else for ztp-b.conf, and not for ztp-b+0-2.conf.
type trial struct{ file, pattern string }

// maxTail keeps the counter below 2³¹, above which systemd-boot takes it for a part of the id.
const maxTail = 9

// trial makes them such that the pattern has an alternative for so many characters at the end of the stem.
func (e *entry) trial(tail int) trial {
	stem := strings.ToLower(e.stem)
	digit := "1"
	if strings.HasSuffix(stem, "2") { // what 1 is counted up to
		digit = "2"
	}
	var either strings.Builder
	for _, c := range stem[len(stem)-tail:] {
		if c == '-' { // a range to some, whatever its place
			either.WriteByte('?')
		} else {
			either.WriteString("[" + string(c) + digit + "]")
		}
	}
	return trial{
		file:    e.stem + "+1-" + strings.Repeat(digit, tail) + e.suffix,
		pattern: stem[:len(stem)-tail] + "*" + either.String() + e.suffix,
	}
}

// trialOf returns the shortest one whose pattern fits no entry but the slot's.
func (s *scene) trialOf(of *files) (trial, error) {
	stranger := ""
	for tail := 1; tail <= min(len(of.stem), maxTail); tail++ {
		t := of.trial(tail)
		if stranger = s.fitting(t.pattern, of); stranger == "" {
			return t, nil
		}
	}
	return trial{}, fail(slot.CodeUnavailable, "nothing could ask systemd-boot for "+of.plain()+" and not for "+stranger+" as well",
		"give the boot entries names of which none ends with another", nil)
}

// fitting returns an entry that a pattern fits besides those of a slot, or "".
func (s *scene) fitting(pattern string, besides *files) string {
	for _, n := range s.strangers {
		if n.fits(pattern) {
			return n.file
		}
	}
	for _, of := range s.slots {
		if of != besides && of.wanted(pattern) {
			return of.plain()
		}
	}
	return ""
}

// wanted reports whether a pattern fits a file of the slot, or one that it will have.
func (f *files) wanted(pattern string) bool {
	if plain, _ := parseName(f.plain()); plain.fits(pattern) {
		return true
	}
	for _, v := range f.visible {
		if v.fits(pattern) {
			return true
		}
	}
	n, ok := entryOf(pattern)
	return ok && f.has(n)
}

// fits reports whether systemd-boot finds an entry by a pattern, be it of the versions that compare its whole name, or of
// those that leave the counter out.
func (n name) fits(pattern string) bool {
	for _, id := range []string{n.file, n.stem + n.suffix} {
		if match, err := path.Match(strings.ToLower(pattern), strings.ToLower(id)); err == nil && match {
			return true
		}
	}
	return false
}
