package signature

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// sshSigner is a line of an allowed_signers file (ssh-keygen(1), "ALLOWED SIGNERS").
type sshSigner struct {
	principals    string
	namespaces    []string  // patterns; none is any
	after, before time.Time // zero is none
	key           sshKey
}

// addAllowedSigners reads a whole file, or refuses it: a line that is passed over would be a signer whom the operator
// believes in and the device does not.
func (s *Signers) addAllowedSigners(file string) error {
	var signers []*sshSigner
	for i, line := range strings.Split(file, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		signer, err := parseAllowedSigner(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		signers = append(signers, signer)
	}
	if signers == nil {
		return errors.New("names nobody")
	}
	s.ssh = append(s.ssh, signers...)
	return nil
}

// parseAllowedSigner reads "PRINCIPALS [OPTIONS] KEYTYPE BASE64 [COMMENT]".
func parseAllowedSigner(line string) (*sshSigner, error) {
	principals, rest := cut(line, " \t")
	if isKeyType(principals) {
		return nil, errors.New("begins with a key; write before it whose it is")
	}
	s := &sshSigner{principals: strings.Trim(principals, `"`)}
	kind, rest := cut(rest, " \t")
	if !isKeyType(kind) {
		if err := s.parseOptions(kind); err != nil {
			return nil, err
		}
		kind, rest = cut(rest, " \t")
	}
	encoded, _ := cut(rest, " \t")
	key, err := parseSSHKey(kind, encoded)
	s.key = key
	return s, err
}

// cut cuts s at the first of separators that is not in quotes, and leaves out what follows of them.
func cut(s, separators string) (first, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(separators, s[i]) >= 0:
			return s[:i], strings.TrimLeft(s[i:], separators)
		}
	}
	return s, ""
}

// parseOptions reads "NAME[="VALUE"],…".
func (s *sshSigner) parseOptions(list string) error {
	seen := ","
	for list != "" {
		option, rest := cut(list, ",")
		list = rest
		name, value, _ := strings.Cut(option, "=")
		name = strings.ToLower(name)
		if strings.Contains(seen, ","+name+",") {
			return errors.New(name + " is there twice")
		}
		seen += name + ","
		if err := s.setOption(name, value); err != nil {
			return err
		}
	}
	if !s.before.IsZero() && !s.after.Before(s.before) {
		return errors.New("valid-before is not after valid-after")
	}
	return nil
}

func (s *sshSigner) setOption(name, value string) (err error) {
	text, ok := strings.CutPrefix(value, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	ok = ok && closed && text != "" && !strings.ContainsAny(text, `"\`) // what has quotes in it matches nothing anyway
	switch {
	case name == "cert-authority":
		return errors.New("cert-authority is not supported; name the keys that sign themselves")
	case name == "namespaces" && ok:
		s.namespaces = strings.Split(text, ",")
	case name == "valid-after" && ok:
		s.after, err = parseSSHTime(text)
	case name == "valid-before" && ok:
		s.before, err = parseSSHTime(text)
	default:
		return fmt.Errorf("%.60q is neither a type of key, nor an option with its value in quotes", name)
	}
	return err
}

// parseSSHTime reads YYYYMMDD[HHMM[SS]][Z]; without Z it is local time, as for ssh-keygen.
func parseSSHTime(s string) (t time.Time, err error) {
	const layout = "20060102150405"
	digits, utc := strings.CutSuffix(s, "Z")
	location := time.Local
	if utc {
		location = time.UTC
	}
	n := len(digits)
	if n == 8 || n == 12 || n == 14 {
		t, err = time.ParseInLocation(layout[:n], digits, location)
	}
	if t.IsZero() || err != nil {
		return t, fmt.Errorf("%.60q is not a time such as 20260131 or 202601312359Z", s)
	}
	return t, nil
}

// covers reports whether s matches one of the patterns, and none of those behind a "!" (ssh_config(5), "PATTERNS").
func covers(patterns []string, s string) bool {
	found := false
	for _, pattern := range patterns {
		positive := strings.TrimPrefix(pattern, "!")
		if !matches(s, positive) {
			continue
		}
		if positive != pattern {
			return false
		}
		found = true
	}
	return found
}

// matches matches s with a pattern in which * is any text and ? any byte.
func matches(s, pattern string) bool {
	star, mark := -1, 0 // where to go on after a mismatch: the latest *, and what it swallowed up to
	i, j := 0, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '*':
			star, mark = j, i
			j++
		case j < len(pattern) && (pattern[j] == '?' || pattern[j] == s[i]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[j:], "*") == ""
}
