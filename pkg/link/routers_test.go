package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"
)

// advertisement is a router advertisement with the M and O flags and options.
func advertisement(flags byte, options ...[]byte) []byte {
	return append([]byte{134, 0, 0, 0, 64, flags, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, slices.Concat(options...)...)
}

// TestRouterFlags has routers that disagree about DHCPv6, and one that thinks better of it.
func TestRouterFlags(t *testing.T) {
	const managed, other = 0x80, 0x40
	honest, liar := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::bad")
	now := time.Now()
	steps := []struct {
		router   netip.Addr
		flags    byte
		after    time.Duration
		m, o     bool
		whatever string
	}{
		{liar, 0, 0, false, false, "nobody says more"},
		{honest, managed | other, 0, true, true, "the first does not speak for the second"},
		{liar, 0, time.Second, true, true, "nor afterwards"},
		{liar, other, 0, true, true, ""},
		{honest, 0, 0, false, true, "it thinks better of it"},
		{liar, 0, 0, false, false, "and so does the other"},
		{honest, managed, 0, true, false, ""},
		{liar, 0, maxLifetime, false, false, "the one that said so is not heard any more"},
	}
	var a advertised
	if got := a.of(1, Router{Heard: true, Managed: true}, now); !got.Managed || got.Recent {
		t.Errorf("before anything is heard the kernel knows: %+v", got)
	}
	for i, s := range steps {
		now = now.Add(s.after)
		if !a.message(1, s.router, advertisement(s.flags), now) {
			t.Fatal("not an advertisement")
		}
		got := a.of(1, Router{Managed: true, Other: true}, now)
		if !got.Heard || !got.Recent || got.Managed != s.m || got.Other != s.o {
			t.Errorf("step %d (%s): %+v", i, s.whatever, got)
		}
	}
	a.forget(func(int) bool { return false })
	if got := a.of(1, Router{}, now); got.Heard {
		t.Errorf("with another network: %+v", got)
	}
}

// TestManyRouters has more routers than are remembered say that there is DHCPv6.
func TestManyRouters(t *testing.T) {
	var a advertised
	now := time.Now()
	for i := range 1000 {
		a.message(1, netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)}), advertisement(0x80), now)
	}
	if got := len(a.interfaces[1].flags); got != maxAdvertised {
		t.Errorf("remembers %d routers", got)
	}
	if !a.of(1, Router{}, now).Managed {
		t.Error("forgot all of them")
	}
}

// TestNoAdvertisement has messages that are none.
func TestNoAdvertisement(t *testing.T) {
	router, now := netip.MustParseAddr("fe80::1"), time.Now()
	good := advertisement(0, []byte{1, 1, 2, 0, 0, 0, 0, 1})
	code, kind := bytes.Clone(good), bytes.Clone(good)
	code[1], kind[0] = 1, 135
	for name, m := range map[string][]byte{
		"code": code, "kind": kind, "short": good[:15], "empty": nil, "half an option": good[:20], "option of no length": advertisement(0, []byte{1, 0, 0, 0, 0, 0, 0, 0}),
		"option beyond the end": advertisement(0, []byte{1, 2, 0, 0, 0, 0, 0, 0}), "second option": advertisement(0, good[16:], []byte{1, 0, 0, 0, 0, 0, 0, 0}),
	} {
		var a advertised
		if a.message(1, router, m, now) || a.of(1, Router{}, now).Heard {
			t.Errorf("%s is taken for an advertisement", name)
		}
	}
	var a advertised
	if !a.message(1, router, good, now) || !a.message(2, router, good[:16], now) || a.of(3, Router{}, now).Heard {
		t.Error("what is right is not taken")
	}
	a.forget(func(index int) bool { return index == 2 })
	if a.of(1, Router{}, now).Heard || !a.of(2, Router{}, now).Heard {
		t.Error("forgets of the wrong interface")
	}
}

// TestLifetimes: what was said ends when it ends, is prolonged when it is said again, and does not come back.
func TestLifetimes(t *testing.T) {
	router, now := netip.MustParseAddr("fe80::1"), time.Now()
	rdnss := func(seconds byte, server string) []byte {
		return append([]byte{optionRDNSS, 3, 0, 0, 0, 0, 0, seconds}, netip.MustParseAddr(server).AsSlice()...)
	}
	dnssl := func(seconds byte) []byte {
		return append([]byte{optionDNSSL, 3, 0, 0, 0, 0, 0, seconds}, "\x03lab\x04test\x00\x00\x00\x00\x00\x00\x00"...)
	}
	var a advertised
	want := func(after time.Duration, text string) {
		t.Helper()
		r := a.of(1, Router{}, now.Add(after))
		if got := fmt.Sprint(r.DNS, r.Domains); got != text {
			t.Errorf("after %v: %s, want %s", after, got, text)
		}
	}
	a.message(1, router, advertisement(0, rdnss(100, "2001:db8::1"), rdnss(200, "2001:db8::2"), dnssl(100)), now)
	want(0, "[2001:db8::2 2001:db8::1] [lab.test]")
	want(100*time.Second-1, "[2001:db8::2 2001:db8::1] [lab.test]")
	want(100*time.Second, "[2001:db8::2] []")
	a.message(1, router, advertisement(0, rdnss(100, "2001:db8::1"), dnssl(100)), now.Add(50*time.Second))
	want(149*time.Second, "[2001:db8::2 2001:db8::1] [lab.test]")
	want(150*time.Second, "[2001:db8::2] []")
	a.message(1, router, advertisement(0, rdnss(0, "2001:db8::2")), now.Add(60*time.Second))
	want(60*time.Second, "[2001:db8::1] [lab.test]")
	a.message(1, router, advertisement(0, rdnss(0, "2001:db8::9")), now.Add(60*time.Second))
	want(60*time.Second, "[2001:db8::1] [lab.test]")
}

// FuzzRouterAdvertisement checks that what is remembered of one advertisement is bounded and usable, that another, which takes it
// back, leaves nothing, and that half an advertisement counts for nothing.
func FuzzRouterAdvertisement(f *testing.F) {
	address := netip.MustParseAddr("2001:db8::53").AsSlice()
	lifetime := []byte{0, 0, 2, 88}
	f.Add(advertisement(0xc0, append(append([]byte{optionRDNSS, 3, 0, 0}, lifetime...), address...)))
	f.Add(advertisement(0, append(append([]byte{optionDNSSL, 3, 0, 0}, lifetime...), "\x03lab\x04test\x00\x00\x00\x00\x00\x00\x00"...)))
	f.Add(advertisement(0, []byte{1, 0}))
	f.Add(advertisement(0, []byte{optionRDNSS, 255}))
	router, now := netip.MustParseAddr("fe80::1"), time.Now()
	f.Fuzz(func(t *testing.T, m []byte) {
		var a advertised
		if !a.message(1, router, m, now) {
			if a.interfaces != nil {
				t.Fatal("took something from what is no advertisement")
			}
			return
		}
		got := a.of(1, Router{}, now)
		if len(got.DNS) > maxAdvertised || len(got.Domains) > maxAdvertised || !got.Heard || got.Managed != (m[5]&0x80 != 0) {
			t.Fatalf("%+v", got)
		}
		for _, d := range got.Domains {
			if len(d) > 253 || d == "" || bytes.ContainsAny([]byte(d), " \x00\n") {
				t.Fatalf("domain %q", d)
			}
		}
		for _, d := range got.DNS {
			if d.IsLoopback() || d.IsMulticast() || d.IsUnspecified() {
				t.Fatalf("name server %v", d)
			}
		}
		if later := a.of(1, Router{}, now.Add(maxLifetime)); later.Managed || len(later.DNS)+len(later.Domains) > 0 {
			t.Fatalf("for ever: %+v", later)
		}
		withdrawn := bytes.Clone(m)
		withdrawn[5] = 0
		for o := withdrawn[16:]; len(o) > 0; o = o[int(o[1])*8:] {
			if o[0] == optionRDNSS || o[0] == optionDNSSL {
				binary.BigEndian.PutUint32(o[4:], 0)
			}
		}
		a.message(1, router, withdrawn, now)
		if left := fmt.Sprint(a.interfaces[1].flags); left != "[]" {
			t.Fatalf("left of the flags: %s", left)
		}
	})
}

// The filter is what its instructions are called elsewhere.
func TestRouterAdvertisementFilter(t *testing.T) {
	want, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: routerAdvertisement, SkipTrue: 3},
		bpf.LoadAbsolute{Off: netOffset + 7, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 255, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []bpf.RawInstruction
	for _, f := range toAdvertisements {
		got = append(got, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
