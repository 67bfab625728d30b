package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/test/lab"
	"github.com/xpu-sztp/ztp/test/lab/dhcpd"
	"github.com/xpu-sztp/ztp/test/lab/event"
	"github.com/xpu-sztp/ztp/test/lab/netlab"
)

const tap = "tap0"

// connect makes the machine's port on the lab's network and starts the network's real DHCP servers and routers, the events of
// which go to the lab's log.
func connect(ctx context.Context, l *lab.Lab, dir string) error {
	// The bridge has a carrier before the machine is on, which Kea waits for.
	ns, err := netlab.New()
	if err != nil {
		return err
	}
	cable, err := l.Connect(ns, "eth0")
	if err != nil {
		return err
	}
	if err := errors.Join(ns.Do(func() error { return netlab.Up("eth0") }), cable.Plug(), netlab.AddTap(lab.Bridge, tap)); err != nil {
		return err
	}
	list, err := dhcpd.List(l.RedirectAt.URL())
	if err != nil {
		return err
	}
	s := servers{log: l.Log, dir: dir}
	if l.Family == lab.IPv4 {
		return s.kea(ctx, "kea-dhcp4", "DHCP4_STARTED", kea4(list))
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0); err != nil {
		return fmt.Errorf("radvd needs a router: %w", err)
	}
	if err := s.kea(ctx, "kea-dhcp6", "DHCP6_STARTED", kea6(list)); err != nil {
		return err
	}
	return s.radvd(ctx)
}

func kea4(redirect []byte) map[string]any {
	router := lab.Router4.Addr().String()
	return map[string]any{"Dhcp4": keaConfig(map[string]any{"dhcp-socket-type": "raw"}, "subnet4", map[string]any{
		"id": 1, "subnet": lab.Router4.Masked().String(), "pools": []any{map[string]any{"pool": "192.0.2.100-192.0.2.199"}},
		"option-data": []any{
			map[string]any{"name": "routers", "data": router}, map[string]any{"name": "domain-name-servers", "data": router},
			map[string]any{"code": dhcpd.Option4, "space": "dhcp4", "csv-format": false, "data": hex.EncodeToString(redirect)},
		},
	}, map[string]any{"name": "sztp-redirect", "code": dhcpd.Option4, "space": "dhcp4", "type": "binary"})}
}

func kea6(redirect []byte) map[string]any {
	config := keaConfig(map[string]any{}, "subnet6", map[string]any{
		"id": 1, "subnet": lab.Router6.Masked().String(), "interface": lab.Bridge,
		"pools": []any{map[string]any{"pool": "2001:db8:1::100-2001:db8:1::1ff"}},
		"option-data": []any{
			map[string]any{"name": "dns-servers", "data": lab.Router6.Addr().String()},
			map[string]any{"code": dhcpd.Option6, "space": "dhcp6", "csv-format": false, "data": hex.EncodeToString(redirect)},
		},
	}, map[string]any{"name": "sztp-redirect", "code": dhcpd.Option6, "space": "dhcp6", "type": "binary"})
	config["server-id"] = map[string]any{"type": "LL", "persist": false}
	return map[string]any{"Dhcp6": config}
}

func keaConfig(interfaces map[string]any, kind string, subnet, option map[string]any) map[string]any {
	interfaces["interfaces"] = []string{lab.Bridge}
	interfaces["service-sockets-max-retries"], interfaces["service-sockets-retry-wait-time"] = 600, 100
	return map[string]any{
		"interfaces-config": interfaces, "option-def": []any{option}, kind: []any{subnet}, "valid-lifetime": 3600,
		"lease-database": map[string]any{"type": "memfile", "persist": false},
		"loggers": []any{map[string]any{"name": "*", "severity": "INFO",
			"output_options": []any{map[string]any{"output": "stdout", "flush": true}}}},
	}
}

// servers starts programs, the output of which goes to the log of events.
type servers struct {
	log *event.Log
	dir string
}

const (
	// Server is the kind of events that are lines of what a server printed.
	server       event.Kind = "server"
	serverStarts            = 30 * time.Second
)

func (s servers) kea(ctx context.Context, program, ready string, config map[string]any) error {
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return s.start(ctx, program, ready, text, func(file, program string) *exec.Cmd {
		cmd := exec.Command(program, "-c", file)
		cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+s.dir, "KEA_LOCKFILE_DIR="+s.dir)
		return cmd
	})
}

func (s servers) radvd(ctx context.Context) error {
	config := fmt.Sprintf(`interface %s {
	AdvSendAdvert on; AdvManagedFlag on; AdvOtherConfigFlag on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
	prefix %s { AdvAutonomous off; };
};
`, lab.Bridge, lab.Router6.Masked())
	return s.start(ctx, "radvd", "polling for", []byte(config), func(file, program string) *exec.Cmd {
		return exec.Command(program, "-n", "-m", "stderr_clean", "-d", "1", "-C", file, "-p", file+".pid")
	})
}

// start starts a copy of an installed server and waits until it prints ready. A copy, since AppArmor lets programs in the usual
// places read and write the system's own folders only.
func (s servers) start(ctx context.Context, name, ready string, config []byte, command func(file, program string) *exec.Cmd) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	file, program := filepath.Join(s.dir, name+".conf"), filepath.Join(s.dir, name)
	if err := errors.Join(os.WriteFile(file, config, 0o644), run(exec.CommandContext(ctx, "cp", path, program))); err != nil {
		return err
	}
	cmd := command(file, program)
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = netlab.Start(cmd)
	write.Close()
	if err != nil {
		read.Close()
		return fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer read.Close()
		for lines := bufio.NewScanner(read); lines.Scan(); {
			s.log.Add(name, server, nil, "%s", lines.Text())
		}
		cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, serverStarts)
	defer cancel()
	if _, err = s.log.Wait(ctx, says(name, ready)); err != nil {
		return fmt.Errorf("%s does not start: %w", name, err)
	}
	return nil
}

// says matches lines of a server or of the console.
func says(who, text string) func(event.Event) bool {
	return func(e event.Event) bool { return e.Who == who && strings.Contains(e.Text, text) }
}
