package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
)

// component is a module that is linked into a binary, or Go's standard library.
type component struct {
	path, version string
	sum           string // of the module, as in go.sum
	license       string // SPDX identifier
	texts         []text // licences and notices
}

type text struct{ file, content string }

const standardLibrary = "std"

// goCommand runs the Go command in the current folder.
func goCommand(args ...string) ([]byte, error) {
	out, err := exec.Command("go", args...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	return out, err
}

// linked finds what a binary is made of besides the module itself, and reads its licences in the module cache.
func linked(info *debug.BuildInfo, run func(...string) ([]byte, error)) ([]component, error) {
	out, err := run("env", "-json", "GOROOT", "GOVERSION")
	if err != nil {
		return nil, err
	}
	var toolchain struct{ GOROOT, GOVERSION string }
	if err := json.Unmarshal(out, &toolchain); err != nil {
		return nil, err
	}
	if toolchain.GOVERSION != info.GoVersion {
		return nil, fmt.Errorf("the binary was made by %s, and this is %s", info.GoVersion, toolchain.GOVERSION)
	}
	std := component{path: standardLibrary, version: strings.TrimPrefix(info.GoVersion, "go")}
	if std.license, std.texts, err = licenses(toolchain.GOROOT); err != nil {
		return nil, fmt.Errorf("the standard library: %w", err)
	}
	all := []component{std}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{path: m.Path, version: m.Version, sum: m.Sum}
		out, err := run("mod", "download", "-json", m.Path+"@"+m.Version)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		var module struct{ Dir string }
		if err := json.Unmarshal(out, &module); err != nil {
			return nil, err
		}
		if c.license, c.texts, err = licenses(module.Dir); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		all = append(all, c)
	}
	return all, nil
}

var licenseFile = regexp.MustCompile(`(?i)^(license|licence|copying|notice|patents)(\.(md|txt))?$`)

// licenses reads what stands at the top of a module. One that says nothing, or what nobody has looked at yet, is an error:
// somebody must decide whether it may be passed on.
func licenses(folder string) (id string, texts []text, err error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return "", nil, err
	}
	for _, f := range files {
		if !licenseFile.MatchString(f.Name()) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			return "", nil, err
		}
		t := text{f.Name(), string(content)}
		texts = append(texts, t)
		if found := t.identifier(); found != "" {
			id = strings.TrimPrefix(id+" AND "+found, " AND ")
		}
	}
	if id == "" {
		return "", nil, errors.New("there is no licence, or one that is not known here")
	}
	return id, texts, nil
}

// identifier is the SPDX identifier of a licence, or "".
func (t text) identifier() string {
	words := strings.Join(strings.Fields(t.content), " ")
	has := func(part string) bool { return strings.Contains(words, part) }
	switch {
	case has("Apache License Version 2.0, January 2004"):
		return "Apache-2.0"
	case has("Redistribution and use in source and binary forms") && has("Neither the name"):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("Permission is hereby granted, free of charge, to any person obtaining a copy"):
		return "MIT"
	case has("for any purpose with or without fee is hereby granted, provided that the above copyright notice"):
		return "ISC"
	case has("Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"):
		return "0BSD"
	}
	return ""
}
