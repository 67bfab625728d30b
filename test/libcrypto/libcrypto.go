// Package libcrypto verifies CMS messages with OpenSSL's library in the process that asks, for tests and benchmarks that
// do so too often to start the openssl command each time.
package libcrypto

/*
#cgo LDFLAGS: -lcrypto
#include <stdlib.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

// A verifier holds the trust anchors and the certificates that may help.
typedef struct {
	X509_STORE *store;
	STACK_OF(X509) *certs;
	unsigned int flags;
} verifier;

static void verifier_free(verifier *v) {
	if (v == NULL)
		return;
	X509_STORE_free(v->store);
	sk_X509_pop_free(v->certs, X509_free);
	free(v);
}

static verifier *verifier_new(long at, int paths) {
	verifier *v = calloc(1, sizeof *v);
	if (v == NULL)
		return NULL;
	v->store = X509_STORE_new();
	v->certs = sk_X509_new_null();
	if (v->store == NULL || v->certs == NULL) {
		verifier_free(v);
		return NULL;
	}
	X509_VERIFY_PARAM *param = X509_STORE_get0_param(v->store);
	X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY);
	X509_VERIFY_PARAM_set_time(param, at);
	v->flags = CMS_BINARY | (paths ? 0 : CMS_NO_SIGNER_CERT_VERIFY);
	return v;
}

// verifier_add takes a certificate, as an anchor or as one that may help.
static int verifier_add(verifier *v, const unsigned char *der, long size, int anchor) {
	X509 *c = d2i_X509(NULL, &der, size);
	int ok = c != NULL && (anchor ? X509_STORE_add_cert(v->store, c) : sk_X509_push(v->certs, X509_up_ref(c) ? c : NULL));
	X509_free(c);
	return ok;
}

// verify_message verifies what d2i reads at der. The result is the content, or NULL.
static BIO *verify_message(verifier *v, STACK_OF(X509) *certs, const unsigned char *der, long size) {
	CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &der, size);
	BIO *out = BIO_new(BIO_s_mem());
	// CMS_verify finds signers among certs, but looks for their issuers in the message only.
	if (cms != NULL && !(v->flags & CMS_NO_SIGNER_CERT_VERIFY))
		for (int i = 0; i < sk_X509_num(certs); i++)
			CMS_add1_cert(cms, sk_X509_value(certs, i)); // fails for those that are there
	int ok = cms != NULL && out != NULL && CMS_verify(cms, certs, v->store, NULL, out, v->flags);
	CMS_ContentInfo_free(cms);
	if (ok)
		return out;
	BIO_free(out);
	return NULL;
}

// verify is verify_message with the certificates of another message, or else with those of v. When it fails, it writes why.
static BIO *verify(verifier *v, const unsigned char *der, long size, const unsigned char *other, long other_size, char *why, size_t why_size) {
	BIO *out = NULL;
	ERR_clear_error();
	if (other_size == 0) {
		out = verify_message(v, v->certs, der, size);
	} else {
		CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &other, other_size);
		STACK_OF(X509) *certs = cms == NULL ? NULL : CMS_get1_certs(cms);
		if (certs != NULL)
			out = verify_message(v, certs, der, size);
		sk_X509_pop_free(certs, X509_free);
		CMS_ContentInfo_free(cms);
	}
	if (out == NULL)
		ERR_error_string_n(ERR_peek_last_error(), why, why_size);
	ERR_clear_error();
	return out;
}

static long content(BIO *b, char **data) { return BIO_get_mem_data(b, data); }
*/
import "C"

import (
	"crypto/x509"
	"errors"
	"time"
	"unsafe"
)

// Verifier is what signers are held against.
type Verifier struct{ c *C.verifier }

// Options for a Verifier. Without Anchors, signatures are verified, but not the paths of the certificates that made them.
type Options struct {
	Anchors      []*x509.Certificate // roots
	Certificates []*x509.Certificate // of signers and their issuers, beside those in a message; not believed
	Time         time.Time           // at which paths are to hold
}

// New returns a verifier; Close frees its memory.
func New(o Options) (*Verifier, error) {
	paths := C.int(0)
	if len(o.Anchors) > 0 {
		paths = 1
	}
	v := &Verifier{C.verifier_new(C.long(o.Time.Unix()), paths)}
	if v.c == nil {
		return nil, errors.New("libcrypto is out of memory")
	}
	for anchor, list := range [][]*x509.Certificate{o.Certificates, o.Anchors} {
		for _, c := range list {
			if C.verifier_add(v.c, pointer(c.Raw), C.long(len(c.Raw)), C.int(anchor)) == 0 {
				v.Close()
				return nil, errors.New("libcrypto cannot read a certificate")
			}
		}
	}
	return v, nil
}

// Close frees v.
func (v *Verifier) Close() { C.verifier_free(v.c) }

// Verify does what `openssl cms -verify -binary -purpose any` does with a DER SignedData, and returns its content. All of its
// signers must be good. Paths may go through all certificates, which the command allows those in the message only. When other, also a SignedData, is not nil, its certificates stand in for those of the options.
func (v *Verifier) Verify(der, other []byte) ([]byte, error) {
	var why [256]C.char
	out := C.verify(v.c, pointer(der), C.long(len(der)), pointer(other), C.long(len(other)), &why[0], C.size_t(len(why)))
	if out == nil {
		return nil, errors.New(C.GoString(&why[0]))
	}
	defer C.BIO_free(out)
	var data *C.char
	size := C.content(out, &data)
	return C.GoBytes(unsafe.Pointer(data), C.int(size)), nil
}

func pointer(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }
