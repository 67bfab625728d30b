package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Lines of the default configuration: a table, and a setting that is commented out because it shows the default.
var (
	tableLine   = regexp.MustCompile(`^\[([a-z]+)\]$`)
	settingLine = regexp.MustCompile(`^#([a-z][a-z-]*) = (.*)$`)
)

// settingsPage is ztp.toml(5), from the commented default configuration: text before the first table, and tables of settings each
// of which follows the comment that explains it. Settings without a comment of their own share that of those before them.
func settingsPage(defaults string, b build) (string, error) {
	p := newPage("ztp.toml", 5, b, "ztp.toml - configuration of the provisioning agent ztp")
	p.section("SYNOPSIS")
	var files []string
	for _, file := range b.configuration {
		files = append(files, file.Term)
	}
	p.names(files)
	p.section("DESCRIPTION")

	var comment, terms []string
	inTable := false
	flush := func() {
		text := strings.Join(comment, "\n")
		switch {
		case len(terms) > 0:
			p.term(terms...)
			p.item(text)
		case text != "":
			p.text(text)
		}
		comment, terms = nil, nil
	}
	for number, line := range strings.Split(strings.TrimRight(defaults, "\n"), "\n") {
		table, setting := tableLine.FindStringSubmatch(line), settingLine.FindStringSubmatch(line)
		switch {
		case table != nil:
			flush()
			p.section("[" + table[1] + "]")
			inTable = true
		case setting != nil && inTable:
			terms = append(terms, bold(setting[1])+" = "+escaped(setting[2]))
		case line == "#", strings.HasPrefix(line, "# "):
			if len(terms) > 0 {
				flush()
			}
			comment = append(comment, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
		case line == "":
			flush()
		default:
			return "", fmt.Errorf("line %d of the default configuration: %w: %q", number+1, errForm, line)
		}
	}
	flush()

	p.section("FILES")
	p.entries(b.configuration, bold)
	p.section("SEE ALSO")
	p.WriteString(".BR ztp (8),\n.BR ztp.service (8)\n")
	return p.String(), nil
}

var errForm = errors.New("neither a table, a comment nor a setting that is commented out")
