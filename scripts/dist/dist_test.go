package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

const (
	apache = "Apache License\n  Version 2.0, January 2004\n lots of text\n   Copyright 2020 Somebody\n"
	mit    = "Permission is hereby granted, free of charge, to any person obtaining a copy\n"
)

// cache plays the Go command with a module cache of two modules and a toolchain.
func cache(t *testing.T) func(...string) ([]byte, error) {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"go/LICENSE":  "Redistribution and use in source and binary forms\nNeither the name",
		"go/PATENTS":  "Patents of Go",
		"a/LICENSE":   apache,
		"a/NOTICE":    "Made by A",
		"b/COPYING":   mit,
		"b/readme.md": "not this",
		"c/README":    "no licence",
	} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return func(args ...string) ([]byte, error) {
		if args[0] == "env" {
			return json.Marshal(map[string]string{"GOROOT": filepath.Join(root, "go"), "GOVERSION": "go1.99"})
		}
		path, _, _ := strings.Cut(args[len(args)-1], "@")
		if path == "gone" {
			return nil, fmt.Errorf("no such module")
		}
		return json.Marshal(map[string]string{"Dir": filepath.Join(root, path)})
	}
}

func info(deps ...*debug.Module) *debug.BuildInfo {
	return &debug.BuildInfo{
		GoVersion: "go1.99", Main: debug.Module{Path: "example.com/main"}, Deps: deps,
		Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "arm64"}},
	}
}

var (
	a = &debug.Module{Path: "a", Version: "v1.0.0", Sum: "h1:x"}
	b = &debug.Module{Path: "old", Version: "v1.0.0", Replace: &debug.Module{Path: "b", Version: "v2.0.0+incompatible"}}
)

func TestLinked(t *testing.T) {
	all, err := linked(info(a, b), cache(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range all {
		got = append(got, fmt.Sprint(c.path, " ", c.version, " ", c.license, " ", len(c.texts)))
	}
	if diff := cmp.Diff([]string{"std 1.99 BSD-3-Clause 2", "a v1.0.0 Apache-2.0 2", "b v2.0.0+incompatible MIT 1"}, got); diff != "" {
		t.Error(diff)
	}
	other := info()
	other.GoVersion = "go1.98"
	for want, info := range map[string]*debug.BuildInfo{
		"c: there is no licence": info(&debug.Module{Path: "c"}),
		"gone: no such module":   info(&debug.Module{Path: "gone"}),
		"was made by go1.98":     other,
	} {
		if _, err := linked(info, cache(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestNotices(t *testing.T) {
	all, err := linked(info(a, b), cache(t))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeNotices(&out, "/licences/apache", all); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"Patents of Go", "a v1.0.0\nApache-2.0\n\nCopyright 2020 Somebody\n", "/licences/apache", "Made by A", strings.TrimSpace(mit)} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing in\n%s", part, &out)
		}
	}
	if strings.Contains(out.String(), "lots of text") {
		t.Error("the text of the Apache License is repeated")
	}
}

func TestSBOM(t *testing.T) {
	all, err := linked(info(a, b), cache(t))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeSBOM(&out, info(a, b), release{"v3", time.Unix(0, 0).UTC(), "abcd"}, all); err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&out, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range append([]cdx.Component{*bom.Metadata.Component}, *bom.Components...) {
		got = append(got, c.PackageURL+" "+(*c.Licenses)[0].License.ID)
	}
	want := []string{
		"pkg:golang/example.com/main@v3 Apache-2.0", "pkg:golang/std@1.99 BSD-3-Clause", "pkg:golang/a@v1.0.0 Apache-2.0",
		"pkg:golang/b@v2.0.0%2Bincompatible MIT",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if bom.Metadata.Timestamp != "1970-01-01T00:00:00Z" || bom.SerialNumber != "" || (*bom.Metadata.Component.Hashes)[0].Value != "abcd" {
		t.Errorf("%+v", bom.Metadata)
	}
	if deps := *bom.Dependencies; len(deps) != 4 || len(*deps[0].Dependencies) != 3 {
		t.Errorf("%+v", deps)
	}
}

func TestLicences(t *testing.T) {
	for content, want := range map[string]string{
		apache: "Apache-2.0",
		mit:    "MIT",
		"Redistribution and use in source\nand binary forms":                                                       "BSD-2-Clause",
		"use this for any purpose with or without fee is hereby granted, provided that the above copyright notice": "ISC",
		"GNU AFFERO GENERAL PUBLIC LICENSE":                                                                        "",
	} {
		if got := (text{content: content}).identifier(); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}
