package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

var copyrightLine = regexp.MustCompile(`(?m)^ *Copyright (?:\([cC]\)|©|\d{4}).*$`)

// writeNotices writes the licence of ztp itself and those of all that is linked into it. apache is where a system has the text of the
// Apache License, which is not repeated.
func writeNotices(w io.Writer, apache string, all []component) error {
	var b strings.Builder
	fmt.Fprintf(&b, "ztp\n\nCopyright the authors of ztp\n\n%s", underApache(apache))
	fmt.Fprintf(&b, "\nThe binary contains the following, under the licences that are given.\n")
	for _, c := range all {
		name := c.path + " " + c.version
		if c.path == standardLibrary {
			name = "The standard library of Go " + c.version
		}
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n", strings.Repeat("-", 72), name, c.license)
		for _, t := range c.texts {
			b.WriteString("\n")
			if t.identifier() != "Apache-2.0" {
				fmt.Fprintf(&b, "%s\n", strings.TrimSpace(t.content))
				continue
			}
			for _, line := range copyrightLine.FindAllString(t.content, -1) {
				fmt.Fprintf(&b, "%s\n", strings.TrimSpace(line))
			}
			b.WriteString(underApache(apache))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func underApache(where string) string {
	return fmt.Sprintf("Licensed under the Apache License, Version 2.0, the text of which is in\n%s.\n", where)
}
