package dhcp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/xpu-sztp/ztp/dhcp"
	"pgregory.net/rapid"
)

// list joins entries as RFC 8572 §8.3 does, whatever they hold.
func list(entries ...string) []byte {
	var b []byte
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseServerList(t *testing.T) {
	bs1 := dhcp.Server{Host: "bs1.example.net", Port: 443}
	tests := []struct {
		name     string
		list     []byte
		want     []dhcp.Server
		findings int
	}{
		{"option-143-bytes", unhex(t, "0017 68747470733a2f2f6273312e6578616d706c652e6e6574 0019 68747470733a2f2f3139382e35312e3130302e373a38343433"),
			[]dhcp.Server{bs1, {Host: "198.51.100.7", Port: 8443}}, 0},
		{"option-136-bytes", unhex(t, "0017 68747470733a2f2f6273312e6578616d706c652e6e6574 001a 68747470733a2f2f5b323030313a6462383a3a375d3a38343433"),
			[]dhcp.Server{bs1, {Host: "2001:db8::7", Port: 8443}}, 0},
		{"order-is-kept", list("https://b.example", "https://a.example"), []dhcp.Server{{"b.example", 443}, {"a.example", 443}}, 0},
		{"lone-slash", list("https://bs1.example.net/"), []dhcp.Server{bs1}, 0},
		{"scheme-and-host-ignore-case", list("HTTPS://BS1.Example.net"), []dhcp.Server{bs1}, 0},
		{"lowest-port", list("https://a.example:1"), []dhcp.Server{{"a.example", 1}}, 0},
		{"highest-port", list("https://a.example:65535"), []dhcp.Server{{"a.example", 65535}}, 0},
		{"link-local", list("https://[fe80::1]"), []dhcp.Server{{"fe80::1", 443}}, 0},
		{"mix-of-valid-and-invalid", list("http://x.example", "https://bs1.example.net", ""), []dhcp.Server{bs1}, 2},
		{"repetition", list("https://bs1.example.net", "https://BS1.example.net:443"), []dhcp.Server{bs1}, 1},
		{"dangling-byte", append(list("https://bs1.example.net"), 0), []dhcp.Server{bs1}, 1},
		{"length-past-end-after-a-valid-one", append(list("https://bs1.example.net"), 0, 9, 'h'), []dhcp.Server{bs1}, 1},
		{"length-past-end", []byte{0, 0x17, 'h', 't'}, nil, 1},
		{"empty-uri", []byte{0, 0}, nil, 1},
		{"empty-option", nil, nil, 0},
		{"http", list("http://bs1.example.net"), nil, 1},
		{"path", list("https://bs1.example.net/abc"), nil, 1},
		{"query", list("https://bs1.example.net?a=b"), nil, 1},
		{"fragment", list("https://bs1.example.net#f"), nil, 1},
		{"user", list("https://me@bs1.example.net"), nil, 1},
		{"user-and-password", list("https://me:secret@bs1.example.net:8443"), nil, 1},
		{"no-host", list("https://"), nil, 1},
		{"no-host-but-port", list("https://:8443"), nil, 1},
		{"empty-port", list("https://a.example:"), nil, 1},
		{"port-zero", list("https://a.example:0"), nil, 1},
		{"port-too-big", list("https://a.example:65536"), nil, 1},
		{"port-with-sign", list("https://a.example:+443"), nil, 1},
		{"port-name", list("https://a.example:https"), nil, 1},
		{"bare-ipv6", list("https://2001:db8::7"), nil, 1},
		{"ipv4-in-brackets", list("https://[192.0.2.1]"), nil, 1},
		{"zone", list("https://[fe80::1%25eth0]"), nil, 1},
		{"unclosed-bracket", list("https://[2001:db8::7"), nil, 1},
		{"after-bracket", list("https://[2001:db8::7]x"), nil, 1},
		{"loopback", list("https://127.0.0.1", "https://[::1]", "https://[::ffff:127.0.0.1]"), nil, 3},
		{"unspecified-multicast-broadcast", list("https://0.0.0.0", "https://[ff02::1]", "https://255.255.255.255"), nil, 3},
		{"mistyped-ipv4", list("https://192.0.2.256", "https://192.0.2"), nil, 2},
		{"space-and-control", list("https://a b", "https://a\x00.example", "https://a\n"), nil, 3},
		{"bad-labels", list("https://-a.example", "https://a-.example", "https://a..b", "https://"+strings.Repeat("a", 64)), nil, 4},
		{"long-name", list("https://" + strings.Repeat("a.", 130) + "b"), nil, 1},
		{"raw-text", []byte("https://bs1.example.net"), nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, findings, err := dhcp.ParseServerList(tt.list)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if len(findings) != tt.findings {
				t.Errorf("findings %v, want %d", findings, tt.findings)
			}
			for _, f := range findings {
				if f.Accepted {
					t.Errorf("strict parsing accepted %v", f)
				}
			}
			checkBadOption(t, got, err)
		})
	}
}

func checkBadOption(t *testing.T, got []dhcp.Server, err error) {
	t.Helper()
	var e *dhcp.Error
	if (len(got) == 0) != errors.As(err, &e) {
		t.Fatalf("%d servers and error %v", len(got), err)
	}
	if e != nil && (e.Reason() != dhcp.BadOption || e.Hint() == "") {
		t.Errorf("code %q, hint %q", e.Reason(), e.Hint())
	}
}

func TestParseServerListLeniently(t *testing.T) {
	tests := []struct {
		name string
		list []byte
		want []dhcp.Server
		says string // part of the first finding
	}{
		{"conforming", list("https://a.example"), []dhcp.Server{{"a.example", 443}}, ""},
		{"path", list("https://a.example:8443/restconf/x"), []dhcp.Server{{"a.example", 8443}}, "has a path"},
		{"raw-text", []byte("https://a.example:8443"), []dhcp.Server{{"a.example", 8443}}, "plain text"},
		{"raw-text-with-path-and-nul", []byte("https://a.example/restconf\x00"), []dhcp.Server{{"a.example", 443}}, "plain text"},
		{"raw-text-several", []byte(`"https://a.example", "https://b.example"`), []dhcp.Server{{"a.example", 443}, {"b.example", 443}}, "plain text"},
		{"http-never", []byte("http://a.example"), nil, "plain text"},
		{"user-never", list("https://me@a.example/x"), nil, "user name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, findings, err := dhcp.ParseServerListLeniently(tt.list)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			said := ""
			if len(findings) > 0 {
				said = findings[0].String()
			}
			if (tt.says == "") != (said == "") || !strings.Contains(said, tt.says) {
				t.Errorf("first finding %q, want %q in it", said, tt.says)
			}
			checkBadOption(t, got, err)
		})
	}
}

func TestServerListIsBounded(t *testing.T) {
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("https://h%d.example", i))
	}
	for name, b := range map[string][]byte{"servers": list(many...), "empty-entries": make([]byte, 60000), "text": []byte(strings.Join(many, " "))} {
		got, findings, _ := dhcp.ParseServerListLeniently(b)
		if len(got) > 32 || len(findings) > 17 {
			t.Errorf("%s: %d servers, %d findings", name, len(got), len(findings))
		}
	}
}

func TestEncodeServerList(t *testing.T) {
	got, err := dhcp.EncodeServerList([]string{"https://bs1.example.net", "https://198.51.100.7:8443"})
	want := unhex(t, "0017 68747470733a2f2f6273312e6578616d706c652e6e6574 0019 68747470733a2f2f3139382e35312e3130302e373a38343433")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	for _, bad := range [][]string{nil, {"http://a.example"}, {"https://a.example/path"}, {"a.example"},
		slices.Repeat([]string{"https://a.example"}, 5000)} {
		if b, err := dhcp.EncodeServerList(bad); err == nil {
			t.Errorf("%.40q encoded as %x", bad, b)
		}
	}
}

func TestServerListRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.OneOf(rapid.StringMatching(`[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,10}){0,3}`),
			rapid.StringMatching(`192\.0\.2\.[1-9]`), rapid.StringMatching(`2001:db8::[1-9a-f]{1,4}`))
		server := rapid.Custom(func(t *rapid.T) dhcp.Server {
			return dhcp.Server{Host: host.Draw(t, "host"), Port: rapid.Uint16Range(1, 65535).Draw(t, "port")}
		})
		want := rapid.SliceOfNDistinct(server, 1, 8, rapid.ID[dhcp.Server]).Draw(t, "servers")
		var uris []string
		for _, s := range want {
			uris = append(uris, s.String())
		}
		b, err := dhcp.EncodeServerList(uris)
		if err != nil {
			t.Fatal(err)
		}
		got, findings, err := dhcp.ParseServerList(b)
		if err != nil || len(findings) > 0 || !slices.Equal(got, want) {
			t.Fatalf("%v → %v, %v, %v", want, got, findings, err)
		}
	})
}

// FuzzParseServerList checks that what is read can be written and read again, and that leniency only ever adds servers.
func FuzzParseServerList(f *testing.F) {
	f.Add(list("https://bs1.example.net", "https://198.51.100.7:8443"))
	f.Add(list("https://[2001:db8::7]:8443/x", ""))
	f.Add([]byte("https://a.example/restconf"))
	f.Fuzz(func(t *testing.T, b []byte) {
		strict, _, err := dhcp.ParseServerList(b)
		if (err == nil) != (len(strict) > 0) {
			t.Fatalf("%v with error %v", strict, err)
		}
		lenient, _, _ := dhcp.ParseServerListLeniently(b)
		if len(strict) > 0 && len(lenient) == 0 {
			t.Fatalf("strict %v, lenient none", strict)
		}
		var uris []string
		for _, s := range lenient {
			uris = append(uris, s.String())
		}
		if len(uris) == 0 {
			return
		}
		wire, err := dhcp.EncodeServerList(uris)
		if err != nil {
			t.Fatal(err)
		}
		again, findings, err := dhcp.ParseServerList(wire)
		if err != nil || len(findings) > 0 || !slices.Equal(again, lenient) {
			t.Fatalf("%v → %v, %v, %v", lenient, again, findings, err)
		}
	})
}
