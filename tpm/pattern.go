package tpm

import (
	"errors"
	"strings"
)

// serialMark stands for the serial number in a pattern.
const serialMark = "(*)"

// SerialPattern tells where the serial number is in a longer text, such as "MODEL-*/(*)" in "MODEL-A/S1": "(*)" is the serial
// number, "*" is any text, everything else is itself. A regular expression could say more, but is 0.2 MB of a program that
// has few.
type SerialPattern struct {
	before, after []string // literals around the serial number, with any text between them
}

// ParseSerialPattern reads a pattern, which has exactly one "(*)".
func ParseSerialPattern(pattern string) (*SerialPattern, error) {
	before, after, found := strings.Cut(pattern, serialMark)
	switch {
	case !found:
		return nil, errors.New(`has no "(*)" in the place of the serial number`)
	case strings.Contains(after, serialMark):
		return nil, errors.New(`has "(*)" more than once`)
	case strings.HasSuffix(before, "*") || strings.HasPrefix(after, "*"):
		return nil, errors.New(`has "*" next to "(*)", so that nothing says where the serial number begins or ends`)
	}
	return &SerialPattern{strings.Split(before, "*"), strings.Split(after, "*")}, nil
}

// String returns the pattern as it was written.
func (p *SerialPattern) String() string {
	return strings.Join(p.before, "*") + serialMark + strings.Join(p.after, "*")
}

// Find returns the serial number in text, all of which the pattern must describe. Each "*" and the serial number are as short as
// they can be from the left.
func (p *SerialPattern) Find(text string) (serial string, ok bool) {
	rest, ok := strings.CutPrefix(text, p.before[0])
	for _, literal := range p.before[1:] {
		if ok {
			_, rest, ok = strings.Cut(rest, literal)
		}
	}
	last := len(p.after) - 1
	if !ok || !strings.HasSuffix(rest, p.after[last]) {
		return "", false
	}
	rest = strings.TrimSuffix(rest, p.after[last])
	for i, literal := range p.after[:last] {
		var skipped string
		if skipped, rest, ok = strings.Cut(rest, literal); !ok {
			return "", false
		}
		if i == 0 {
			serial = skipped
		}
	}
	if last == 0 {
		serial = rest
	}
	return serial, true
}
