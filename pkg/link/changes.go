package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/link/rtnetlink"
)

// change is one thing that the agent did to an interface. It holds what is needed to undo it, also by another process.
type change struct {
	Kind      string       `json:"kind"` // "up", "address", "route", "rule" or "sysctl"
	Index     int          `json:"index"`
	Interface string       `json:"interface"`
	Prefix    netip.Prefix `json:"prefix,omitzero"`    // address: the address; route: the destination; rule: the source
	Gateway   netip.Addr   `json:"gateway,omitzero"`   // route
	Source    netip.Addr   `json:"source,omitzero"`    // route
	Metric    int          `json:"metric,omitempty"`   // route
	Table     int          `json:"table,omitempty"`    // route and rule
	IPv6      bool         `json:"ipv6,omitempty"`     // rule
	Priority  int          `json:"priority,omitempty"` // rule
	Bound     bool         `json:"bound,omitempty"`    // rule: only for sockets bound to the interface
	Key       string       `json:"key,omitempty"`      // sysctl: path below /proc/sys
	MAC       string       `json:"mac,omitempty"`      // up: of the interface, whose index may be another's by now
	Old       string       `json:"old,omitempty"`      // sysctl
	New       string       `json:"new,omitempty"`      // sysctl
}

func (c change) String() string {
	switch c.Kind {
	case "route":
		via := ""
		if c.Gateway.IsValid() {
			via = " via " + c.Gateway.String()
		}
		return fmt.Sprintf("%v%s dev %s table %d", destination(c.Prefix), via, c.Interface, c.Table)
	case "rule":
		return fmt.Sprintf("rule %d for table %d", c.Priority, c.Table)
	case "address":
		return fmt.Sprintf("%v dev %s", c.Prefix, c.Interface)
	case "sysctl":
		return c.Key + "=" + c.New
	}
	return c.Interface + " up"
}

func destination(p netip.Prefix) string {
	if p.Bits() == 0 {
		return "default"
	}
	return p.String()
}

// changes records every change in a file before it is made, so that the next process can undo what this one leaves behind
// when it dies.
type changes struct {
	file string
	run  string // the folder /run
	mu   sync.Mutex
	made []change
}

// do records c and makes it.
func (cs *changes) do(c change, apply func() error) error {
	cs.mu.Lock()
	cs.made = append(cs.made, c)
	err := cs.save()
	cs.mu.Unlock()
	if err == nil {
		err = apply()
	}
	if err != nil {
		cs.forget(c)
	}
	return err
}

// undo reverts c, which was made with do, unless it is a manager's by now.
func (cs *changes) undo(c change) error {
	if !cs.takenOver(c) {
		if err := c.revert(); err != nil {
			return fmt.Errorf("cannot undo %v: %w", c, err)
		}
	}
	return cs.forget(c)
}

// takenOver reports whether systemd-networkd has leased the same address: the server may know devices by their hardware address.
func (cs *changes) takenOver(c change) bool {
	return c.Kind == "address" && leasedBy(cs.run, c.Index, c.Prefix.Addr())
}

func (cs *changes) forget(c change) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if i := slices.Index(cs.made, c); i >= 0 {
		cs.made = slices.Delete(cs.made, i, i+1)
	}
	return cs.save()
}

// undoAll reverts everything, the latest first.
func (cs *changes) undoAll() error {
	cs.mu.Lock()
	made := slices.Clone(cs.made)
	cs.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(made) {
		errs = append(errs, cs.undo(c))
	}
	return errors.Join(errs...)
}

// hasAddress reports whether the agent added an address to an interface.
func (cs *changes) hasAddress(index int, a netip.Addr) bool { return cs.addresses().has(index, a) }

// ownAddresses are changes at one moment.
type ownAddresses []change

// addresses returns what the agent has added by now.
func (cs *changes) addresses() ownAddresses {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return slices.Clone(cs.made)
}

func (own ownAddresses) has(index int, a netip.Addr) bool {
	return slices.ContainsFunc(own, func(c change) bool {
		return c.Kind == "address" && c.Index == index && c.Prefix.Addr() == a
	})
}

// maxChanges bounds the file that is read, in bytes: a change has some 200.
const maxChanges = 4 << 20

// save needs no fsync: the file is for this boot only.
func (cs *changes) save() error {
	if len(cs.made) == 0 {
		if err := os.Remove(cs.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(cs.made)
	if err != nil {
		return err
	}
	temp := cs.file + ".new"
	os.Remove(temp)
	f, err := durable.CreateShared(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, cs.file)
}

// load reads what an earlier process left. A file that cannot be read is worth a message, no more.
func (cs *changes) load() error {
	if err := os.MkdirAll(filepath.Dir(cs.file), 0o755); err != nil {
		return err
	}
	return cs.read()
}

func (cs *changes) read() error {
	b, err := durable.ReadShared(cs.file, maxChanges)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = json.Unmarshal(b, &cs.made)
	cs.made = slices.DeleteFunc(cs.made, func(c change) bool { return !c.plausible() })
	return err
}

// plausible reports whether c is something that the agent does. The record is as safe as the folder it is in, which may have
// been anybody's before the agent's.
func (c change) plausible() bool {
	switch c.Kind {
	case "up":
		return true
	case "address":
		return c.Prefix.IsValid()
	case "route":
		return c.Prefix.IsValid() && c.Table == tableBase+c.Index
	case "rule":
		return c.Table == tableBase+c.Index
	case "sysctl":
		known, err := path.Match("net/ipv[46]/conf/*/*", c.Key)
		return err == nil && known && path.Clean(c.Key) == c.Key // so that revertSysctl stays there, too
	}
	return false
}

// revert undoes c. What is gone already, or belongs to somebody else by now, counts as undone.
func (c change) revert() error {
	if c.Kind == "rule" { // outlives its interface
		if err := c.rule().Delete(); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	}
	links, err := rtnetlink.Links()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(links, func(l rtnetlink.Link) bool { return l.Index == c.Index })
	if i < 0 {
		return nil
	}
	switch c.Kind {
	case "sysctl":
		err = c.revertSysctl(&links[i])
	case "up":
		err = c.revertUp(&links[i])
	case "address":
		err = c.revertAddress()
	case "route":
		err = c.route().Delete()
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENETDOWN) {
		return nil
	}
	return err
}

// revertUp takes the interface down, unless somebody has put it to use since.
func (c change) revertUp(l *rtnetlink.Link) error {
	addresses, err := rtnetlink.Addresses()
	if err != nil {
		return err
	}
	used := slices.ContainsFunc(addresses, func(a rtnetlink.Address) bool {
		return a.Index == l.Index && a.Flags&unix.IFA_F_PERMANENT != 0 && a.Prefix.Addr().IsGlobalUnicast()
	})
	if used || l.Master != 0 || l.HardwareAddr.String() != c.MAC {
		return nil
	}
	return rtnetlink.SetDown(l.Index)
}

// revertAddress removes the address, unless somebody has made it permanent since: ours always expires.
func (c change) revertAddress() error {
	addresses, err := rtnetlink.Addresses()
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a.Index == c.Index && a.Prefix == c.Prefix {
			if a.Flags&unix.IFA_F_PERMANENT != 0 {
				return nil
			}
			return a.Delete()
		}
	}
	return nil
}

func (c change) route() *rtnetlink.Route {
	return &rtnetlink.Route{Destination: c.Prefix, Hop: rtnetlink.Hop{Index: c.Index, Gateway: c.Gateway}, Source: c.Source,
		Table: c.Table, Metric: c.Metric, Protocol: unix.RTPROT_DHCP}
}

func (c change) revertSysctl(l *rtnetlink.Link) error {
	key := path.Join(path.Dir(path.Dir(c.Key)), l.Name, path.Base(c.Key)) // what it is called by now
	now, err := readSysctl(key)
	if err != nil || now != c.New {
		return nil // somebody else has changed it since
	}
	if err := os.WriteFile("/proc/sys/"+key, []byte(c.Old), 0o644); err != nil {
		return err
	}
	if path.Base(key) == acceptRA && !followsRouters(l.Name, c.Old) {
		return forgetRouters(l.Index)
	}
	return nil
}

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + key)
	return strings.TrimSpace(string(b)), err
}
