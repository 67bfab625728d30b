package strictxml

import (
	"encoding/xml"
	"slices"
	"strings"
	"unicode"
)

// identity spells the name of an identity as JSON does. One of another module keeps its namespace, in braces.
func (r *reader) identity(name, text string) (string, error) {
	prefix, local, prefixed := strings.Cut(text, ":")
	if !prefixed {
		prefix, local = "", text
	}
	switch namespace := r.namespace(prefix); {
	case namespace == r.module.Namespace:
		return r.module.Name + ":" + local, nil
	case namespace != "":
		return "{" + namespace + "}" + local, nil
	}
	return text, r.deviation(name, "%s is in no namespace", printable(text))
}

// namespace returns what a prefix stands for, "" being that of names without one; nothing when it is not declared.
func (r *reader) namespace(prefix string) string {
	for _, scope := range slices.Backward(r.scopes) {
		for _, a := range scope {
			isDefault := a.Name.Space == ""
			if isDefault && prefix == "" || !isDefault && a.Name.Local == prefix {
				return a.Value
			}
		}
	}
	return ""
}

// mayStandFor holds a declaration against Namespaces in XML 1.0 §2.2 and §3. encoding/xml does not, and gives attributes with a
// prefix that stands for "xmlns" the same name as declarations.
func mayStandFor(prefix, namespace string) bool {
	return namespace != "" && namespace != "xmlns" && namespace != "http://www.w3.org/2000/xmlns/" && prefix != "xmlns" &&
		(prefix == "xml") == (namespace == "http://www.w3.org/XML/1998/namespace")
}

// nameOf returns the name of an element as JSON has it inside of the module, or one that is not a name of the module.
func (r *reader) nameOf(n xml.Name) string {
	switch n.Space {
	case r.module.Namespace:
		return n.Local
	case "":
		return n.Local + " (in no namespace)"
	}
	return "{" + n.Space + "}" + n.Local
}

// space is what XML allows between elements.
const space = " \t\r\n"

// printable makes text from a peer fit for a message: what a terminal could take for a command is replaced, and what is longer
// than 80 characters is cut.
func printable(text string) string {
	const limit = 80
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	n := 0
	for i := range text {
		if n++; n > limit {
			return text[:i] + "…"
		}
	}
	return text
}
