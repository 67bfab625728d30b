package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

func certificate(t *testing.T, name string, change func(*x509.Certificate)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestAnchors(t *testing.T) {
	a, b, c := certificate(t, "a", nil), certificate(t, "b", nil), certificate(t, "c", nil)
	loaded, root := load(t, map[string]string{
		"/usr/lib/ztp/trust/vouchers/2.pem":      "words around it\n" + a + "more words\n" + b,
		"/usr/lib/ztp/trust/vouchers/1.pem":      c,
		"/usr/lib/ztp/trust/vouchers/README":     "not a certificate",
		"/usr/lib/ztp/trust/vouchers/.swp.pem":   "not a certificate",
		"/etc/ztp/trust/vouchers/again.pem":      a,
		"/etc/ztp/trust/bootstrap-servers/b.pem": b,
		config.AdminFile:                         "[discovery]\nwell-known = [\"https://bootstrap.example:8443/\"]\n",
	})
	names := func(anchors []config.Anchor) (list []string) {
		for _, x := range anchors {
			list = append(list, strings.TrimPrefix(x.File, root)+" "+x.Certificate.Subject.CommonName)
		}
		return list
	}
	if diff := cmp.Diff([]string{
		"/usr/lib/ztp/trust/vouchers/1.pem c", "/usr/lib/ztp/trust/vouchers/2.pem a", "/usr/lib/ztp/trust/vouchers/2.pem b",
	}, names(loaded.Anchors.Vouchers)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/etc/ztp/trust/bootstrap-servers/b.pem b"}, names(loaded.Anchors.BootstrapServers)); diff != "" {
		t.Error(diff)
	}
}

func TestBadAnchors(t *testing.T) {
	good := certificate(t, "good", nil)
	body := strings.Split(good, "\n")
	tests := map[string]struct{ content, message string }{
		"leaf": {
			good + certificate(t, "leaf", func(c *x509.Certificate) { c.IsCA = false }),
			": the certificate \"CN=leaf\" is not one of a certification authority",
		},
		"may not sign": {
			certificate(t, "ca", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }),
			"x.pem:1: the certificate \"CN=ca\" is not one of a certification authority",
		},
		"private key":     {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "x.pem:1: has a PEM block \"PRIVATE KEY\""},
		"DER":             {"\x30\x82\x01\x01", "has no PEM certificate"},
		"empty":           {"", "has no PEM certificate"},
		"not DER inside":  {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is not a certificate"},
		"cut off":         {good + strings.Join(body[:3], "\n"), "has a damaged PEM block"},
		"damaged":         {body[0] + "\n!!!\n" + good, "damaged PEM block"},
		"damaged, hidden": {strings.Replace(good, body[1], "*"+body[1], 1) + good, "damaged PEM block"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := write(t, map[string]string{
				"/etc/anchors/x.pem": tt.content, config.AdminFile: "\n\n[trust]\nvouchers = [\"/etc/anchors\"]\n",
			})
			_, err := config.Load(root)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), root+config.AdminFile+":4: trust.vouchers: ") || !strings.Contains(err.Error(), tt.message) {
				t.Error(err)
			}
			if code, hint := reason.Of(err); code != config.Invalid || hint == "" {
				t.Errorf("code %q, hint %q", code, hint)
			}
		})
	}
}

func TestClock(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	files := map[string]string{"/etc/ztp/trust/vouchers/a.pem": certificate(t, "a", nil)} // valid from 2026-11-20
	tests := map[string]struct {
		policy    string
		now       string
		notBefore []time.Time
		want      artifacts.Confidence
	}{
		"auto, 1970":               {"auto", "1970-01-01", nil, artifacts.ClockNone},
		"auto, before the release": {"auto", "2026-10-31", nil, artifacts.ClockNone},
		"auto, before an anchor":   {"auto", "2026-11-19", nil, artifacts.ClockNone},
		"auto, before the IDevID":  {"auto", "2027-01-01", []time.Time{day("2027-01-02")}, artifacts.ClockNone},
		"auto, plausible":          {"auto", "2027-01-01", []time.Time{day("2026-12-31")}, artifacts.ClockRTC},
		"rtc, 1970":                {"rtc", "1970-01-01", nil, artifacts.ClockRTC},
		"none":                     {"none", "2027-01-01", nil, artifacts.ClockNone},
		"authenticated":            {"authenticated", "2027-01-01", nil, artifacts.ClockAuthenticated},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			files[config.AdminFile] = "[trust]\nclock = \"" + tt.policy + "\"\n"
			c, _ := load(t, files)
			got := c.ClockAt(day(tt.now), tt.notBefore...)
			if got != (artifacts.Clock{Now: day(tt.now), Confidence: tt.want}) {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// TestClockFloor stands a second before and on each moment before which a clock must be wrong.
func TestClockFloor(t *testing.T) { // R9-01
	at := func(s string) time.Time {
		moment, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return moment
	}
	anchor := certificate(t, "a", nil)
	for name, tt := range map[string]struct {
		files     map[string]string
		notBefore []time.Time
		floor     string
	}{
		"release":                  {nil, nil, "2026-11-01T00:00:00Z"},
		"release after the IDevID": {nil, []time.Time{at("2026-10-01T00:00:00Z")}, "2026-11-01T00:00:00Z"},
		"IDevID":                   {nil, []time.Time{at("2027-03-04T05:06:07Z")}, "2027-03-04T05:06:07Z"},
		"voucher anchor":           {map[string]string{"/etc/ztp/trust/vouchers/a.pem": anchor}, nil, "2026-11-20T00:00:00Z"},
		"server anchor":            {map[string]string{"/etc/ztp/trust/bootstrap-servers/a.pem": anchor}, nil, "2026-11-20T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{config.AdminFile: "[trust]\nclock = \"auto\"\n"}
			maps.Copy(files, tt.files)
			c, _ := load(t, files)
			for offset, want := range map[time.Duration]artifacts.Confidence{-time.Second: artifacts.ClockNone, 0: artifacts.ClockRTC} {
				if got := c.ClockAt(at(tt.floor).Add(offset), tt.notBefore...); got.Confidence != want {
					t.Errorf("%v after the floor: %s, want %s", offset, got.Confidence, want)
				}
			}
		})
	}
}

func TestFacts(t *testing.T) {
	const dmi = "/sys/class/dmi/id/product_name"
	tests := map[string]struct {
		files map[string]string
		want  config.Device
	}{
		"nothing": {nil, config.Device{}},
		"image": {
			map[string]string{
				dmi: "BlueField-3 DPU \n",
				"/etc/os-release": "# comment\nNAME='The OS'\nID=\"theos\"\nVERSION_ID=12\nIMAGE_VERSION=\"2026\\\"1\"\n" +
					"BUILD_ID=b\n",
			},
			config.Device{HWModel: "BlueField-3 DPU", OSName: "theos", OSVersion: "2026\"1"},
		},
		"fallbacks": {
			map[string]string{
				"/sys/firmware/devicetree/base/model": "Octeon\x00", "/usr/lib/os-release": "ID=x\nBUILD_ID='rolling'\n",
			},
			config.Device{HWModel: "Octeon", OSName: "x", OSVersion: "rolling"},
		},
		"configuration wins": {
			map[string]string{
				dmi: "x", "/etc/os-release": "ID=x\nVERSION_ID=1\n",
				config.AdminFile: "[device]\nhw-model = \"m\"\nos-name = \"n\"\nos-version = \"v\"\n",
			},
			config.Device{HWModel: "m", OSName: "n", OSVersion: "v"},
		},
		"not printable": {map[string]string{dmi: "\x01\xff\n"}, config.Device{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := load(t, tt.files)
			if diff := cmp.Diff(tt.want, c.Facts()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnchorsOfImages(t *testing.T) {
	const verify = "[image]\nverify-servers = true\n"
	loaded, _ := load(t, map[string]string{"/etc/ztp/trust/images/a.pem": certificate(t, "a", nil), config.AdminFile: verify})
	if n := len(loaded.Anchors.Images); n != 1 || !loaded.Image.VerifyServers {
		t.Errorf("%d anchors, %+v", n, loaded.Image)
	}
	root := write(t, map[string]string{config.AdminFile: verify})
	_, err := config.Load(root)
	if err == nil || !strings.HasPrefix(err.Error(), root+config.AdminFile+":2: image.verify-servers: ") {
		t.Errorf("nothing to verify servers with: %v", err)
	}
}
