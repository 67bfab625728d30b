package artifacts

import (
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/artifacts/strictxml"
)

// conveyedXML is the YANG module of RFC 8572 §6.3.
func conveyedXML() *strictxml.Module {
	leaf := strictxml.Shape{Kind: strictjson.String}
	name := strictxml.Shape{Kind: strictjson.String, Verbatim: true}
	binary := strictxml.Shape{Kind: strictjson.String, Verbatim: true} // white space is judged as in JSON
	container := func(members map[string]strictxml.Shape) strictxml.Shape {
		return strictxml.Shape{Kind: strictjson.Object, Members: members}
	}
	list := func(s strictxml.Shape) strictxml.Shape { s.List = true; return s }
	return &strictxml.Module{
		Name:      conveyedModule,
		Namespace: "urn:ietf:params:xml:ns:yang:" + conveyedModule,
		Roots: map[string]strictxml.Shape{
			"redirect-information": container(map[string]strictxml.Shape{
				"bootstrap-server": list(container(map[string]strictxml.Shape{
					"address": leaf, "port": {Kind: strictjson.Number}, "trust-anchor": binary,
				})),
			}),
			"onboarding-information": container(map[string]strictxml.Shape{
				"boot-image": container(map[string]strictxml.Shape{
					"os-name": name, "os-version": name, "download-uri": list(leaf),
					"image-verification": list(container(map[string]strictxml.Shape{
						"hash-algorithm": {Kind: strictjson.String, Identity: true}, "hash-value": leaf,
					})),
				}),
				"configuration-handling": leaf, "configuration": binary,
				"pre-configuration-script": binary, "post-configuration-script": binary,
			}),
		},
	}
}

// parseXML reads conveyed information in XML into the tree that JSON becomes, so that one set of rules applies to both.
func (d *decoder) parseXML(data []byte) (strictjson.Value, error) {
	var tolerate func(where, what string)
	if d.lenient {
		tolerate = func(where, what string) { d.warn(where, "%s, which is tolerated", what) }
	}
	return conveyedXML().Parse(data, tolerate)
}
