package repo_test

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// layers says which way imports point: code may import its own layer and those below it, never one above. The order is
// from what stands alone to what ties everything together. Sub-packages belong to their parent's layer.
var layers = [][]string{
	{"artifacts", "dhcp", "tpm", "pkg/reason", "pkg/progress", "pkg/dns", "pkg/durable", "pkg/http1", "pkg/retryafter", "pkg/process"},
	{"systemd", "pkg/config", "pkg/image", "pkg/inspect", "pkg/link", "pkg/revocation", "pkg/slot", "pkg/state", "pkg/statusview", "pkg/storage"},
	{"pkg/onboard", "pkg/restconf", "pkg/source"},
	{"pkg/agent", "pkg/doctor", "pkg/privsep"},
	{"pkg/daemon"},
	{"test", "cmd", "scripts"},
}

func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(layer []string) bool {
		return slices.ContainsFunc(layer, func(member string) bool { return within(pkg, member) })
	})
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestImportsPointInwards(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		from := layerOf(f.pkg)
		if from < 0 {
			t.Errorf("%s: no layer is known for %s; add it to the table of this test", f.name, f.pkg)
			continue
		}
		for _, path := range f.imports() {
			to, ours := strings.CutPrefix(path, module+"/")
			if ours && layerOf(to) > from {
				t.Errorf("%s: imports %s, which lies further out", f.name, to)
			}
		}
	}
}

// TestStandaloneLibraries keeps artifacts, dhcp and tpm usable by programs other than this one, in their tests too.
func TestStandaloneLibraries(t *testing.T) {
	for _, f := range goFiles(t) {
		if !within(f.pkg, "artifacts") && !within(f.pkg, "dhcp") && !within(f.pkg, "tpm") {
			continue
		}
		for _, path := range f.imports() {
			if within(path, module+"/pkg") && !f.test {
				t.Errorf("%s: imports %s; this package stands alone", f.name, path)
			}
		}
	}
}

// TestAgentDoesNoIO keeps the loop of RFC 8572 §5 a function of its inputs.
func TestAgentDoesNoIO(t *testing.T) {
	effects := []string{
		"database", "io/ioutil", "log", "net/http", "net/rpc", "net/smtp", "net/textproto", "os", "plugin", "syscall",
		"crypto/tls", "golang.org/x/sys", "github.com/vishvananda", "github.com/insomniacslk",
	}
	harmless := []string{"log/slog"}
	pureNet := []string{"IP", "IPNet", "JoinHostPort", "ParseIP", "SplitHostPort", "Error", "OpError", "DNSError"}
	for _, f := range goFiles(t) {
		if f.test || !within(f.pkg, "pkg/agent") {
			continue
		}
		for _, path := range f.imports() {
			if slices.Contains(harmless, path) {
				continue
			}
			if slices.ContainsFunc(effects, func(effect string) bool { return within(path, effect) }) {
				t.Errorf("%s: imports %s; effects enter pkg/agent through its interfaces", f.name, path)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if of, ok := selector.X.(*ast.Ident); ok && of.Name == "net" && !slices.Contains(pureNet, selector.Sel.Name) {
				t.Errorf("%s: net.%s; effects enter pkg/agent through its interfaces",
					f.fset.Position(n.Pos()), selector.Sel.Name)
			}
			return true
		})
	}
}

// TestDeviceBinaryLeavesOut names what must never be linked into the device binary: tooling, libraries that do not
// stand hostile input, and what is large without being needed. Templates call methods by name, for which the linker keeps
// every exported method.
func TestDeviceBinaryLeavesOut(t *testing.T) {
	banned := []string{
		"testing", "encoding/gob", "html/template", "text/template", "net/http", "mime/multipart", "plugin", "runtime/cgo",
		"github.com/smallstep/pkcs7", "github.com/google/go-tpm-tools", module + "/test",
	}
	for _, arch := range []string{"amd64", "arm64"} {
		packages := list(t, arch)
		if !slices.Contains(packages, module+"/pkg/agent") {
			t.Errorf("%s: the device binary does not contain the agent; is this test looking at the right thing?", arch)
		}
		for _, pkg := range packages {
			if slices.ContainsFunc(banned, func(bad string) bool { return within(pkg, bad) }) {
				t.Errorf("%s: %s is linked into the device binary", arch, pkg)
			}
		}
	}
}

// TestDeviceModules compares the modules linked into the device binary with the list in testdata, so that none is added
// or dropped without somebody writing down why.
func TestDeviceModules(t *testing.T) {
	const golden = "test/repo/testdata/device-modules.golden"
	var want []string
	for line := range strings.Lines(string(read(t, golden))) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, why, _ := strings.Cut(line, " ")
		if strings.TrimSpace(why) == "" {
			t.Errorf("%s: %s has no justification", golden, name)
		}
		want = append(want, name)
	}
	linked := map[string]bool{}
	for _, arch := range []string{"amd64", "arm64"} {
		for _, name := range list(t, arch, "-f", "{{with .Module}}{{.Path}}{{end}}") {
			linked[name] = true
		}
	}
	delete(linked, module)
	got := slices.Sorted(maps.Keys(linked))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modules linked into the device binary (-%s +linked):\n%s", golden, diff)
	}
}
