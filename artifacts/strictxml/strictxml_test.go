package strictxml_test

import (
	"encoding/xml"
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
		"leaves":     {"<name>a</name><price>+7</price><note> n </note>", `{"name":"a","price":7,"note":" n "}`, 0},
		"list":       {"<dish>a</dish><name>n</name><dish>b</dish>", `{"dish":["a","b"],"name":"n"}`, 0},
		"identity":   {"<course>x:y</course>", `{"course":"{urn:x}y"}`, 0},
		"own":        {"<course>soup</course>", `{"course":"menu:soup"}`, 0},
		"unknown":    {"<x:y><z/></x:y>", `{"{urn:x}y":null}`, 0},
		"space":      {"<name> a </name>", `{"name":"a"}`, 1},
		"attribute":  {`<name x:y="">a</name>`, `{"name":"a"}`, 1},
		"undeclared": {"<course>q:y</course>", `{"course":"q:y"}`, 1},
		"escape":     {"<name\x1b>a</name\x1b>", "", 0},
		"twice":      {"<name>a</name><name>b</name>", "", 0},
		"entity":     {"&e;", "", 0},
		"nested":     {"<name><b/></name>", "", 0},
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
