package cms_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/xpu-sztp/ztp/artifacts/cms"
	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

const (
	typeJSON    = "1.2.840.113549.1.9.16.1.43"
	typeVoucher = "1.2.840.113549.1.9.16.1.40"
	typeData    = "1.2.840.113549.1.7.1"
)

var content = []byte(`{"ietf-sztp-conveyed-info:redirect-information":{}}`)

// world is the certificates that the tests share.
type world struct {
	*opensslpki.Workspace
	root, signer, other *opensslpki.Entity
}

var folder string

var shared = sync.OnceValue(func() world {
	w := opensslpki.New(folder)
	root := w.Issue(nil, "/CN=root", opensslpki.Authority...)
	return world{
		Workspace: w,
		root:      root,
		signer:    w.Issue(root, "/CN=signer", opensslpki.Signer...),
		other:     w.Issue(root, "/CN=other", opensslpki.Signer...),
	}
})

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "cms"); err != nil {
		panic(err)
	}
	folder, err = filepath.EvalSymlinks(folder)
	if err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

func mustParse(t testing.TB, der []byte) *cms.Message {
	t.Helper()
	m, err := cms.Parse(der)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return m
}
