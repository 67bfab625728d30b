package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/bootstrap"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/files"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

const serial = "AC-000123"

func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(lab.Options{Family: lab.Loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	l.MASA.Sell(serial, l.Owner.Root.Certificate)
	return l
}

// client is a device that believes every server.
func client(t *testing.T, l *lab.Lab, serial string) *http.Client {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	idevid, err := l.Maker.IDevID(key.Public(), "X100", serial, "https://"+l.MASAAt.String())
	if err != nil {
		t.Fatal(err)
	}
	cert := (&pki.Entity{Certificate: idevid.Certificate, Issuer: idevid.Issuer, Key: key}).TLS()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

const (
	mediaType   = "application/yang-data+json"
	gbd         = "/sztp/restconf/operations/ietf-sztp-bootstrap-server:get-bootstrapping-data"
	rp          = "/sztp/restconf/operations/ietf-sztp-bootstrap-server:report-progress"
	asStranger  = `{"ietf-sztp-bootstrap-server:input":{"signed-data-preferred":[null]}}`
	asFriend    = `{"ietf-sztp-bootstrap-server:input":{"hw-model":"X100","os-name":"AcmeOS","os-version":"4.2.0","nonce":"EBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8="}}`
	initiated   = `{"ietf-sztp-bootstrap-server:input":{"progress-type":"bootstrap-initiated"}}`
	outputName  = "ietf-sztp-bootstrap-server:output"
	errorsName  = "ietf-restconf:errors"
	nonceBase64 = "EBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8="
)

func post(t *testing.T, c *http.Client, url, body string) (status int, answer string) {
	t.Helper()
	res, err := c.Post(url, mediaType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(content)
}

type output struct {
	Level string `json:"reporting-level"`
	CI    []byte `json:"conveyed-information"`
	OC    []byte `json:"owner-certificate"`
	OV    []byte `json:"ownership-voucher"`
}

func ask(t *testing.T, c *http.Client, url, body string) output {
	t.Helper()
	status, answer := post(t, c, url, body)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	var doc map[string]output
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		t.Fatal(err)
	}
	return doc[outputName]
}

// verify returns the content of CMS signed data after openssl verified it to the anchors.
func verify(t *testing.T, der, anchors, signer []byte) map[string]map[string]any {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"in.der": der, "anchors.pem": anchors, "signer.pem": signer} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", "in.der", "-CAfile", "anchors.pem", "-purpose", "any"}
	if signer != nil {
		args = append(args, "-certfile", "signer.pem")
	}
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	content, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, errs.String())
	}
	var doc map[string]map[string]any
	if err := json.Unmarshal(content, &doc); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	return doc
}

func TestHostMeta(t *testing.T) {
	l := newLab(t)
	res, err := client(t, l, serial).Get(l.BootstrapAt.URL() + "/.well-known/host-meta")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.Header.Get("Content-Type") != "application/xrd+xml" || !strings.Contains(string(body), "<Link rel='restconf' href='/sztp/restconf'/>") {
		t.Errorf("%v %s", res.Header, body)
	}
}

func TestUnsignedRedirect(t *testing.T) {
	l := newLab(t)
	out := ask(t, client(t, l, serial), l.RedirectAt.URL()+strings.TrimPrefix(gbd, "/sztp"), asStranger)
	if out.OC != nil || out.OV != nil {
		t.Error("an unsigned answer carries an owner certificate or voucher")
	}
	prefix, _ := hex.DecodeString("060b2a864886f70d010910012ba0")
	if !bytes.Contains(out.CI[:20], prefix) || !bytes.Contains(out.CI, []byte(`{"bootstrap-server":[{"address":"127.0.0.1","port":`)) {
		t.Errorf("%q", out.CI)
	}
}

func TestSignedAnswers(t *testing.T) {
	l := newLab(t)
	sum := l.Files.Put("os.img", []byte("hello image\n"))
	l.Onboard(artifact.Onboarding{
		BootImage: &artifact.BootImage{OSVersion: "4.3.1", URIs: []string{l.FilesAt.URL() + "/os.img"}, Verification: artifact.SHA256(sum[:])},
		Handling:  "replace", Configuration: []byte("x"),
	}, "verbose")
	c := client(t, l, serial)
	anchors := pki.PEM(l.Owner.Root.Certificate, l.Owner.Issuing.Certificate)
	owner := pki.PEM(l.Owner.Signer.Certificate)

	t.Run("stranger", func(t *testing.T) {
		out := ask(t, c, l.BootstrapAt.URL()+gbd, asStranger)
		ci := verify(t, out.CI, anchors, owner)["ietf-sztp-conveyed-info:redirect-information"]
		server := ci["bootstrap-server"].([]any)[0].(map[string]any)
		if server["address"] != "127.0.0.1" || server["trust-anchor"] == nil {
			t.Errorf("redirect information %v", ci)
		}
		voucher := verify(t, out.OV, pki.PEM(l.Maker.Root.Certificate), nil)["ietf-voucher:voucher"]
		if voucher["serial-number"] != serial || voucher["expires-on"] == nil || voucher["nonce"] != nil || voucher["idevid-issuer"] == nil {
			t.Errorf("voucher %v", voucher)
		}
		if pinned := base64.StdEncoding.EncodeToString(l.Owner.Root.Certificate.Raw); voucher["pinned-domain-cert"] != pinned {
			t.Error("the voucher does not pin the owner's root")
		}
		if n := bytes.Count(out.OC, l.Owner.Root.Certificate.Raw); n != 0 || !bytes.Contains(out.OC, l.Owner.Issuing.Certificate.Raw) {
			t.Error("the owner certificate holds what is pinned, or lacks the issuing CA")
		}
	})
	t.Run("friend", func(t *testing.T) {
		out := ask(t, c, l.BootstrapAt.URL()+gbd, asFriend)
		if out.Level != "verbose" {
			t.Errorf("reporting level %q", out.Level)
		}
		ci := verify(t, out.CI, anchors, owner)["ietf-sztp-conveyed-info:onboarding-information"]
		want := map[string]any{
			"hash-algorithm": "ietf-sztp-conveyed-info:sha-256",
			"hash-value":     "cd:4a:bd:b9:3d:8a:aa:ca:98:bf:3c:da:33:83:48:a8:c1:a6:90:2b:cd:ee:5e:a7:1f:1b:09:cb:60:81:02:8e",
		}
		if diff := cmp.Diff([]any{want}, ci["boot-image"].(map[string]any)["image-verification"]); diff != "" {
			t.Error(diff)
		}
		voucher := verify(t, out.OV, pki.PEM(l.Maker.Root.Certificate), nil)["ietf-voucher:voucher"]
		if voucher["nonce"] != nonceBase64 || voucher["expires-on"] != nil {
			t.Errorf("voucher %v", voucher)
		}
	})
	if r := l.Bootstrap.Requests(); len(r) != 2 || len(r[1].Chain) != 2 || !r[1].Chain[1].Equal(l.Maker.IDevIDCA.Certificate) {
		t.Error("the device's intermediates were not recorded")
	}
}

func TestDeviceOfSomebodyElse(t *testing.T) {
	l := newLab(t)
	status, answer := post(t, client(t, l, "AC-000124"), l.BootstrapAt.URL()+gbd, asStranger)
	if status != http.StatusNotFound || !strings.Contains(answer, "was not sold to") || !strings.Contains(answer, errorsName) {
		t.Errorf("%d %s", status, answer)
	}
}

func TestStrangersAreNotAdmitted(t *testing.T) {
	l := newLab(t)
	other, err := pki.NewManufacturer("Other")
	if err != nil {
		t.Fatal(err)
	}
	maker := l.Maker
	l.Maker = other
	c := client(t, l, serial)
	l.Maker = maker
	if res, err := c.Post(l.BootstrapAt.URL()+gbd, mediaType, strings.NewReader(asStranger)); err == nil {
		res.Body.Close()
		t.Errorf("an IDevID of another maker was admitted: %s", res.Status)
	}
}

func TestBadRequests(t *testing.T) {
	l := newLab(t)
	c := client(t, l, serial)
	for name, body := range map[string]string{
		"no JSON":                `<input/>`,
		"unqualified":            `{"input":{}}`,
		"unknown leaf":           `{"ietf-sztp-bootstrap-server:input":{"model":"x"}}`,
		"empty leaf is null":     `{"ietf-sztp-bootstrap-server:input":{"signed-data-preferred":null}}`,
		"empty leaf is true":     `{"ietf-sztp-bootstrap-server:input":{"signed-data-preferred":true}}`,
		"too open to a stranger": `{"ietf-sztp-bootstrap-server:input":{"signed-data-preferred":[null],"hw-model":"X100"}}`,
		"short nonce":            `{"ietf-sztp-bootstrap-server:input":{"nonce":"AAAA"}}`,
		"two members":            `{"ietf-sztp-bootstrap-server:input":{},"x":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := post(t, c, l.BootstrapAt.URL()+gbd, body)
			if status != http.StatusBadRequest || !strings.Contains(answer, "malformed-message") {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	for name, body := range map[string]string{
		"unknown type":   `{"ietf-sztp-bootstrap-server:input":{"progress-type":"done"}}`,
		"keys too early": `{"ietf-sztp-bootstrap-server:input":{"progress-type":"config-complete","ssh-host-keys":{"ssh-host-key":[]}}}`,
		"no type":        `{"ietf-sztp-bootstrap-server:input":{"message":"x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if status, answer := post(t, c, l.BootstrapAt.URL()+rp, body); status != http.StatusBadRequest {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	if n := len(l.Bootstrap.Violations()); n != 11 {
		t.Errorf("%d violations noted, want 11", n)
	}
	if n := len(l.Bootstrap.Requests()) + len(l.Bootstrap.Reports()); n != 0 {
		t.Errorf("%d malformed messages were recorded as good ones", n)
	}
}

func TestReports(t *testing.T) {
	l := newLab(t)
	c := client(t, l, serial)
	l.Bootstrap.Misbehave(bootstrap.ReportProgress, bootstrap.Fault{Status: 500, Only: "bootstrap-complete", Times: 1})
	complete := strings.Replace(initiated, "initiated", "complete", 1)
	for i, want := range []int{204, 500, 204} {
		body := complete
		if i == 0 {
			body = initiated
		}
		if status, _ := post(t, c, l.BootstrapAt.URL()+rp, body); status != want {
			t.Errorf("report %d answered with %d, want %d", i, status, want)
		}
	}
	var got []string
	for _, r := range l.Bootstrap.Reports() {
		got = append(got, r.Serial+" "+r.Type+" "+http.StatusText(r.Status))
	}
	want := []string{
		serial + " bootstrap-initiated No Content", serial + " bootstrap-complete Internal Server Error", serial + " bootstrap-complete No Content",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := l.Bootstrap.Handshakes(); n != 1 {
		t.Errorf("%d handshakes for one connection", n)
	}
}

func TestFaults(t *testing.T) {
	l := newLab(t)
	c := client(t, l, serial)
	l.Bootstrap.Misbehave(bootstrap.GetBootstrappingData, bootstrap.Portal)
	if status, answer := post(t, c, l.BootstrapAt.URL()+gbd, asStranger); status != 200 || !strings.Contains(answer, "<html>") {
		t.Errorf("%d %s", status, answer)
	}
	l.Bootstrap.Misbehave(bootstrap.GetBootstrappingData, bootstrap.Drop)
	if res, err := c.Post(l.BootstrapAt.URL()+gbd, mediaType, strings.NewReader(asStranger)); err == nil {
		res.Body.Close()
		t.Error("the connection was not cut")
	}
	l.Bootstrap.Misbehave(bootstrap.GetBootstrappingData, bootstrap.Hang)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, l.BootstrapAt.URL()+gbd, strings.NewReader(asStranger))
	req.Header.Set("Content-Type", mediaType)
	go func() {
		l.Log.Wait(t.Context(), func(e event.Event) bool { return e.Attrs["fault"] == "yes" && strings.Contains(e.Text, "silence") })
		cancel()
	}()
	if res, err := c.Do(req); err == nil {
		res.Body.Close()
		t.Error("the silent server answered")
	}
	l.Bootstrap.Misbehave(bootstrap.GetBootstrappingData)
	ask(t, c, l.BootstrapAt.URL()+gbd, asStranger)
}

func TestFiles(t *testing.T) {
	l := newLab(t)
	c := client(t, l, serial)
	content := bytes.Repeat([]byte("0123456789"), 10000)
	sum := l.Files.Put("os.img", content)
	get := func(header ...string) (*http.Response, []byte, error) {
		req, _ := http.NewRequest(http.MethodGet, l.FilesAt.URL()+"/os.img", nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := c.Do(req)
		if err != nil {
			return nil, nil, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res, body, err
	}
	res, body, err := get()
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	if err != nil || !bytes.Equal(body, content) || res.Header.Get("ETag") != etag {
		t.Fatalf("%v %v, %d bytes", err, res.Header, len(body))
	}
	if res, body, _ := get("Range", "bytes=99990-", "If-Range", etag); res.StatusCode != 206 || string(body) != "0123456789" {
		t.Errorf("range: %s %q", res.Status, body)
	}
	if res, body, _ := get("Range", "bytes=99990-", "If-Range", `"another"`); res.StatusCode != 200 || len(body) != len(content) {
		t.Errorf("range of another version: %s", res.Status)
	}
	l.Files.Misbehave("os.img", files.Fault{CutAt: 70000, Times: 1})
	if _, body, err := get(); err == nil || len(body) != 70000 {
		t.Errorf("cut: %v, %d bytes", err, len(body))
	}
	l.Files.Misbehave("os.img", files.Fault{Flip: true, Times: 1})
	if _, body, err := get(); err != nil || len(body) != len(content) || sha256.Sum256(body) == sum {
		t.Errorf("flip: %v", err)
	}
	l.Files.Misbehave("os.img", files.Fault{Status: 503, Times: 1})
	if res, _, _ := get(); res.StatusCode != 503 {
		t.Errorf("status: %s", res.Status)
	}
	if _, body, err := get(); err != nil || sha256.Sum256(body) != sum {
		t.Errorf("afterwards: %v", err)
	}
}
