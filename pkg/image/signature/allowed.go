package signature

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// sshSigner is a line of an allowed_signers file (ssh-keygen(1), "ALLOWED SIGNERS").
type sshSigner struct {
	principals    string
	namespaces    string    // a pattern list; "" is any
	after, before time.Time // zero is none
	key           sshKey
}

// parseAllowedSigners reads a whole file, or refuses it: a line that is passed over would be a signer whom the operator
// believes in and the device does not.
func parseAllowedSigners(file []byte) ([]sshSigner, error) {
	var signers []sshSigner
	number := 0
	for line := range bytes.Lines(file) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		signer, err := parseAllowedSigner(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		signers = append(signers, signer)
	}
	if signers == nil {
		return nil, errors.New("names nobody")
	}
	return signers, nil
}

// parseAllowedSigner reads "PRINCIPALS [OPTIONS] KEYTYPE BASE64 [COMMENT]".
func parseAllowedSigner(line string) (sshSigner, error) {
	var s sshSigner
	var rest string
	s.principals, rest = field(line)
	if isKeyType(s.principals) {
		return s, errors.New("is a public key alone; write who it belongs to before it, as in \"release@example.com " + s.principals + " …\"")
	}
	s.principals = strings.Trim(s.principals, `"`)
	kind, after := field(rest)
	if !isKeyType(kind) {
		if err := s.parseOptions(kind); err != nil {
			return s, err
		}
		kind, after = field(after)
	}
	encoded, _ := field(after)
	key, err := parseSSHKey(kind, encoded)
	s.key = key
	return s, err
}

// field cuts off what comes before the first blank that is not in quotes, and the blanks.
func field(s string) (first, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case (s[i] == ' ' || s[i] == '\t') && !quoted:
			return s[:i], strings.TrimLeft(s[i:], " \t")
		}
	}
	return s, ""
}

// parseOptions reads "NAME[="VALUE"],…".
func (s *sshSigner) parseOptions(list string) error {
	seen := map[string]bool{}
	for more := true; more; {
		name, rest, hasValue := cutOption(list)
		name = strings.ToLower(name)
		var value string
		if hasValue {
			var ok bool
			if value, rest, ok = unquote(rest); !ok {
				return fmt.Errorf("the value of option %.40q is not in quotes", name)
			}
		}
		switch list, more = strings.CutPrefix(rest, ","); {
		case rest != "" && !more:
			return fmt.Errorf("option %.40q is followed by something else than a comma", name)
		case seen[name]:
			return fmt.Errorf("option %.40q is there twice", name)
		}
		seen[name] = true
		if err := s.setOption(name, value, hasValue); err != nil {
			return err
		}
	}
	if !s.before.IsZero() && !s.after.Before(s.before) {
		return errors.New("valid-before is not after valid-after")
	}
	return nil
}

// cutOption cuts list behind the name of its first option, and the "=" behind it.
func cutOption(list string) (name, rest string, hasValue bool) {
	end := strings.IndexAny(list, "=,")
	if end < 0 {
		return list, "", false
	}
	if list[end] == '=' {
		return list[:end], list[end+1:], true
	}
	return list[:end], list[end:], false
}

// unquote reads a value in quotes, in which \" stands for a quote.
func unquote(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
			b.WriteByte('"')
		case s[i] == '"':
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

func (s *sshSigner) setOption(name, value string, hasValue bool) (err error) {
	switch {
	case name == "cert-authority":
		return errors.New("cert-authority is not supported; name the keys that sign themselves")
	case name == "namespaces" && value != "":
		s.namespaces = value
	case name == "valid-after" && hasValue:
		s.after, err = parseSSHTime(value)
	case name == "valid-before" && hasValue:
		s.before, err = parseSSHTime(value)
	default:
		return fmt.Errorf("%.40q is neither an option with its value nor a type of key", name)
	}
	return err
}

// parseSSHTime reads YYYYMMDD[HHMM[SS]][Z]; without Z it is local time, as for ssh-keygen.
func parseSSHTime(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	location := time.Local
	if utc {
		location = time.UTC
	}
	const layout = "20060102150405"
	if n := len(digits); n != 8 && n != 12 && n != 14 {
		return time.Time{}, fmt.Errorf("%.40q is not a time such as 20260131 or 202601312359Z", s)
	}
	t, err := time.ParseInLocation(layout[:len(digits)], digits, location)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.40q is not a time such as 20260131 or 202601312359Z", s)
	}
	return t, nil
}

// matchesList reports whether s matches a pattern list (ssh_config(5), "PATTERNS"): one of its patterns, and none of those
// behind a "!".
func matchesList(s, list string) bool {
	found := false
	for pattern := range strings.SplitSeq(list, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !matches(s, pattern) {
			continue
		}
		if negated {
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
