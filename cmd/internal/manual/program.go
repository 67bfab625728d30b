package main

import (
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/cmd/internal/command"
)

// programPage is ztp(8), from the help of the program and all its commands.
func programPage(all []command.Help, b build) string {
	program, commands := all[0], all[1:]
	p := newPage(program.Name, 8, b, program.Name+" - "+program.Text)
	p.section("SYNOPSIS")
	p.WriteString(bold(program.Name) + " " + escaped(program.Synopsis) + "\n")
	p.section("DESCRIPTION")
	p.text(strings.TrimSpace(description))
	p.section("OPTIONS")
	p.entries(program.Flags, option)
	p.section("COMMANDS")
	for _, h := range commands {
		p.command(h, program)
	}
	p.subsection(program.Name + " help COMMAND")
	p.text("Show the help of a command, as --help does.")
	for _, s := range program.Sections {
		p.section(strings.ToUpper(s.Title))
		p.entries(s.Entries, bold)
	}
	p.section("SEE ALSO")
	p.WriteString(".BR ztp.toml (5),\n.BR ztp.service (8),\n.BR journalctl (1),\n.BR systemctl (1)\n.PP\n")
	p.text("RFC 8572, Secure Zero Touch Provisioning. RFC 8366, A Voucher Artifact for Bootstrapping Protocols.")
	return p.String()
}

// command is what one command has besides what all have.
func (p *page) command(h, program command.Help) {
	p.subsection(h.Name + " " + h.Synopsis)
	p.text(sentence(h.Text))
	common := func(e command.Entry) bool { return slices.Contains(program.Flags, e) }
	flags := h.Flags
	if len(h.Commands) > 0 { // once for all the commands of a group
		flags = append(flags, h.Inherited...)
	}
	p.entries(slices.DeleteFunc(slices.Clone(flags), common), option)
	if h.Example != "" {
		p.heading("Examples")
		p.verbatim(strings.Split(h.Example, "\n"), 4)
	}
	for _, s := range h.Sections {
		p.heading(s.Title)
		p.entries(s.Entries, bold)
	}
}

// heading is one within a command.
func (p *page) heading(title string) { p.WriteString(".PP\n\\fI" + escaped(title) + "\\fR\n") }

// sentence ends texts of one line, which have no final stop.
func sentence(text string) string {
	if strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}
