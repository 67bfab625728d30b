package repo_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// TestSecretsComeFromTheKernel keeps nonces, keys and TLS on crypto/rand, which asks the kernel by getrandom without flags
// and so waits, early in a boot, until its generator is seeded. What may be guessed, such as how long a retry waits, is
// listed here.
func TestSecretsComeFromTheKernel(t *testing.T) {
	guessable := []string{
		"dhcp/exchange.go", "dhcp/v4client.go", "dhcp/v6client.go", // transactions and waits
		"dhcp/servers.go",        // choice among servers
		"pkg/daemon/compose.go",  // waits between rounds
		"pkg/daemon/identity.go", // waits for the TPM
		"pkg/daemon/sources.go",  // choice among equal SRV records
		"pkg/image/retry.go",     // waits between requests
	}
	for _, f := range goFiles(t) {
		if f.test || within(f.pkg, "test") {
			continue
		}
		for _, path := range f.imports() {
			if within(path, "math/rand") && !slices.Contains(guessable, f.name) {
				t.Errorf("%s: imports %s; what must not be guessed comes from crypto/rand", f.name, path)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if n.Kind == token.STRING && (strings.Contains(n.Value, "/dev/random") || strings.Contains(n.Value, "/dev/urandom")) {
					t.Errorf("%s: %s; use crypto/rand", f.fset.Position(n.Pos()), n.Value)
				}
			case *ast.AssignStmt:
				for _, to := range n.Lhs {
					if s, ok := to.(*ast.SelectorExpr); ok && s.Sel.Name == "Reader" {
						t.Errorf("%s: the source of randomness is replaced", f.fset.Position(n.Pos()))
					}
				}
			}
			return true
		})
	}
}
