package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// width is how long a line of a source may become; formatters fill lines anew.
const width = 78

// page is the source of a manual page in man(7), as far as it is written.
type page struct{ strings.Builder }

// newPage begins a page. what is its name and one line about it, as whatis(1) prints them.
func newPage(name string, section int, b build, what string) *page {
	p := &page{}
	fmt.Fprintf(p, ".\\\" Made from the table of commands, the default configuration and the units.\n")
	fmt.Fprintf(p, ".TH %s %d %s %s\n", quoted(strings.ToUpper(name)), section, b.date, quoted("ztp "+b.version))
	p.WriteString(".ad l\n")
	p.section("NAME")
	line := 0
	for i, word := range strings.Fields(what) {
		word = escaped(word)
		switch {
		case i == 0:
		case line+len(word) >= width:
			p.WriteString("\n")
			line = 0
		default:
			p.WriteString(" ")
		}
		p.WriteString(word)
		line += len(word) + 1
	}
	p.WriteString("\n")
	return p
}

func (p *page) section(title string)    { fmt.Fprintf(p, ".SH %s\n", quoted(title)) }
func (p *page) subsection(title string) { fmt.Fprintf(p, ".SS %s\n", quoted(title)) }

// text writes paragraphs, which blank lines separate. What is indented in them is kept as it is.
func (p *page) text(text string) { p.paragraphs(text, ".PP\n", 4) }

// item is text below a term.
func (p *page) item(text string) { p.paragraphs(text, ".IP\n", 11) }

func (p *page) paragraphs(text, macro string, indent int) {
	for i, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		var lines []string // alike
		begun := i == 0
		flush := func() {
			switch {
			case len(lines) == 0:
			case indented(lines[0]):
				p.verbatim(lines, indent)
				begun = false
			default:
				if !begun {
					p.WriteString(macro)
				}
				p.fill(strings.Join(lines, " "))
			}
			lines = nil
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			if len(lines) > 0 && indented(line) != indented(lines[0]) {
				flush()
			}
			lines = append(lines, line)
		}
		flush()
	}
}

func indented(line string) bool { return strings.HasPrefix(line, "  ") }

// fill writes words in lines of a source, in which `this` becomes bold.
func (p *page) fill(text string) {
	parts := strings.Split(text, "`")
	var b strings.Builder
	for i, part := range parts {
		switch {
		case i%2 == 0:
			b.WriteString(escaped(part))
		case i == len(parts)-1:
			b.WriteString(escaped("`" + part))
		default:
			b.WriteString(bold(part))
		}
	}
	line := ""
	flush := func() {
		if line != "" {
			p.WriteString(guarded(line) + "\n")
		}
		line = ""
	}
	for word := range strings.FieldsSeq(b.String()) {
		if strings.Contains(word, "/") || strings.Contains(word, `\-`) { // names stay whole
			word = `\%` + word
		}
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			flush()
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	flush()
}

// verbatim writes lines as they are, without the indentation that they have in common.
func (p *page) verbatim(lines []string, indent int) {
	common := width
	for _, line := range lines {
		common = min(common, len(line)-len(strings.TrimLeft(line, " ")))
	}
	fmt.Fprintf(p, ".RS %d\n.EX\n", indent)
	for _, line := range lines {
		p.WriteString(guarded(escaped(line[common:])) + "\n")
	}
	p.WriteString(".EE\n.RE\n")
}

// term writes what is explained next; several terms share an explanation.
func (p *page) term(terms ...string) {
	for i, term := range terms {
		macro := ".TP\n"
		if i > 0 {
			macro = ".TQ\n"
		}
		p.WriteString(macro + guarded(term) + "\n")
	}
}

// names writes one a line.
func (p *page) names(names []string) {
	var lines []string
	for _, name := range names {
		lines = append(lines, guarded(escaped(name)))
	}
	p.WriteString(strings.Join(lines, "\n.br\n") + "\n")
}

func (p *page) entries(entries []command.Entry, format func(string) string) {
	for _, e := range entries {
		p.term(format(e.Term))
		p.item(e.Text)
	}
}

// option formats "-w, --watch", with what follows as something to replace.
func option(term string) string {
	var words []string
	for word := range strings.FieldsSeq(term) {
		if strings.HasPrefix(word, "-") {
			words = append(words, bold(word))
		} else {
			words = append(words, `\fI`+escaped(word)+`\fR`)
		}
	}
	return strings.Join(words, " ")
}

func bold(text string) string { return `\fB` + escaped(text) + `\fR` }

func quoted(text string) string {
	return `"` + strings.ReplaceAll(escaped(text), `"`, `\(dq`) + `"`
}

// guarded keeps a line from being taken for a request.
func guarded(line string) string {
	if strings.HasPrefix(line, ".") {
		return `\&` + line
	}
	return line
}

// escaped has every character mean itself, whatever the encoding of the terminal.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\(rs`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '…':
			b.WriteString(`...`)
		case r >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
