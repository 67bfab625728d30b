package strictjson_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts/strictjson"
)

func TestParse(t *testing.T) {
	got, err := strictjson.Parse([]byte(` {"a":[1.50,true,null,"x\u00e9"],"A":{}} `))
	want := strictjson.Value{Kind: strictjson.Object, Members: []strictjson.Member{
		{Name: "a", Value: strictjson.Value{Kind: strictjson.Array, Items: []strictjson.Value{
			{Kind: strictjson.Number, Text: "1.50"}, {Kind: strictjson.Bool, Text: "true"}, {Kind: strictjson.Null},
			{Kind: strictjson.String, Text: "xé"}}}},
		{Name: "A", Value: strictjson.Value{Kind: strictjson.Object}},
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestRefusals(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"two-values":      "1 2",
		"text-after":      "{}x",
		"duplicate":       `{"a":1,"a":2}`,
		"duplicate-inner": `{"x":[{"a":1,"a":2}]}`,
		"by-escape":       `{"a":1,"\u0061":2}`,
		"comma":           `[1,]`,
		"comma-first":     `[,1]`,
		"comma-object":    `{"a":1,}`,
		"no-colon":        `{"a" 1}`,
		"no-name":         `{1:1}`,
		"open":            `{"a":[`,
		"mismatch":        `[1}`,
		"not-utf8":        "\"\xff\"",
		"nul":             "\"\x00\"",
		"comment":         "/**/1",
		"single-quotes":   "'a'",
		"nan":             "NaN",
		"deep":            strings.Repeat("[", strictjson.MaxDepth+1) + strings.Repeat("]", strictjson.MaxDepth+1),
		"very-deep":       strings.Repeat("[", 1<<20),
		"many":            "[" + strings.Repeat("1,", strictjson.MaxValues) + "1]",
	} {
		t.Run(name, func(t *testing.T) {
			if v, err := strictjson.Parse([]byte(text)); err == nil {
				t.Errorf("accepted as %+v", v)
			}
		})
	}
	if _, err := strictjson.Parse([]byte(strings.Repeat("[", strictjson.MaxDepth) + strings.Repeat("]", strictjson.MaxDepth))); err != nil {
		t.Errorf("as deep as allowed: %v", err)
	}
}

// FuzzParse: what is accepted is JSON, and survives being written anew.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0.5e3,true,null,"é\n"]}`, `[[],{}]`, `""`, `{"a":1,"b":{"a":2}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := strictjson.Parse(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		var b bytes.Buffer
		write(&b, v)
		again, err := strictjson.Parse(b.Bytes())
		if diff := cmp.Diff(v, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func write(b *bytes.Buffer, v strictjson.Value) {
	text := func(s string) {
		out, _ := json.Marshal(s)
		b.Write(out)
	}
	switch v.Kind {
	case strictjson.String:
		text(v.Text)
	case strictjson.Null:
		b.WriteString("null")
	case strictjson.Array:
		b.WriteByte('[')
		for i, item := range v.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			write(b, item)
		}
		b.WriteByte(']')
	case strictjson.Object:
		b.WriteByte('{')
		for i, m := range v.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			text(m.Name)
			b.WriteByte(':')
			write(b, m.Value)
		}
		b.WriteByte('}')
	default:
		b.WriteString(v.Text)
	}
}
