package main

import (
	"io"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// release is what no binary says of itself.
type release struct {
	version string
	made    time.Time
	digest  string // SHA-256 of the binary, in hexadecimal
}

// writeSBOM writes a bill of materials that is the same for the same binary: without a serial number, and with the time of the
// release.
func writeSBOM(w io.Writer, info *debug.BuildInfo, r release, all []component) error {
	main := describe(component{path: info.Main.Path, version: r.version, license: "Apache-2.0"}, cdx.ComponentTypeApplication)
	main.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: r.digest}}
	main.Properties = settings(info)
	var parts []cdx.Component
	var refs []string
	dependencies := []cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	for _, c := range all {
		part := describe(c, cdx.ComponentTypeLibrary)
		parts, refs = append(parts, part), append(refs, part.BOMRef)
		dependencies = append(dependencies, cdx.Dependency{Ref: part.BOMRef})
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp:  r.made.Format(time.RFC3339),
		Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhasePostBuild}},
		Component:  &main,
	}
	bom.Components, bom.Dependencies = &parts, &dependencies
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

func describe(c component, kind cdx.ComponentType) cdx.Component {
	part := cdx.Component{
		Type: kind, Name: c.path, Version: c.version, PackageURL: "pkg:golang/" + c.path + "@" + url.QueryEscape(c.version),
	}
	part.BOMRef = part.PackageURL
	var licences cdx.Licenses
	for id := range strings.SplitSeq(c.license, " AND ") {
		licences = append(licences, cdx.LicenseChoice{License: &cdx.License{ID: id}})
	}
	part.Licenses = &licences
	if c.sum != "" {
		part.Properties = &[]cdx.Property{{Name: "go:sum", Value: c.sum}}
	}
	return part
}

// settings are those of the build, such as the architecture.
func settings(info *debug.BuildInfo) *[]cdx.Property {
	properties := []cdx.Property{{Name: "go:version", Value: info.GoVersion}}
	for _, s := range info.Settings {
		properties = append(properties, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return &properties
}
