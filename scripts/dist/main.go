// Command dist tells what is linked into a binary, by the build information in the binary itself: as a software bill of materials
// (CycloneDX), and as the notices that the licences of what is linked demand.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "the binary to look into")
	flag.StringVar(&o.version, "version", "unknown", "its version")
	flag.Int64Var(&o.epoch, "epoch", 0, "when that was made, in seconds since 1970")
	flag.StringVar(&o.sbom, "sbom", "", "write the bill of materials to this file")
	flag.StringVar(&o.notices, "notices", "", "write the notices to this file")
	flag.StringVar(&o.apache, "apache", "", "where a system has the text of the Apache License, for the notices")
	flag.Parse()
	if o.binary == "" || flag.NArg() > 0 || (o.notices != "") != (o.apache != "") {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

type options struct {
	binary, version, sbom, notices, apache string
	epoch                                  int64
}

func run(o options) error {
	info, err := buildinfo.ReadFile(o.binary)
	if err != nil {
		return err
	}
	all, err := linked(info, goCommand)
	if err != nil {
		return err
	}
	if o.sbom != "" {
		digest, err := sha256Of(o.binary)
		if err != nil {
			return err
		}
		r := release{version: o.version, made: time.Unix(o.epoch, 0).UTC(), digest: digest}
		if err := create(o.sbom, func(w io.Writer) error { return writeSBOM(w, info, r, all) }); err != nil {
			return err
		}
	}
	if o.notices != "" {
		return create(o.notices, func(w io.Writer) error { return writeNotices(w, o.apache, all) })
	}
	return nil
}

func sha256Of(name string) (string, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(content)), nil
}

func create(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
