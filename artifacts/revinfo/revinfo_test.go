package revinfo_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/xpu-sztp/ztp/artifacts/revinfo"
	"github.com/xpu-sztp/ztp/test/hostile"
)

func TestParseList(t *testing.T) {
	w := shared()
	for i, revoked := range []int{0, 1, 2} {
		list, err := revinfo.ParseList(w.lists[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := list.SignedBy(w.ca.Certificate); err != nil || list.Entries != revoked {
			t.Errorf("list %d has %d entries, want %d: %v", i, list.Entries, revoked, err)
		}
		_, listed := list.Revoked(w.revoked.Certificate.SerialNumber)
		if listed != (i > 0) {
			t.Errorf("list %d: listed %v", i, listed)
		}
		if err := list.SignedBy(w.good.Certificate); !errors.Is(err, revinfo.ErrNotAuthorized) {
			t.Errorf("signed by another: %v", err)
		}
	}
	list, err := revinfo.ParseList(make([]byte, revinfo.MaxListBytes+1))
	if !errors.Is(err, revinfo.ErrLimit) {
		t.Errorf("%v, %v", list, err)
	}
}

// FuzzParseList: what crypto/x509 reads too, it reads alike; and only what the authority signed verifies.
func FuzzParseList(f *testing.F) {
	w := shared()
	for _, der := range w.lists {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		list, err := revinfo.ParseList(der)
		if err != nil {
			if !errors.Is(err, revinfo.ErrMalformed) && !errors.Is(err, revinfo.ErrLimit) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if list.SignedBy(w.ca.Certificate) == nil && !slices.ContainsFunc(w.lists, func(known []byte) bool { return sameSigned(known, der) }) {
			t.Error("a list that nobody signed verifies")
		}
		other, err := x509.ParseRevocationList(der)
		if err != nil {
			return
		}
		if !bytes.Equal(list.Issuer, other.RawIssuer) || !list.ThisUpdate.Equal(other.ThisUpdate) ||
			!list.NextUpdate.Equal(other.NextUpdate) || list.Entries != len(other.RevokedCertificateEntries) {
			t.Errorf("read %+v, crypto/x509 reads %+v", list, other)
		}
		for _, e := range other.RevokedCertificateEntries {
			if _, listed := list.Revoked(e.SerialNumber); !listed {
				t.Errorf("%x is not listed", e.SerialNumber)
			}
		}
	})
}

// sameSigned reports whether two lists differ in what no signature covers, at most.
func sameSigned(a, b []byte) bool {
	first, errA := x509.ParseRevocationList(a)
	second, errB := x509.ParseRevocationList(b)
	return errA == nil && errB == nil && bytes.Equal(first.RawTBSRevocationList, second.RawTBSRevocationList)
}

func TestParseResponse(t *testing.T) {
	w := shared()
	want := [][]revinfo.Status{{revinfo.Good}, {revinfo.Revoked}, {revinfo.Unknown}, {revinfo.Good, revinfo.Revoked}}
	for i, der := range w.responses {
		r, err := revinfo.ParseResponse(der)
		if err != nil {
			t.Fatal(err)
		}
		var got []revinfo.Status
		for _, a := range r.Answers {
			got = append(got, a.Status)
			if about := a.About(w.good.Certificate, w.ca.Certificate); about != (a.Status != revinfo.Revoked) {
				t.Errorf("response %d, %s: about the good one %v", i, a.Status, about)
			}
			if a.About(w.good.Certificate, w.good.Certificate) {
				t.Errorf("response %d is about certificates of any issuer", i)
			}
		}
		if !slices.Equal(got, want[i]) {
			t.Errorf("response %d says %v, want %v", i, got, want[i])
		}
		signer, err := r.Responder(w.ca.Certificate)
		if err != nil || signer.Equal(w.ca.Certificate) != (i < 3) {
			t.Errorf("response %d was signed by %v, %v", i, signer, err)
		}
		if _, err := r.Responder(w.good.Certificate); !errors.Is(err, revinfo.ErrNotAuthorized) {
			t.Errorf("response %d, by another issuer: %v", i, err)
		}
	}
}

// FuzzParseResponse: what x/crypto reads too, it reads alike; and only what the authority signed verifies.
func FuzzParseResponse(f *testing.F) {
	w := shared()
	for _, der := range w.responses {
		f.Add(der)
	}
	f.Add([]byte{0x30, 3, 0x0a, 1, 3})
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := revinfo.ParseResponse(der)
		if err != nil {
			if !errors.Is(err, revinfo.ErrMalformed) && !errors.Is(err, revinfo.ErrLimit) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if r.Failure != "" {
			return
		}
		if _, err := r.Responder(w.ca.Certificate); err == nil && !slices.ContainsFunc(w.responses, func(known []byte) bool { return sameAnswers(known, r) }) {
			t.Error("a response that nobody signed verifies")
		}
		other, err := ocsp.ParseResponse(der, nil)
		if err != nil || len(r.Answers) != 1 {
			return
		}
		a := r.Answers[0]
		status := map[int]revinfo.Status{ocsp.Good: revinfo.Good, ocsp.Revoked: revinfo.Revoked, ocsp.Unknown: revinfo.Unknown}[other.Status]
		if a.Status != status || !a.ThisUpdate.Equal(other.ThisUpdate) || !a.NextUpdate.Equal(other.NextUpdate) ||
			!bytes.Equal(a.Serial, other.SerialNumber.Bytes()) || !r.ProducedAt.Equal(other.ProducedAt) {
			t.Errorf("read %+v, x/crypto reads %+v", a, other)
		}
	})
}

func sameAnswers(known []byte, r *revinfo.Response) bool {
	other, err := revinfo.ParseResponse(known)
	return err == nil && r.ProducedAt.Equal(other.ProducedAt) && slices.EqualFunc(r.Answers, other.Answers, func(a, b revinfo.Answer) bool {
		return a.Status == b.Status && bytes.Equal(a.Serial, b.Serial) && a.ThisUpdate.Equal(b.ThisUpdate) && a.NextUpdate.Equal(b.NextUpdate)
	})
}

// hostileLists wraps what entries or extensions can be of a megabyte into a list that is otherwise right.
func hostileLists() map[string][]byte {
	const date = "\x17\x0d700101000000Z"
	const entry = "\x30\x12\x02\x01\x01" + date
	const reasoned = "\x30\x20\x02\x01\x01" + date + "\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01"
	lists := map[string][]byte{}
	for name, unit := range map[string]string{"entries": entry, "reasons": reasoned, "empty-entries": "\x30\x00", "zeros": "\x00"} {
		lists[name] = listOf(hostile.Fill("", unit, "", ""))
	}
	return lists
}

// listOf puts entries into a list.
func listOf(entries []byte) []byte {
	const algorithm = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
	body := slices.Concat([]byte("\x02\x01\x01"+algorithm+"\x30\x00\x17\x0d700101000000Z"), sequence(entries))
	return sequence(slices.Concat(sequence(body), []byte(algorithm+"\x03\x01\x00")))
}

func sequence(body []byte) []byte {
	n := len(body)
	return slices.Concat([]byte{0x30, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, body)
}

func TestHostileLists(t *testing.T) {
	lists := hostileLists()
	if l, err := revinfo.ParseList(lists["reasons"]); err != nil || l.Entries < 10000 {
		t.Fatalf("not what this is about: %v", err)
	}
	hostile.Check(t, lists, parseAndSearch)
}

func parseAndSearch(der []byte) {
	if l, err := revinfo.ParseList(der); err == nil {
		l.Revoked(shared().good.Certificate.SerialNumber)
	}
}

func BenchmarkHostileLists(b *testing.B) { hostile.Benchmark(b, hostileLists(), parseAndSearch) }
