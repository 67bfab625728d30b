package artifacts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
)

// The YANG module of conveyed information, and bounds that it leaves open.
const (
	conveyedModule = "ietf-sztp-conveyed-info"
	maxServers     = 64
	maxURIs        = 64
	maxURILength   = 4096
)

// contents is decoded conveyed information, not trusted yet: exactly one of servers and onboarding is set.
type contents struct {
	servers    []listedServer
	onboarding *Onboarding
}

// listedServer is an entry of redirect information.
type listedServer struct {
	address string
	port    uint16
	anchor  []byte // CMS; nil when absent
}

// summary says what the contents are, for the trail. Scripts and configuration stay out of it.
func (c *contents) summary() string {
	if c.onboarding == nil {
		return fmt.Sprintf("redirect information, %s", plural(len(c.servers), "server"))
	}
	var parts []string
	if i := c.onboarding.image; i != nil {
		parts = append(parts, strings.TrimSpace(cms.Printable("boot image "+i.OSName+" "+i.OSVersion)))
	}
	if c.onboarding.pre != nil {
		parts = append(parts, "pre-configuration script")
	}
	if c.onboarding.config != nil {
		parts = append(parts, "configuration")
	}
	if c.onboarding.post != nil {
		parts = append(parts, "post-configuration script")
	}
	if parts == nil {
		parts = []string{"nothing to do"}
	}
	return "onboarding information: " + strings.Join(parts, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// conveyed reads the document of RFC 8572 §6.3 with parse, which knows its encoding.
func (d *decoder) conveyed(data []byte, parse func([]byte) (strictjson.Value, error)) *contents {
	const redirect, onboarding = conveyedModule + ":redirect-information", conveyedModule + ":onboarding-information"
	root, err := parse(data)
	if err != nil {
		d.err = err
		return nil
	}
	o := d.object("document", root, "", false, redirect, onboarding)
	c := new(contents)
	switch {
	case o.has(redirect) && o.has(onboarding):
		d.fail(o.path, "both redirect-information and onboarding-information")
	case o.has(redirect):
		c.servers = d.redirectInformation(o.members[redirect])
	case o.has(onboarding):
		c.onboarding = d.onboardingInformation(o.members[onboarding])
	default:
		d.fail(o.path, "neither %s nor %s", redirect, onboarding)
	}
	return c
}

func (d *decoder) redirectInformation(v strictjson.Value) []listedServer {
	o := d.object("redirect-information", v, conveyedModule, false, "bootstrap-server")
	list := o.list("bootstrap-server")
	if len(list) == 0 {
		d.fail(o.at("bootstrap-server"), "at least one server is required")
	}
	if len(list) > maxServers {
		d.fail(o.at("bootstrap-server"), "%d servers, at most %d are read", len(list), maxServers)
		return nil
	}
	servers := make([]listedServer, 0, len(list))
	for i, item := range list {
		s := d.bootstrapServer(fmt.Sprintf("%s[%d]", o.at("bootstrap-server"), i), item)
		same := func(other listedServer) bool { return CanonicalHost(s.address) == CanonicalHost(other.address) }
		if slices.ContainsFunc(servers, same) {
			if !d.lenient {
				d.fail(o.at("bootstrap-server"), "address %s appears twice", cms.Printable(s.address))
			}
			d.warn(o.at("bootstrap-server"), "address %s appears twice", cms.Printable(s.address))
		}
		servers = append(servers, s)
	}
	return servers
}

func (d *decoder) bootstrapServer(path string, v strictjson.Value) listedServer {
	o := d.object(path, v, conveyedModule, false, "address", "port", "trust-anchor")
	s := listedServer{address: d.withoutZone(o), port: 443, anchor: o.binary("trust-anchor")}
	switch {
	case !o.has("address"):
		d.fail(o.at("address"), "missing")
	case !isHost(s.address):
		d.fail(o.at("address"), "%q is neither an IP address nor a host name", cms.Printable(o.text("address")))
	}
	if v, ok := o.take("port", strictjson.Number); ok {
		port, err := strconv.ParseUint(v.Text, 10, 16)
		if err != nil || port == 0 {
			d.fail(o.at("port"), "%s is not a port number", cms.Printable(v.Text))
		}
		s.port = uint16(port)
	}
	return s
}

// withoutZone returns the address of a server, without the zone that an IPv6 address may have: the name of an interface
// means nothing to another host, and must not choose by which interface this one connects.
func (d *decoder) withoutZone(o object) string {
	text := o.text("address")
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() == "" {
		return text
	}
	if !isZone(address.Zone()) {
		return ""
	}
	d.warn(o.at("address"), "the zone of %s is ignored", text)
	return address.WithZone("").String()
}

// isZone follows the pattern of ip-address in RFC 6991, which net/netip is more generous than, within the length of an
// interface's name.
func isZone(s string) bool {
	return len(s) <= 15 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
}

func (d *decoder) onboardingInformation(v strictjson.Value) *Onboarding {
	o := d.object("onboarding-information", v, conveyedModule, false, "boot-image", "configuration-handling", "configuration",
		"pre-configuration-script", "post-configuration-script")
	info := &Onboarding{
		pre:    d.script(o, "pre-configuration-script"),
		config: d.configuration(o),
		post:   d.script(o, "post-configuration-script"),
	}
	if v, ok := o.members["boot-image"]; ok {
		info.image = d.bootImage(o.at("boot-image"), v)
	}
	return info
}

// script returns a script. An empty one has nothing to run, and cannot be run either.
func (d *decoder) script(o object, name string) []byte {
	data := o.binary(name)
	if data != nil && len(data) == 0 {
		d.warn(o.at(name), "an empty script is ignored")
		return nil
	}
	return data
}

func (d *decoder) configuration(o object) *Configuration {
	data, handling := o.binary("configuration"), o.text("configuration-handling")
	hasData, hasHandling := o.has("configuration"), o.has("configuration-handling")
	switch {
	case !hasData && !hasHandling:
		return nil
	case d.lenient && len(data) == 0 && handling == "":
		d.warn(o.at("configuration"), "an empty configuration without a handling is ignored")
		return nil
	case !hasData || !hasHandling:
		d.fail(o.path, "configuration and configuration-handling come together or not at all")
		return nil
	case handling != string(Merge) && handling != string(Replace):
		d.fail(o.at("configuration-handling"), "%q is neither merge nor replace", cms.Printable(handling))
	}
	return &Configuration{Handling: Handling(handling), Data: data}
}

func (d *decoder) bootImage(path string, v strictjson.Value) *BootImage {
	o := d.object(path, v, conveyedModule, false, "os-name", "os-version", "download-uri", "image-verification")
	image := &BootImage{OSName: o.text("os-name"), OSVersion: o.text("os-version")}
	uris := o.list("download-uri")
	if len(uris) > maxURIs {
		d.fail(o.at("download-uri"), "%d URIs, at most %d are read", len(uris), maxURIs)
		return nil
	}
	for i, item := range uris {
		if item.Kind != strictjson.String || !isURI(item.Text) {
			d.fail(fmt.Sprintf("%s[%d]", o.at("download-uri"), i), "not an absolute URI")
		}
		image.URIs = append(image.URIs, item.Text)
	}
	if o.has("image-verification") && len(uris) == 0 {
		d.fail(o.at("image-verification"), "without a download-uri")
	}
	d.imageVerification(image, o.at("image-verification"), o.list("image-verification"))
	if image.OSName == "" && image.OSVersion == "" && image.URIs == nil {
		return nil
	}
	return image
}

// imageVerification takes the SHA-256 fingerprint; entries of other algorithms are passed over.
func (d *decoder) imageVerification(image *BootImage, path string, list []strictjson.Value) {
	seen := make(map[string]bool)
	for i, item := range list {
		path := fmt.Sprintf("%s[%d]", path, i)
		o := d.object(path, item, conveyedModule, false, "hash-algorithm", "hash-value")
		if !o.has("hash-algorithm") || !o.has("hash-value") {
			d.fail(path, "hash-algorithm and hash-value are required")
		}
		algorithm := strings.TrimPrefix(o.text("hash-algorithm"), conveyedModule+":")
		if seen[algorithm] {
			d.fail(path, "hash-algorithm %s appears twice", cms.Printable(algorithm))
		}
		seen[algorithm] = true
		if algorithm != "sha-256" {
			d.warn(path, "unknown hash-algorithm %s is passed over", cms.Printable(algorithm))
			continue
		}
		image.SHA256 = d.fingerprint(o.at("hash-value"), o.text("hash-value"))
	}
}

// fingerprint reads a colon-separated SHA-256 value (the type hex-string of RFC 6991).
func (d *decoder) fingerprint(path, text string) []byte {
	plain := strings.ReplaceAll(text, ":", "")
	sum, err := hex.DecodeString(plain)
	if err == nil && len(sum) == sha256.Size {
		spelled := fmt.Sprintf("% x", sum)
		if strings.EqualFold(strings.ReplaceAll(spelled, " ", ":"), text) {
			return sum
		}
		if d.lenient && plain == text {
			d.warn(path, "hexadecimal digits without colons")
			return sum
		}
	}
	if !d.lenient {
		d.fail(path, "not 32 bytes as hexadecimal digits separated by colons")
	}
	d.warn(path, "not a SHA-256 value; passed over")
	return nil
}

// isURI reports whether s is an absolute URI with a scheme that could be fetched or a path.
func isURI(s string) bool {
	if len(s) > maxURILength || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && (u.Host != "" || u.Path != "" || u.Scheme == "file" && u.Opaque != "")
}

// isHost reports whether s is an IP address or a host name (the type host of RFC 6991).
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	s = strings.TrimSuffix(s, ".")
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if !isLabel(label) {
			return false
		}
	}
	// A last label of digits only is an address gone wrong, and some resolvers would read it as one.
	_, err := strconv.ParseUint(labels[len(labels)-1], 10, 64)
	return err != nil
}

func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
