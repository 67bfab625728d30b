package artifacts

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/cms"
)

// identity spells the name of an identity as JSON does. One of another module keeps its namespace, in braces.
func (r *xmlReader) identity(name, text string) (string, error) {
	prefix, local, prefixed := strings.Cut(text, ":")
	if !prefixed {
		prefix, local = "", text
	}
	switch namespace := r.namespace(prefix); {
	case namespace == conveyedNamespace:
		return conveyedModule + ":" + local, nil
	case namespace != "":
		return "{" + namespace + "}" + local, nil
	case !r.d.lenient:
		return "", fmt.Errorf("%s: %s is in no namespace", name, cms.Printable(text))
	}
	r.d.warn(name, "%s is in no namespace, and is read as in JSON", cms.Printable(text))
	return text, nil
}

// namespace returns what a prefix stands for, "" being that of names without one; nothing when it is not declared.
func (r *xmlReader) namespace(prefix string) string {
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

// nameOf returns the name of an element as JSON has it inside of the module, or one that is not a name of the module.
func nameOf(n xml.Name) string {
	switch n.Space {
	case conveyedNamespace:
		return n.Local
	case "":
		return n.Local + " (in no namespace)"
	}
	return "{" + n.Space + "}" + n.Local
}
