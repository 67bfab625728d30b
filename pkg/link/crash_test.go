package link_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/link"
	"github.com/xpu-sztp/ztp/test/nettest"
)

// Environment of the process that TestKilled kills.
const (
	victimInterfaces = "LINK_TEST_VICTIM_INTERFACES"
	victimRecord     = "LINK_TEST_VICTIM_RECORD"
	victimHolds      = "LINK_TEST_VICTIM_HOLDS" // set when it does not go on once it has leases
)

// TestVictim applies and removes leases until it is killed; alone it does nothing. It prints a line with every step.
func TestVictim(t *testing.T) {
	if os.Getenv(victimInterfaces) == "" {
		return
	}
	names := strings.Fields(os.Getenv(victimInterfaces))
	s, err := link.Open(link.Options{Include: names, Record: os.Getenv(victimRecord), Run: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for {
		s.Raise()
		fmt.Println("victim: raised")
		var undo []func()
		for i, name := range names {
			l := await(t, s, name, usable)
			lease := *lease4
			lease.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(50 + i)}), 24)
			undo = append(undo, s.PrepareIPv4(l), s.PrepareIPv6(l))
			applied, err := s.Apply(t.Context(), l, &lease)
			if err != nil {
				t.Fatal(err)
			}
			undo = append(undo, func() { applied.Remove() })
			fmt.Println("victim: applied")
		}
		if os.Getenv(victimHolds) != "" {
			select {} // until it is killed
		}
		for _, u := range undo {
			u()
			fmt.Println("victim: undone")
		}
	}
}

// kill starts a victim and kills it some time after so many steps.
func kill(t *testing.T, record string, steps int, networks []*nettest.Network, env ...string) {
	t.Helper()
	var names []string
	for _, n := range networks {
		names = append(names, n.Device)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestVictim$")
	cmd.Env = append(append(os.Environ(), env...), victimInterfaces+"="+strings.Join(names, " "), victimRecord+"="+record)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	for lines := bufio.NewScanner(out); steps > 0 && lines.Scan(); {
		fmt.Fprintln(&told, lines.Text())
		if strings.HasPrefix(lines.Text(), "victim: ") {
			steps--
		}
	}
	cmd.Process.Kill() // while it goes on
	cmd.Wait()
	if steps > 0 {
		t.Fatalf("the victim ended by itself:\n%s", &told)
	}
}

// everything is all that the agent could change on an interface, and the rules.
func everything(t *testing.T, n *nettest.Network) string {
	t.Helper()
	text := n.Inside.Run(t, "ip", "-4", "-o", "addr", "show", "dev", n.Device) +
		n.Inside.Run(t, "ip", "-4", "route", "show", "table", "all", "dev", n.Device) + n.Inside.Run(t, "ip", "rule")
	for _, key := range []string{"ipv4/conf/%s/rp_filter", "ipv6/conf/%s/accept_ra", "ipv6/conf/%s/ra_defrtr_metric"} {
		b, _ := os.ReadFile("/proc/sys/net/" + fmt.Sprintf(key, n.Device))
		text += fmt.Sprintf(key, "") + "=" + string(b)
	}
	if strings.Contains(n.Inside.Run(t, "ip", "-o", "link", "show", "dev", n.Device), ",UP") {
		text += "up\n"
	}
	return text
}

// TestKilled kills a process that holds leases on three interfaces, again and again, and starts another one.
func TestKilled(t *testing.T) {
	var networks []*nettest.Network
	var before []string
	for range 3 {
		n := nettest.NewNetwork(t, nil)
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+n.Device+"/rp_filter", []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
		networks, before = append(networks, n), append(before, everything(t, n))
	}
	record := filepath.Join(t.TempDir(), "network.json")
	left := 0
	for range 12 {
		kill(t, record, 1+rand.IntN(12), networks)
		for i, n := range networks {
			if everything(t, n) != before[i] {
				left++
			}
		}
		s := open(t, link.Options{Record: record})
		for i, n := range networks {
			if diff := cmp.Diff(before[i], everything(t, n)); diff != "" {
				t.Errorf("left on %s: %s", n.Device, diff)
			}
		}
		s.Close()
	}
	if left == 0 {
		t.Error("nothing was left to be undone")
	}
}

// TestChangedSinceCrash: the next process finds the interface under another name, or not at all, or no usable record.
func TestChangedSinceCrash(t *testing.T) {
	netns := func(n *nettest.Network) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Servers.FD()) }
	var record string
	damage := func(f func([]byte) []byte) func(*testing.T, *nettest.Network) {
		return func(t *testing.T, _ *nettest.Network) {
			b, err := os.ReadFile(record)
			if err == nil {
				err = os.WriteFile(record, f(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		happen func(*testing.T, *nettest.Network)
		exists bool // the interface does
		kept   bool // what tells of it does, too
	}{
		"renamed": {func(t *testing.T, n *nettest.Network) { rename(t, n, "renamed2") }, true, true},
		"deleted": {func(t *testing.T, n *nettest.Network) { n.Inside.Run(t, "ip", "link", "del", n.Device) }, false, true},
		"moved to another namespace": {func(t *testing.T, n *nettest.Network) {
			n.Inside.Run(t, "ip", "link", "set", n.Device, "netns", netns(n))
		}, false, true},
		"another one has its index": {func(t *testing.T, n *nettest.Network) {
			index := strings.SplitN(n.Inside.Run(t, "ip", "-o", "link", "show", "dev", n.Device), ":", 2)[0]
			n.Inside.Run(t, "ip", "link", "del", n.Device)
			n.Inside.Run(t, "ip", "link", "add", n.Device, "up", "index", index, "type", "bridge")
		}, true, false},
		"record cut off":     {damage(func(b []byte) []byte { return b[:len(b)-7] }), true, false},
		"record overwritten": {damage(func([]byte) []byte { return []byte(`{"kind":"route"}`) }), true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := nettest.NewNetwork(t, nil)
			record = filepath.Join(t.TempDir(), "network.json")
			rules := n.Inside.Run(t, "ip", "rule")
			before, old := everything(t, n), n.Device
			kill(t, record, 2, []*nettest.Network{n}, victimHolds+"=1")
			if during := n.Inside.Run(t, "ip", "rule"); during == rules {
				t.Fatalf("the victim had no lease: %s", during)
			}
			tt.happen(t, n)
			open(t, link.Options{Record: record})
			if diff := cmp.Diff(rules, n.Inside.Run(t, "ip", "rule")); diff != "" {
				t.Error(diff)
			}
			if routes := n.Inside.Run(t, "ip", "-4", "route", "show", "table", "all", "proto", "dhcp"); routes != "" {
				t.Errorf("routes %s", routes)
			}
			if tt.exists && tt.kept {
				if diff := cmp.Diff(strings.ReplaceAll(before, old, n.Device), everything(t, n)); diff != "" {
					t.Error(diff)
				}
			}
			if name == "another one has its index" && !strings.Contains(everything(t, n), "up\n") {
				t.Error("an interface that was never touched was taken down")
			}
		})
	}
}

// TestRecordThatNobodyWrote must not make the agent write elsewhere.
func TestRecordThatNobodyWrote(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "lo", "file")
	if err := os.Mkdir(filepath.Dir(victim), 0o755); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(dir, "network.json")
	for file, content := range map[string]string{victim: "kept", record: fmt.Sprintf(
		`[{"kind":"sysctl","index":1,"interface":"lo","key":"../..%s/x/file","old":"spoiled","new":"kept"},{"kind":"what"},{"kind":"route","index":1},
		{"kind":"address","index":1},{"kind":"rule","index":1,"table":254}]`, dir)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var n *nettest.Namespace
	before := n.Run(t, "ip", "rule")
	open(t, link.Options{Record: record})
	if b, _ := os.ReadFile(victim); string(b) != "kept" {
		t.Errorf("%s", b)
	}
	if diff := cmp.Diff(before, n.Run(t, "ip", "rule")); diff != "" {
		t.Error(diff)
	}
}
