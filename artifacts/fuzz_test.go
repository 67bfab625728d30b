package artifacts_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// FuzzConveyedInformation: what is accepted means the same after it was written anew from what was understood.
func FuzzConveyedInformation(f *testing.F) {
	w := shared()
	anchor := b64(w.Certificates(entities{w.tlsRoot}))
	for _, seed := range []string{
		string(redirectDocument), string(onboardingDocument),
		redirectPrefix + `{"bootstrap-server":[{"address":"a","trust-anchor":"` + anchor + `"},{"address":"::1","port":1}]}}`,
		onboardingPrefix + `{"boot-image":{"os-name":"a","os-version":"b",` + uri + `,"image-verification":[{"hash-algorithm":"sha-256","hash-value":` +
			hash + `}]},"configuration":"YQ==","configuration-handling":"merge","post-configuration-script":"Yg=="}}`,
		onboardingPrefix + `{"configuration":"","configuration-handling":"","x":[]}}`,
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	server := trusted(f)
	f.Fuzz(func(t *testing.T, document string, lenient bool) {
		first, err := unsigned(server, typeJSON, document, lenient)
		if err != nil {
			refusedWithCode(t, err)
			return
		}
		written := write(first)
		second, err := unsigned(server, typeJSON, written, false)
		if err != nil && !(lenient && strings.Contains(err.Error(), "appears twice")) {
			t.Fatalf("written anew: %v\n%s", err, written)
		}
		if err == nil && write(second) != written {
			t.Fatalf("%s\nbecame\n%s", written, write(second))
		}
	})
}

// refusedWithCode makes sure that an error explains itself.
func refusedWithCode(t *testing.T, err error) {
	t.Helper()
	e, ok := err.(*artifacts.Error)
	if !ok || e.Code == "" || e.Code == "internal" || e.Step == "" || e.Fix == "" {
		t.Fatalf("error %#v", err)
	}
}

// write makes a document of what was understood.
func write(c *artifacts.Conveyed) string {
	if c.Redirect != nil {
		var servers []object
		for _, s := range c.Redirect.Servers {
			entry := object{"address": s.Address, "port": s.Port}
			if s.Anchors != nil {
				entry["trust-anchor"] = b64(degenerate(s.Anchors[0].Chain))
			}
			servers = append(servers, entry)
		}
		return string(encode(object{"ietf-sztp-conveyed-info:redirect-information": object{"bootstrap-server": servers}}))
	}
	info := object{}
	if i := c.Onboarding.BootImage(); i != nil {
		image := object{"os-name": i.OSName, "os-version": i.OSVersion}
		if i.URIs != nil {
			image["download-uri"] = i.URIs
		}
		if i.SHA256 != nil {
			image["image-verification"] = []object{{"hash-algorithm": "ietf-sztp-conveyed-info:sha-256",
				"hash-value": strings.ReplaceAll(fmt.Sprintf("% x", i.SHA256), " ", ":")}}
		}
		info["boot-image"] = image
	}
	if p := c.Onboarding.PreScript(); p != nil {
		info["pre-configuration-script"] = b64(p)
	}
	if p := c.Onboarding.PostScript(); p != nil {
		info["post-configuration-script"] = b64(p)
	}
	if p := c.Onboarding.Configuration(); p != nil {
		info["configuration"], info["configuration-handling"] = b64(p.Data), p.Handling
	}
	return string(encode(object{"ietf-sztp-conveyed-info:onboarding-information": info}))
}

func degenerate(certs []*x509.Certificate) []byte {
	var list entities
	for _, c := range certs {
		list = append(list, &opensslpki.Entity{Certificate: c})
	}
	return opensslpki.Degenerate(list)
}

// FuzzTrustAnchor: an accepted anchor means the same whatever the order of its certificates.
func FuzzTrustAnchor(f *testing.F) {
	w := shared()
	f.Add(w.Certificates(entities{w.tlsRoot}))
	f.Add(w.Certificates(entities{w.tlsCA, w.tlsRoot}))
	f.Add(w.Certificates(entities{w.tlsCA}))
	f.Add(w.Sign(w.owner, nil))
	f.Fuzz(func(t *testing.T, der []byte) {
		anchor, err := artifacts.ParseTrustAnchor(der)
		if err != nil {
			refusedWithCode(t, err)
			return
		}
		reversed := slices.Clone(anchor.Chain)
		slices.Reverse(reversed)
		again, err := artifacts.ParseTrustAnchor(degenerate(reversed))
		if err != nil || !again.Lowest.Equal(anchor.Lowest) || !slices.EqualFunc(again.Chain, anchor.Chain, (*x509.Certificate).Equal) {
			t.Fatalf("reversed: %v", err)
		}
	})
}

// FuzzBundle validates arbitrary bytes as all three artifacts: a bundle that counts as signed has the signed contents.
func FuzzBundle(f *testing.F) {
	w := shared()
	b, d, p := signedCase{w: w}.build()
	f.Add(b.ConveyedInformation, b.OwnerCertificate, b.OwnershipVoucher)
	f.Fuzz(func(t *testing.T, ci, oc, ov []byte) {
		conveyed, trail, err := artifacts.Validate(artifacts.Bundle{ConveyedInformation: ci, OwnerCertificate: oc, OwnershipVoucher: ov}, nil, d, p)
		if len(trail.Steps) == 0 {
			t.Fatal("no trail")
		}
		if err != nil {
			refusedWithCode(t, err)
			return
		}
		if conveyed.Onboarding != nil {
			if diff := cmp.Diff("#!/bin/sh\nexit 0\n", string(conveyed.Onboarding.PreScript())); diff != "" || !conveyed.Signed {
				t.Fatalf("not what the owner signed: %s", diff)
			}
		} else if conveyed.Trusted {
			t.Fatal("a redirect that nobody signed is trusted")
		}
	})
}
