// Command corpus writes the inputs that fuzzing starts with into testdata/fuzz of the packages with the decoders: what
// OpenSSL makes, what the RFCs show, and what hostile peers would send. Names say what an input is about. It replaces what
// it wrote before and leaves others alone, such as those that failed once. Keys and certificates are made anew each time and
// need not be valid: nothing here is verified against a clock. Run it in the module's root with
// `go run ./artifacts/internal/corpus`.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

// corpus holds the inputs of one fuzz target by name. An input is the arguments of the target.
type corpus map[string][]any

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

func run() error {
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("not in the module's root: %w", err)
	}
	scratch, err := os.MkdirTemp("", "corpus-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	pki := newPKI(opensslpki.New(scratch))
	size := 0
	for target, inputs := range pki.targets() {
		n, err := write(target, inputs)
		if err != nil {
			return err
		}
		size += n
	}
	fmt.Printf("%d bytes\n", size)
	return nil
}

// targets is every corpus, by package and fuzz target.
func (p *pki) targets() map[string]corpus {
	messages := p.messages()
	streamed := corpus{}
	for name, arguments := range messages {
		if strings.Contains(name, "streamed") || strings.Contains(name, "indefinite") {
			streamed[name] = arguments
		}
	}
	return map[string]corpus{
		"artifacts/cms/FuzzParse":              messages,
		"artifacts/cms/FuzzDefinite":           streamed,
		"artifacts/FuzzBundle":                 p.bundles(),
		"artifacts/FuzzTrustAnchor":            p.anchors(),
		"artifacts/FuzzConveyedInformation":    texts(p.conveyedJSON()),
		"artifacts/FuzzConveyedInformationXML": texts(p.conveyedXML()),
		"artifacts/FuzzVoucher":                documents(p.vouchers()),
		"dhcp/FuzzParseV4":                     offers(),
		"dhcp/FuzzParseV6":                     replies(),
		"dhcp/FuzzParseServerList":             serverLists(),
		"pkg/restconf/FuzzRoot":                plain(hostMeta()),
		"pkg/restconf/FuzzErrors":              plain(restconfErrors()),
		"pkg/restconf/FuzzOutput":              documents(outputs()),
		"tpm/FuzzParseTSS2":                    keyFiles(),
		"tpm/FuzzParseCertificates":            p.certificateFiles(),
	}
}

// write puts inputs into files, in Go's format for fuzzing, and returns how many bytes that took.
func write(target string, inputs corpus) (size int, err error) {
	folder := filepath.Join(filepath.Dir(target), "testdata", "fuzz", filepath.Base(target))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return 0, err
	}
	for name, arguments := range inputs {
		lines := []string{"go test fuzz v1"}
		for _, a := range arguments {
			line, err := encode(a)
			if err != nil {
				return 0, fmt.Errorf("%s, %s: %w", target, name, err)
			}
			lines = append(lines, line)
		}
		text := strings.Join(lines, "\n") + "\n"
		size += len(text)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return 0, err
		}
	}
	return size, nil
}

func encode(argument any) (string, error) {
	switch a := argument.(type) {
	case []byte:
		return fmt.Sprintf("[]byte(%q)", a), nil
	case string:
		return fmt.Sprintf("string(%q)", a), nil
	case bool:
		return fmt.Sprintf("bool(%t)", a), nil
	}
	return "", fmt.Errorf("argument of type %T", argument)
}

// plain, documents and texts make arguments of text: alone, as bytes that are decoded strictly, and as a string that is.
// What a name says to be lenient is decoded so.
func plain(all map[string]string) corpus {
	return arguments(all, func(text string, _ bool) []any { return []any{[]byte(text)} })
}

func documents(all map[string]string) corpus {
	return arguments(all, func(text string, lenient bool) []any { return []any{[]byte(text), lenient} })
}

func texts(all map[string]string) corpus {
	return arguments(all, func(text string, lenient bool) []any { return []any{text, lenient} })
}

func arguments(all map[string]string, make func(string, bool) []any) corpus {
	c := corpus{}
	for name, text := range all {
		c[name] = make(text, strings.HasPrefix(name, "lenient"))
	}
	return c
}

func joined(parts ...[]byte) []byte { return slices.Concat(parts...) }
