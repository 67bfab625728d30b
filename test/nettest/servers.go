package nettest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Log collects what a server prints.
type Log struct {
	mu    sync.Mutex
	lines bytes.Buffer
	more  chan struct{}
	cmd   *exec.Cmd
}

// Stop kills the server.
func (l *Log) Stop() {
	l.cmd.Process.Kill()
	l.cmd.Wait()
}

// String returns everything so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// Await blocks until the server has printed text, or fails the test.
func (l *Log) Await(t testing.TB, text string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		found, more := strings.Contains(l.lines.String(), text), l.more
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-limit:
			t.Fatalf("nettest: no %q in what the server printed:\n%s", text, l)
		}
	}
}

func (l *Log) follow(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		l.mu.Lock()
		l.lines.Write(s.Bytes())
		l.lines.WriteByte('\n')
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
	}
}

// Serve starts a server among the servers of the network and waits until it prints ready.
func (n *Network) Serve(t testing.TB, ready string, cmd *exec.Cmd) *Log {
	t.Helper()
	return n.Servers.serve(t, ready, cmd)
}

func (n *Namespace) serve(t testing.TB, ready string, cmd *exec.Cmd) *Log {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log := &Log{more: make(chan struct{}), cmd: cmd}
	cmd.Stdout, cmd.Stderr = w, w
	n.Start(t, cmd)
	w.Close()
	go func() {
		defer r.Close()
		log.follow(r)
	}()
	log.Await(t, ready)
	return log
}

// DHCP configures a DHCP server of either family.
type DHCP struct {
	Subnet   string // "192.0.2.0/24"
	Pool     string // "192.0.2.50-192.0.2.60"; empty means no addresses
	Router   string // DHCPv4
	DNS      string
	Domain   string
	Redirect []byte // option 143 or 136 as it is on the wire; empty means none
	Lifetime int    // seconds; 0 is 3600
	// More is further settings of the subnet, in Kea's words.
	More map[string]any
	// Forced are more DHCPv4 options, by code, that are sent whether they are asked for or not.
	Forced map[int]string
}

// Kea4 starts a real Kea DHCPv4 server.
func (n *Network) Kea4(t testing.TB, c DHCP) *Log {
	t.Helper()
	options := []map[string]any{}
	for name, data := range map[string]string{"routers": c.Router, "domain-name-servers": c.DNS, "domain-name": c.Domain} {
		if data != "" {
			options = append(options, map[string]any{"name": name, "data": data})
		}
	}
	if len(c.Redirect) > 0 {
		options = append(options, map[string]any{"code": 143, "space": "dhcp4", "csv-format": false, "data": hex.EncodeToString(c.Redirect)})
	}
	for code, text := range c.Forced {
		options = append(options, map[string]any{"code": code, "space": "dhcp4", "csv-format": false, "always-send": true, "data": hex.EncodeToString([]byte(text))})
	}
	sockets := "raw"
	if c.More["relay"] != nil { // it is reached by routers, then, and needs no raw sockets
		sockets = "udp"
	}
	return n.kea(t, "kea-dhcp4", "DHCP4_STARTED", map[string]any{"Dhcp4": n.keaConfig(c, "subnet4", options, map[string]any{
		"interfaces-config": n.keaInterfaces(map[string]any{"dhcp-socket-type": sockets}),
		"option-def":        []any{map[string]any{"name": "sztp-redirect", "code": 143, "space": "dhcp4", "type": "binary"}},
	})})
}

// Kea6 starts a real Kea DHCPv6 server.
func (n *Network) Kea6(t testing.TB, c DHCP) *Log {
	t.Helper()
	options := []map[string]any{}
	for name, data := range map[string]string{"dns-servers": c.DNS, "domain-search": c.Domain} {
		if data != "" {
			options = append(options, map[string]any{"name": name, "data": data})
		}
	}
	if len(c.Redirect) > 0 {
		options = append(options, map[string]any{"code": 136, "space": "dhcp6", "csv-format": false, "data": hex.EncodeToString(c.Redirect)})
	}
	return n.kea(t, "kea-dhcp6", "DHCP6_STARTED", map[string]any{"Dhcp6": n.keaConfig(c, "subnet6", options, map[string]any{
		"interfaces-config": n.keaInterfaces(map[string]any{}),
		"server-id":         map[string]any{"type": "LL", "persist": false},
		"option-def":        []any{map[string]any{"name": "sztp-redirect", "code": 136, "space": "dhcp6", "type": "binary"}},
	})})
}

// keaInterfaces has Kea wait for its interface, which has no carrier before the device's is up.
func (n *Network) keaInterfaces(config map[string]any) map[string]any {
	maps.Copy(config, map[string]any{"interfaces": []string{n.Server}, "service-sockets-max-retries": 600, "service-sockets-retry-wait-time": 100})
	return config
}

func (n *Network) keaConfig(c DHCP, subnets string, options []map[string]any, config map[string]any) map[string]any {
	subnet := map[string]any{"subnet": c.Subnet, "id": 1, "interface": n.Server, "option-data": options}
	if c.Pool != "" {
		subnet["pools"] = []any{map[string]any{"pool": c.Pool}}
	}
	maps.Copy(subnet, c.More)
	if c.Lifetime == 0 {
		c.Lifetime = 3600
	}
	config["valid-lifetime"] = c.Lifetime
	config["lease-database"] = map[string]any{"type": "memfile", "persist": false}
	config[subnets] = []any{subnet}
	config["loggers"] = []any{map[string]any{"name": "*", "severity": "INFO",
		"output_options": []any{map[string]any{"output": "stdout", "flush": true}}}}
	return config
}

// Unconfined returns the path of a copy of an installed program. AppArmor recognises programs by their path, and the
// profiles that Debian and Ubuntu bring for Kea let it read and write the system's folders only, not those of a test.
func Unconfined(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), program)
	// Another process writes it: what this one has open for writing, a program that another test starts meanwhile may have too,
	// and then it cannot be run.
	if out, err := exec.Command("cp", path, file).CombinedOutput(); err != nil {
		t.Fatalf("nettest: %v: %s", err, out)
	}
	return file
}

func (n *Network) kea(t testing.TB, program, ready string, config map[string]any) *Log {
	t.Helper()
	dir := t.TempDir()
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, program+".conf")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Unconfined(t, program), "-c", file)
	cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR="+dir)
	return n.Serve(t, ready, cmd)
}

// Dnsmasq starts a real dnsmasq with the given arguments (without the leading dashes), on the servers' interface.
func (n *Network) Dnsmasq(t testing.TB, args ...string) *Log {
	t.Helper()
	all := []string{"--conf-file=/dev/null", "--no-daemon", "--log-facility=-", "--log-dhcp", "--interface=" + n.Server,
		"--bind-interfaces", "--except-interface=lo", "--no-resolv", "--no-hosts", "--leasefile-ro", "--no-ping", "--dhcp-authoritative",
		"--user=root", "--pid-file="}
	for _, a := range args {
		all = append(all, "--"+a)
	}
	return n.Serve(t, "started, version", exec.Command("dnsmasq", all...))
}

// HexOption writes the value of a DHCP option as dnsmasq takes it.
func HexOption(b []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")
}
