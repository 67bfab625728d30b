package dhcpd_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
	"github.com/xpu-sztp/ztp/test/nettest"
)

func list(t *testing.T, uris ...string) []byte {
	t.Helper()
	l, err := dhcpd.List(uris...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOptionBytes(t *testing.T) { // R8-01, R8-02, R8-03
	got4 := hex.EncodeToString(dhcpd.Wire4(list(t, "https://bs1.example.net", "https://198.51.100.7:8443")))
	if want := "8f34001768747470733a2f2f6273312e6578616d706c652e6e6574001968747470733a2f2f3139382e35312e3130302e373a38343433"; got4 != want {
		t.Errorf("DHCPv4\ngot  %s\nwant %s", got4, want)
	}
	got6 := hex.EncodeToString(dhcpd.Wire6(list(t, "https://bs1.example.net", "https://[2001:db8::7]:8443")))
	if want := "00880035001768747470733a2f2f6273312e6578616d706c652e6e6574001a68747470733a2f2f5b323030313a6462383a3a375d3a38343433"; got6 != want {
		t.Errorf("DHCPv6\ngot  %s\nwant %s", got6, want)
	}
}

func TestLongOptionIsSplit(t *testing.T) { // RFC 3396
	var uris []string
	for i := 1; i <= 5; i++ {
		uris = append(uris, fmt.Sprintf("https://sztp-%02d.region-eu-central.bootstrap.example.net:8443", i))
	}
	l := list(t, uris...)
	wire := dhcpd.Wire4(l)
	if want := "8fff003c68747470733a2f2f737a74702d30"; !strings.HasPrefix(hex.EncodeToString(wire), want) {
		t.Errorf("starts with %x", wire[:20])
	}
	if want := "003c68747470738f373a2f2f737a74702d3035"; !strings.Contains(hex.EncodeToString(wire), want) {
		t.Errorf("not split after 255 bytes: %x", wire)
	}
	options := make(dhcpv4.Options)
	if err := options.FromBytes(wire); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, options.Get(dhcpv4.GenericOptionCode(143))); diff != "" {
		t.Error(diff)
	}
}

func TestURIsThatDevicesIgnore(t *testing.T) { // R8-04
	for _, uri := range []string{
		"http://bs1.example.net", "https://", "https://bs1.example.net/", "https://bs1.example.net/restconf", "https://u:p@bs1.example.net",
		"https://bs1.example.net?x", "https://bs1.example.net#x", "https://bs1.example.net:0", "https://bs1.example.net:65536", "bs1", "",
		"https://[2001:db8::x]",
	} {
		if l, err := dhcpd.List(uri); err == nil {
			t.Errorf("%q was encoded as %x", uri, l)
		}
	}
	if _, err := dhcpd.List(); err == nil {
		t.Error("an empty list was encoded")
	}
}

func TestSnippets(t *testing.T) {
	snippets, err := dhcpd.Snippets("https://bs1.example.net", "https://[2001:db8::7]:8443")
	if err != nil {
		t.Fatal(err)
	}
	colons := "00:17:68:74:74:70:73:3a:2f:2f:62:73:31:2e:65:78:61:6d:70:6c:65:2e:6e:65:74:00:1a:68:74"
	for server, want := range map[string]string{
		"kea-dhcp4":   `"csv-format": false, "data": "001768747470733a2f2f`,
		"kea-dhcp6":   `"type": "tuple", "array": true`,
		"dnsmasq":     "dhcp-option=option6:136," + colons,
		"isc-dhcpd":   "option sztp-redirect " + colons,
		"isc-dhcpd-6": "option dhcp6.sztp-redirect " + colons,
		"hex-dhcp4":   "8f35001768",
		"hex-dhcp6":   "00880035001768",
	} {
		found := false
		for _, s := range snippets {
			found = found || s.Server == server && strings.Contains(s.Text, want)
		}
		if !found {
			t.Errorf("%s: no %q", server, want)
		}
	}
}

func TestRealServersAcceptSnippets(t *testing.T) {
	var five []string
	for i := range 5 {
		five = append(five, fmt.Sprintf("https://sztp-%02d.region-eu-central.bootstrap.example.net:8443", i))
	}
	for name, uris := range map[string][]string{"short": {"https://bs1.example.net", "https://[2001:db8::7]:8443"}, "long": five} {
		snippets, err := dhcpd.Snippets(uris...)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range snippets {
			var program, config string
			var args []string
			switch s.Server {
			case "kea-dhcp4", "kea-dhcp6":
				family := strings.TrimPrefix(s.Server, "kea-dhcp")
				program, args = s.Server, []string{"-t"}
				config = `{"Dhcp` + family + `": {"lease-database": {"type": "memfile", "persist": false}, ` + s.Text + "}}"
			case "dnsmasq":
				program, args, config = s.Server, []string{"--test", "-C"}, s.Text+"\n"
			default:
				continue
			}
			t.Run(name+"/"+s.Server, func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, "config")
				if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(nettest.Unconfined(t, program), append(args, file)...)
				cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR="+dir)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s\n%s", err, out, config)
				}
			})
		}
	}
}
