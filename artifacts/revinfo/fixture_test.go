package revinfo_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/artifacts/internal/opensslpki"
)

var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "revinfo"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// world is an authority that issued two certificates, one of which was revoked, and what OpenSSL made of that.
type world struct {
	*opensslpki.Workspace
	ca, good, revoked, delegate *opensslpki.Entity
	renamed, rekeyed            *opensslpki.Entity // the authority with another name, or another key
	lists, responses            [][]byte
	plain, delegated            []byte // responses: the first has no extensions and no certificates
}

var shared = sync.OnceValue(func() world {
	w := opensslpki.New(folder)
	ca := w.Issue(nil, "/CN=CA", opensslpki.Authority...)
	x := world{Workspace: w, ca: ca, good: w.Issue(ca, "/CN=good", opensslpki.Signer...), revoked: w.Issue(ca, "/CN=revoked", opensslpki.Signer...)}
	now := time.Now()
	for _, file := range []string{
		w.CRL(ca, now, now.Add(time.Hour)),
		w.CRL(ca, now, now.AddDate(40, 0, 0), x.revoked),
		w.CRLWith("crlNumber=DER:020107\nissuingDistributionPoint=critical,@idp\n[idp]\nfullname=URI:http://a/", ca, now, now.Add(time.Hour), x.revoked, x.good),
	} {
		x.lists = append(x.lists, opensslpki.Contents(file))
	}
	x.delegate = w.Issue(ca, "/CN=responder", "extendedKeyUsage=OCSPSigning")
	x.renamed = w.Recertify(ca, nil, "/CN=Other CA", opensslpki.Authority...)
	x.rekeyed = w.Issue(nil, "/CN=CA", opensslpki.Authority...)
	for _, o := range []opensslpki.OCSP{
		{Subjects: []*opensslpki.Entity{x.good}, Args: []string{"-resp_no_certs", "-no_nonce"}},
		{Revoked: []*opensslpki.Entity{x.revoked}, Args: []string{"-ndays", "1", "-resp_key_id"}},
		{Strange: []*opensslpki.Entity{x.good}, Args: []string{"-sha256"}},
		{Signer: x.delegate, Subjects: []*opensslpki.Entity{x.good}, Revoked: []*opensslpki.Entity{x.revoked}, Args: []string{"-nmin", "5"}},
	} {
		o.Issuer = ca
		x.responses = append(x.responses, opensslpki.Contents(w.Respond(o)))
	}
	x.plain, x.delegated = x.responses[0], x.responses[len(x.responses)-1]
	return x
})
