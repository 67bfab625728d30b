package bootstrap

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

const (
	xmlType     = "application/yang-data+xml"
	namespaceOf = "urn:ietf:params:xml:ns:yang:" // of a module, whose name follows
)

// SpeakXML makes the server know XML alone from now on. RFC 8040 §5.2 lets it choose.
func (s *Server) SpeakXML() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.xml = true
}

func (s *Server) speaksXML() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.xml
}

// refusesJSON answers a request in JSON with 415 when the server knows XML alone. Trying JSON first is no violation.
func (s *Server) refusesJSON(w http.ResponseWriter, r *http.Request) bool {
	if !s.speaksXML() || r.Header.Get("Content-Type") == xmlType {
		return false
	}
	s.options.Log.Add(s.options.Name, event.Request, []string{"status", "415"}, "request in %s refused: only XML is understood",
		r.Header.Get("Content-Type"))
	s.write(w, http.StatusUnsupportedMediaType, "ietf-restconf:errors", restconfErrors("protocol", "malformed-message", "only XML is understood"))
	return true
}

// write answers with one member of a module, in the server's encoding.
func (s *Server) write(w http.ResponseWriter, status int, member string, value any) {
	document, err := json.Marshal(map[string]any{member: value})
	mediaType := jsonType
	if s.speaksXML() {
		mediaType = xmlType
		document, err = xmlOf(document)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	w.Write(document)
}

// element is any element of XML.
type element struct {
	XMLName  xml.Name
	Text     string    `xml:",chardata"`
	Children []element `xml:",any"`
}

// xmlOf turns a document in JSON, of strings alone, into XML.
func xmlOf(document []byte) ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	for qualified, value := range doc {
		module, name, _ := strings.Cut(qualified, ":")
		if err := xml.NewEncoder(&b).Encode(elementOf(xml.Name{Space: namespaceOf + module, Local: name}, value)); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func elementOf(name xml.Name, value any) element {
	e := element{XMLName: name}
	switch v := value.(type) {
	case map[string]any:
		for local, value := range v {
			entries, isList := value.([]any)
			if !isList {
				entries = []any{value}
			}
			for _, entry := range entries {
				e.Children = append(e.Children, elementOf(xml.Name{Space: name.Space, Local: local}, entry))
			}
		}
	default:
		e.Text = fmt.Sprint(v)
	}
	return e
}

// jsonOf turns the input of an operation from XML into JSON.
func jsonOf(document []byte) ([]byte, error) {
	var root element
	if err := xml.Unmarshal(document, &root); err != nil {
		return nil, fmt.Errorf("the body is not XML: %w", err)
	}
	const module = "ietf-sztp-bootstrap-server"
	if root.XMLName != (xml.Name{Space: namespaceOf + module, Local: "input"}) {
		return nil, fmt.Errorf("the body is <%s xmlns=%q>", root.XMLName.Local, root.XMLName.Space)
	}
	input, err := root.members()
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{module + ":input": input})
}

func (e element) members() (map[string]any, error) {
	members := map[string]any{}
	for _, c := range e.Children {
		name := c.XMLName.Local
		value, err := c.value()
		if err != nil {
			return nil, err
		}
		if c.XMLName.Space != e.XMLName.Space {
			return nil, fmt.Errorf("element %s is in namespace %q", name, c.XMLName.Space)
		}
		if name == "ssh-host-key" || name == "trust-anchor-cert" {
			list, _ := members[name].([]any)
			members[name] = append(list, value)
			continue
		}
		if members[name] != nil {
			return nil, fmt.Errorf("element %s appears twice", name)
		}
		members[name] = value
	}
	return members, nil
}

func (e element) value() (any, error) {
	switch e.XMLName.Local {
	case "signed-data-preferred":
		if e.Text != "" || len(e.Children) > 0 {
			return nil, fmt.Errorf("signed-data-preferred has a value")
		}
		return []any{nil}, nil
	case "nonce", "key-data", "trust-anchor-cert":
		_, err := base64.StdEncoding.Strict().DecodeString(e.Text)
		return e.Text, err
	case "ssh-host-keys", "ssh-host-key", "trust-anchor-certs":
		return e.members()
	}
	if len(e.Children) > 0 {
		return nil, fmt.Errorf("element %s has elements inside", e.XMLName.Local)
	}
	return e.Text, nil
}
