package strictxml_test

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/artifacts/strictxml"
)

func menu() *strictxml.Module {
	leaf := strictxml.Shape{Kind: strictjson.String}
	return &strictxml.Module{Name: "menu", Namespace: "urn:menu", Roots: map[string]strictxml.Shape{
		"menu": {Kind: strictjson.Object, Members: map[string]strictxml.Shape{
			"name": leaf, "note": {Kind: strictjson.String, Verbatim: true}, "price": {Kind: strictjson.Number},
			"dish": {Kind: strictjson.String, List: true}, "course": {Kind: strictjson.String, Identity: true},
		}},
	}}
}

// TestParse compares trees with those of the same data in JSON; what is an error without tolerance may be told with it.
func TestParse(t *testing.T) {
	const start, end = `<menu xmlns="urn:menu" xmlns:x="urn:x">`, `</menu>`
	for name, tt := range map[string]struct {
		inner, json string
		told        int
	}{
		"leaves":       {"<name>a</name><price>+7</price><note> n </note>", `{"name":"a","price":7,"note":" n "}`, 0},
		"list":         {"<dish>a</dish><name>n</name><dish>b</dish>", `{"dish":["a","b"],"name":"n"}`, 0},
		"identity":     {"<course>x:y</course>", `{"course":"{urn:x}y"}`, 0},
		"own":          {"<course>soup</course>", `{"course":"menu:soup"}`, 0},
		"unknown":      {"<x:y><z/></x:y>", `{"{urn:x}y":null}`, 0},
		"space":        {"<name> a </name>", `{"name":"a"}`, 1},
		"attribute":    {`<name x:y="">a</name>`, `{"name":"a"}`, 1},
		"undeclared":   {"<course>q:y</course>", `{"course":"q:y"}`, 1},
		"false-prefix": {`<x:y xmlns:a="xmlns"><x:z a:b="urn:menu"/></x:y>`, "", 0},
		"xmlns-prefix": {`<course xmlns:xmlns="urn:x" xmlns:b="urn:menu">b:soup</course>`, "", 0},
		"xml-prefix":   {`<course xmlns:xml="urn:menu">xml:soup</course>`, "", 0},
		"xml-declared": {`<note xmlns:xml="http://www.w3.org/XML/1998/namespace">n</note>`, `{"note":"n"}`, 0},
		"escape":       {"<name\x1b>a</name\x1b>", "", 0},
		"twice":        {"<name>a</name><name>b</name>", "", 0},
		"entity":       {"&e;", "", 0},
		"nested":       {"<name><b/></name>", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			document := []byte(start + tt.inner + end)
			told := 0
			got, err := menu().Parse(document, func(where, what string) { told++ })
			if tt.json == "" {
				if err == nil || strings.ContainsRune(err.Error(), 0x1b) {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want, err := strictjson.Parse([]byte(`{"menu:menu":` + tt.json + `}`))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || told != tt.told {
				t.Errorf("told %d times (-want +got)\n%s", told, diff)
			}
			if _, err := menu().Parse(document, nil); (err == nil) != (told == 0) {
				t.Errorf("without tolerance: %v", err)
			}
		})
	}
}

// TestRefused has what is no such document, or one over a limit, and asks for the word that tells it from other faults.
func TestRefused(t *testing.T) {
	in := func(inner string) string { return `<menu xmlns="urn:menu" xmlns:x="urn:x">` + inner + `</menu>` }
	for name, test := range map[string]struct{ document, why string }{
		"empty":                   {"", "no root element"},
		"comment-only":            {"<!-- c -->", "no root element"},
		"text-before":             {"x" + in(""), "text between"},
		"text-after":              {in("") + "x", "text between"},
		"text-inside":             {in("x"), "text between"},
		"second-root":             {in("") + in(""), "second root"},
		"document-type":           {"<!DOCTYPE menu>" + in(""), "document type"},
		"document-type-inside":    {in("<!DOCTYPE menu>"), "document type"},
		"instruction":             {"<?a b?>" + in(""), "processing instruction"},
		"instruction-inside":      {in("<?a b?>"), "processing instruction"},
		"instruction-in-unknown":  {in("<x:y><?a b?></x:y>"), "processing instruction"},
		"declaration-late":        {"<!-- c --><?xml version='1.0'?>" + in(""), "processing instruction"},
		"declaration-after":       {in("") + "<?xml version='1.0'?>", "processing instruction"},
		"comment-in-value":        {in("<name>a<!-- c -->b</name>"), "more than a value"},
		"element-in-value":        {in("<name><x:y/></name>"), "more than a value"},
		"cut":                     {`<menu xmlns="urn:menu"><name>a`, "not XML"},
		"cut-in-container":        {`<menu xmlns="urn:menu">`, "not XML"},
		"cut-in-unknown":          {`<menu xmlns="urn:menu"><y>`, "not XML"},
		"wrong-end":               {`<menu xmlns="urn:menu"></name>`, "not XML"},
		"twice":                   {in("<name>a</name><name>b</name>"), "appears twice"},
		"twice-apart":             {in("<price>1</price><name>a</name><price>1</price>"), "appears twice"},
		"attribute-twice":         {in(`<name x:a="" x:a="">a</name>`), "appears twice"},
		"prefix-of-nothing":       {in(`<name xmlns:q="">a</name>`), "stands for nothing"},
		"markup-4097":             {in(`<!--` + strings.Repeat("c", 4090) + `-->`), "more than 4096 bytes"},
		"attributes-17":           {in("<name " + attributes(17) + "/>"), "17 attributes"},
		"deep-in-unknown":         {in(strings.Repeat("<x:y>", strictxml.MaxDepth) + strings.Repeat("</x:y>", strictxml.MaxDepth)), "nested"},
		"error-inside-of-unknown": {in("<x:y><x:z " + attributes(17) + "/></x:y>"), "17 attributes"},
		"nodes":                   {in(strings.Repeat("<dish/>", strictxml.MaxNodes-2)), "elements and attributes"},
		"nodes-by-attributes":     {in(strings.Repeat("<dish/>", strictxml.MaxNodes-4) + "<dish x:a=''/>"), "elements and attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := parse(test.document)
			if err == nil || !strings.Contains(err.Error(), test.why) {
				t.Errorf("%d members, %v, want %q", len(v.Members), err, test.why)
			}
		})
	}
	// As much as the limits leave, and what XML leaves to whoever writes it.
	for name, document := range map[string]string{
		"declaration":       "<?xml version='1.0'?>\n" + in("") + "<!-- c -->\n",
		"mark":              "\ufeff" + in(""),
		"comment":           in("<!-- c --> \t\r\n<name>a</name>"),
		"unknown-twice":     in("<x:y/><x:y>text<!-- c --></x:y>"),
		"character-data":    in("<name><![CDATA[" + strings.Repeat("c", 5000) + "]]></name>"),
		"long-value":        in("<name>" + strings.Repeat("c", 5000) + "</name>"),
		"markup-4096":       in(`<!--` + strings.Repeat("c", 4089) + `-->`),
		"attributes-16":     in("<name " + attributes(16) + "/>"),
		"as-deep-as-can":    in(strings.Repeat("<x:y>", strictxml.MaxDepth-1) + strings.Repeat("</x:y>", strictxml.MaxDepth-1)),
		"as-many-as-can":    in(strings.Repeat("<dish/>", strictxml.MaxNodes-3)),
		"attribute-of-name": in(`<name x:a="" a="">a</name>`),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(document); err != nil {
				t.Error(err)
			}
		})
	}
}

func parse(document string) (strictjson.Value, error) {
	return menu().Parse([]byte(document), func(string, string) {})
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " a%d=''", i)
	}
	return b.String()
}

// TestNamespaces has prefixes that mean one thing outside of an element and another inside, or nothing any more.
func TestNamespaces(t *testing.T) {
	for inner, want := range map[string]string{
		`<course xmlns:x="urn:menu">x:soup</course>`:                              "menu:soup",
		`<dish xmlns:x="urn:menu"/><course>x:soup</course>`:                       "{urn:x}soup",
		`<dish xmlns:z="urn:z"/><course>z:soup</course>`:                          "z:soup",
		`<m:course xmlns:m="urn:menu" xmlns="urn:z">soup</m:course>`:              "{urn:z}soup",
		`<m:course xmlns:m="urn:menu" xmlns="urn:z">m:soup</m:course>`:            "menu:soup",
		`<m:course xmlns:m="urn:menu" xmlns:z="urn:z" xmlns="">z:soup</m:course>`: "{urn:z}soup",
	} {
		v, err := parse(`<menu xmlns="urn:menu" xmlns:x="urn:x">` + inner + `</menu>`)
		if err != nil {
			t.Errorf("%s: %v", inner, err)
			continue
		}
		members := v.Members[0].Value.Members
		if got := members[len(members)-1].Value.Text; got != want {
			t.Errorf("%s: %q, want %q", inner, got, want)
		}
	}
	for document, want := range map[string]string{
		`<menu/>`:                   "menu (in no namespace)",
		`<menu xmlns="urn:x"/>`:     "{urn:x}menu",
		`<other xmlns="urn:menu"/>`: "other",
	} {
		if v, err := parse(document); err != nil || v.Members[0].Name != want || v.Members[0].Value.Kind != strictjson.Null {
			t.Errorf("%s: %+v, %v", document, v, err)
		}
	}
}

// TestMessages keeps what a peer wrote from playing with a terminal, and from being long.
func TestMessages(t *testing.T) {
	for n, want := range map[int]string{80: strings.Repeat("ä", 80) + " appears", 81: strings.Repeat("ä", 80) + "… appears"} {
		name := strings.Repeat("ä", n)
		if _, err := parse(`<menu xmlns="urn:menu" ` + name + `="" ` + name + `=""/>`); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := parse("<menu xmlns=\"urn:menu\" \u200ba=\"\"/>"); err == nil || strings.ContainsRune(err.Error(), '\u200b') {
		t.Error(err)
	}
}

// FuzzParse: what is accepted is XML to encoding/xml too, and tolerance changes nothing about what is accepted without it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`<menu xmlns="urn:menu"><name>a</name><dish><![CDATA[b]]></dish><!-- c --></menu>`))
	f.Add([]byte(`<m:menu xmlns:m="urn:menu"><m:course xmlns:q="urn:q">q:x</m:course><price>+1</price></m:menu>`))
	f.Add([]byte(`<?xml version="1.0"?><!DOCTYPE menu [<!ENTITY e "x">]><menu xmlns="urn:menu">&e;</menu>`))
	f.Fuzz(func(t *testing.T, document []byte) {
		lax, err := menu().Parse(document, func(string, string) {})
		strict, errStrict := menu().Parse(document, nil)
		if err != nil {
			if errStrict == nil {
				t.Fatalf("only tolerance refuses: %v", err)
			}
			return
		}
		if len(lax.Members) != 1 {
			t.Fatalf("%d roots", len(lax.Members))
		}
		if errStrict == nil && !cmp.Equal(strict, lax) {
			t.Fatal(cmp.Diff(strict, lax))
		}
		var any struct{ XMLName xml.Name }
		if err := xml.Unmarshal([]byte(strings.TrimPrefix(string(document), "\ufeff")), &any); err != nil {
			t.Fatalf("encoding/xml: %v", err)
		}
	})
}
