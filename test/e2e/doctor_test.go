package e2e

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/doctor"
	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/device"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/pki"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// diagnose runs `ztp doctor` on the device, and returns its report and exit code.
func diagnose(t *testing.T, d *device.Device, args ...string) (report doctor.Report, code int) {
	t.Helper()
	var out string
	err := d.Namespace.Do(func() (err error) {
		out, code, err = d.Ztp(t.Context(), append([]string{"doctor", "--json"}, args...)...)
		return err
	})
	if err == nil {
		err = json.Unmarshal([]byte(out), &report)
	}
	if err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if (report.Result == doctor.Fail) != (code == 1) || code > 1 {
		t.Errorf("ztp doctor ended with %d, its report is %s", code, report.Result)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, r := range report.Checks {
				t.Log(strings.TrimSpace(r.Text()))
			}
		}
	})
	return report, code
}

// verdicts are the lines about some checks, as "VERDICT CHECK [SUBJECT] CODE".
func verdicts(r doctor.Report, checks ...doctor.Check) (list []string) {
	for _, c := range r.Checks {
		if slices.Contains(checks, c.Check) {
			list = append(list, strings.Join(strings.Fields(fmt.Sprint(c.Verdict, " ", c.Check, " ", c.Subject, " ", c.Code)), " "))
		}
	}
	return list
}

// wants compares the lines about the checks that are expected.
func wants(t *testing.T, r doctor.Report, lines ...string) {
	t.Helper()
	var checks []doctor.Check
	for _, l := range lines {
		checks = append(checks, doctor.Check(strings.Fields(l)[1]))
	}
	if diff := cmp.Diff(lines, verdicts(r, checks...)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// network is everything about the network of a device that a doctor could leave changed.
func networkOf(t *testing.T, d *device.Device) (text string) {
	t.Helper()
	err := d.Namespace.Do(func() error {
		for _, args := range []string{"-brief link show eth0", "-4 addr", "-4 route show table all", "-6 route show table all proto dhcp", "-4 rule", "-6 rule"} {
			out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			text += string(out)
		}
		for _, parameter := range []string{"accept_ra", "optimistic_dad", "use_optimistic"} {
			out, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/" + parameter)
			if err != nil {
				return err
			}
			text += parameter + " " + string(out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDoctorOnNetworks has it look at networks that real Kea serves, in each way in which they can be wrong. Each time nothing is
// left of it, and no server was asked for data.
func TestDoctorOnNetworks(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.IPv4, NoDHCP: true})
	network := real(t, l)
	d := newDevice(t, l, device.Options{Config: "[discovery]\nsources = [\"dhcp\"]\n"})
	silent := "https://192.0.2.1:9"
	for _, tt := range []struct {
		name     string
		redirect []byte
		args     []string
		want     []string
	}{
		{"as it should be", option(t, l.RedirectAt.URL()), nil, []string{
			"pass tpm", "pass identity-key", "pass identity-certificate", "pass identity-chain", "pass serial-number", "pass clock",
			"pass voucher-anchors", "pass images", "pass links eth0", "pass dhcp eth0 ipv4", "pass dhcp eth0 ipv6", "pass discovery",
			"pass server " + l.RedirectAt.URL()}},
		{"no option", nil, nil, []string{"warn dhcp eth0 ipv4 no-bootstrap-server-option", "warn dhcp eth0 ipv6 no-dhcp-answer",
			"fail discovery no-bootstrap-server-option"}},
		{"malformed option", []byte("\x00\x20https://half"), nil, []string{"fail dhcp eth0 ipv4 bad-bootstrap-server-option",
			"warn dhcp eth0 ipv6 no-dhcp-answer", "fail discovery bad-bootstrap-server-option"}},
		{"server down", option(t, silent), nil, []string{"pass dhcp eth0 ipv4", "pass dhcp eth0 ipv6", "pass discovery",
			"fail server " + silent + " connect-failed"}},
		{"server named on the command line", nil, []string{"--url", l.BootstrapAt.URL()}, []string{
			"warn dhcp eth0 ipv4 no-bootstrap-server-option", "warn dhcp eth0 ipv6 no-dhcp-answer", "pass discovery",
			"pass server " + l.BootstrapAt.URL()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kea := network.Kea4(t, nettest.DHCP{Subnet: "192.0.2.0/24", Pool: "192.0.2.100-192.0.2.110", Router: "192.0.2.1",
				DNS: "192.0.2.1", Redirect: tt.redirect})
			defer kea.Stop()
			before, asked := networkOf(t, d), len(l.Log.Find(isRequest))
			report, _ := diagnose(t, d, tt.args...)
			wants(t, report, tt.want...)
			kea.Await(t, "DHCP4_RELEASE ")
			if diff := cmp.Diff(before, networkOf(t, d)); diff != "" {
				t.Errorf("left behind: %s", diff)
			}
			if n := len(l.Log.Find(isRequest)); n != asked {
				t.Errorf("%d requests were made", n-asked)
			}
		})
	}
}

func isRequest(e event.Event) bool { return e.Kind == event.Request }

// TestDoctorOnBrokenDevices looks at devices that no network could provision.
func TestDoctorOnBrokenDevices(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.IPv4})
	stranger, err := pki.NewManufacturer("Stranger")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		options device.Options
		spoil   func(t *testing.T, d *device.Device)
		args    []string
		want    []string
	}{
		{"no TPM", device.Options{Config: "[identity]\ntpm = \"/dev/tpmrm0\"\n"}, nil, []string{"--offline"},
			[]string{"fail tpm tpm-unreachable"}},
		{"silent TPM", device.Options{Config: "[identity]\ntpm = \"unix:/dev/silent.sock\"\n"}, func(t *testing.T, d *device.Device) {
			silent, err := net.Listen("unix", d.Path("dev/silent.sock"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { silent.Close() })
		}, []string{"--timeout", "20s"}, []string{"fail tpm tpm-timeout", "pass clock", "pass links eth0", "pass discovery",
			"warn server " + l.RedirectAt.URL() + " not-checked"}},
		{"certificate of another device", device.Options{Config: "[identity]\ncertificate = \"/etc/other.pem\"\n"}, func(t *testing.T, d *device.Device) {
			key, err := pki.NewKey(pki.P256)
			if err != nil {
				t.Fatal(err)
			}
			other, err := l.Maker.IDevID(key.Public(), "LabDPU-1", serial, "https://masa.example")
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Write("etc/other.pem", pki.PEM(other.Path()...)); err != nil {
				t.Fatal(err)
			}
		}, []string{"--offline"}, []string{"pass tpm", "fail identity-certificate identity-mismatch"}},
		{"no trust anchor", device.Options{}, func(t *testing.T, d *device.Device) {
			if err := os.RemoveAll(d.Path("usr/lib/ztp/trust/vouchers")); err != nil {
				t.Fatal(err)
			}
		}, []string{"--offline"}, []string{"fail voucher-anchors no-voucher-anchor"}},
		{"server of another authority", device.Options{}, func(t *testing.T, d *device.Device) {
			if err := d.Write("etc/ztp/trust/bootstrap-servers/owner.pem", pki.PEM(l.OwnerWeb.Certificate)); err != nil {
				t.Fatal(err)
			}
		}, []string{"--url", l.RedirectAt.URL(), "--url", l.BootstrapAt.URL()}, []string{
			"pass discovery", "warn server " + l.RedirectAt.URL() + " tls-server-untrusted", "pass server " + l.BootstrapAt.URL()}},
		{"identity that no server knows", device.Options{FileKey: true, Certify: func(pub crypto.PublicKey, model, serial string) (*pki.Entity, error) {
			return stranger.IDevID(pub, model, serial, "https://masa.example")
		}}, nil, nil, []string{
			"warn tpm no-tpm", "pass identity-key", "pass identity-certificate", "pass discovery",
			"fail server " + l.RedirectAt.URL() + " client-certificate-refused"}},
		{"wrong configuration", device.Options{Config: "[identity]\ntmp = \"none\"\n"}, nil, nil, []string{"fail configuration config-invalid"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDevice(t, l, tt.options)
			if tt.spoil != nil {
				tt.spoil(t, d)
			}
			report, _ := diagnose(t, d, tt.args...)
			wants(t, report, tt.want...)
		})
	}
}

// TestDoctorBesideAgent: it never disturbs an agent, neither one that runs nor one that starts.
func TestDoctorBesideAgent(t *testing.T) {
	l := newLab(t, lab.Options{Family: lab.IPv4, NoDHCP: true})
	network := real(t, l)
	silent, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	url := "https://" + silent.Addr().String()
	d := newDevice(t, l, device.Options{Config: "[discovery]\nsources = [\"dhcp\"]\n"})

	// Nobody leases an address yet: it waits for one, until the agent starts.
	empty := network.Kea4(t, nettest.DHCP{Subnet: "192.0.2.0/24"})
	began := time.Now()
	given := make(chan doctor.Report, 1)
	go func() {
		report, _ := diagnose(t, d, "--timeout", "1m")
		given <- report
	}()
	empty.Await(t, "ALLOC_ENGINE_V4_ALLOC_FAIL")
	if err := d.StartDaemon(); err != nil { // a power-on would take the TPM and the run folder away from under it
		t.Fatal(err)
	}
	report := <-given
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it gave way only after %v", took)
	}
	wants(t, report, "warn discovery not-checked")

	empty.Stop()
	kea := network.Kea4(t, nettest.DHCP{Subnet: "192.0.2.0/24", Pool: "192.0.2.100-192.0.2.110", Router: "192.0.2.1", Redirect: option(t, url)})
	conn, err := silent.Accept() // the agent
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := networkOf(t, d)
	report, _ = diagnose(t, d, "--timeout", "20s")
	wants(t, report, "pass device", "pass tpm", "pass images", "pass links eth0", "pass dhcp eth0 ipv4", "pass dhcp eth0 ipv6",
		"pass discovery")
	if diff := cmp.Diff(before, networkOf(t, d)); diff != "" {
		t.Errorf("it has changed the network of the agent: %s", diff)
	}
	if strings.Contains(kea.String(), "DHCP4_RELEASE ") {
		t.Error("the agent's lease was released")
	}
	if d.PID() == 0 {
		t.Error("the agent is gone")
	}
	d.Stop()
}
