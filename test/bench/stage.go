package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/slot"
	"github.com/xpu-sztp/ztp/pkg/state"
)

// Installing an image is measured in processes of their own, each of which does one thing, so that the kernel tells what
// processor time that took. This program starts itself again for them.
const stageArgument = "install-stage"

// stageTask is what such a process is to do.
type stageTask struct {
	Stage  string // "install", "hash", "write" or "copy"
	URI    string // of the image
	SHA256 string // hexadecimal
	Size   int64
	Target string // file or block device
	Dir    string // for the status, checkpoints and records
}

// stageCost is what it cost. The process itself measures the times.
type stageCost struct {
	Seconds  float64 // until everything was on the storage
	ReadBack float64 // seconds that reading it back took after that
	Status   float64 // seconds spent with showing the progress
	CPU      float64 // seconds of all threads, user and system, up to the end of Seconds
}

// runStage does what the process was started for, and prints what it cost.
func runStage(ctx context.Context, argument string) error {
	var task stageTask
	if err := json.Unmarshal([]byte(argument), &task); err != nil {
		return err
	}
	stage, ok := map[string]func(stageTask, context.Context) (stageCost, error){
		"install": stageTask.install, "hash": stageTask.hash, "write": stageTask.write, "copy": stageTask.copy,
	}[task.Stage]
	if !ok {
		return fmt.Errorf("no stage %q", task.Stage)
	}
	cost, err := stage(task, ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", task.Stage, err)
	}
	return json.NewEncoder(os.Stdout).Encode(cost)
}

func (t stageTask) measure(ctx context.Context) (stageCost, error) {
	argument, err := json.Marshal(t)
	if err != nil {
		return stageCost{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return stageCost{}, err
	}
	cmd := exec.CommandContext(ctx, self, stageArgument, string(argument))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return stageCost{}, fmt.Errorf("%s: %w", t.Stage, err)
	}
	var cost stageCost
	return cost, json.Unmarshal(out, &cost)
}

// stopwatch measures time and processor time from its making on.
type stopwatch struct {
	started time.Time
	cpu     float64
}

func newStopwatch() stopwatch { return stopwatch{time.Now(), cpuTime()} }

func (s stopwatch) cost() stageCost {
	return stageCost{Seconds: time.Since(s.started).Seconds(), CPU: cpuTime() - s.cpu}
}

// cpuTime is the processor time of this process so far, in seconds.
func cpuTime() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // cannot fail
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// install does what the daemon does: it fetches the image into a slot, verified, keeps checkpoints, shows the progress, forces
// everything to the storage and reads it back.
func (t stageTask) install(ctx context.Context) (stageCost, error) {
	sum, err := hex.DecodeString(t.SHA256)
	if err != nil {
		return stageCost{}, err
	}
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), image.Stages+1)) // as the daemon does
	board := state.NewBoard(filepath.Join(t.Dir, state.StatusName), state.Status{Phase: state.PhaseOnboarding})
	var shown time.Duration
	watch := newStopwatch()
	slot, err := t.open(ctx)
	if err != nil {
		return stageCost{}, err
	}
	defer slot.Close()
	_, err = image.Fetch(ctx, image.Request{
		URIs: []string{t.URI}, SHA256: sum, Network: loopback{},
		Checkpoints: image.CheckpointFile{FS: durable.OS{}, Path: filepath.Join(t.Dir, "checkpoint")},
		Progress: func(p image.Progress) {
			begin := time.Now()
			board.Update(func(s *state.Status) {
				s.Downloads = []state.Download{{URI: p.URI, Server: p.Server, Protocol: p.Protocol, Bytes: p.Bytes, Total: p.Total,
					Rate: p.Rate, Started: p.Started}}
			})
			shown += time.Since(begin)
		},
	}, slot)
	if err == nil {
		err = syncTarget(t.Target)
	}
	if err != nil {
		return stageCost{}, err
	}
	cost := watch.cost()
	cost.Status = shown.Seconds()
	watch = newStopwatch()
	if err := slot.Commit(ctx, sum); err != nil {
		return stageCost{}, err
	}
	cost.ReadBack = watch.cost().Seconds
	return cost, nil
}

// open opens the target as the slot that does not run.
func (t stageTask) open(ctx context.Context) (slot.Writer, error) {
	slots := [2]slot.Slot{{Name: "a", Path: filepath.Join(t.Dir, "running")}, {Name: "b", Path: t.Target}}
	return slot.NewAB(firmware{}, slots, slot.Options{Dir: filepath.Join(t.Dir, "records")}).Open(ctx)
}

// firmware is a boot loader that started slot a, for good.
type firmware struct{}

func (firmware) State(context.Context) (slot.State, error) {
	return slot.State{Running: "a", Good: "a"}, nil
}
func (firmware) Disarm(context.Context, string) error { return nil }
func (firmware) Arm(context.Context, string) error    { return nil }
func (firmware) Bless(context.Context, string) error  { return nil }

// hash digests as much as the image has, from memory.
func (t stageTask) hash(context.Context) (stageCost, error) {
	piece := incompressible()
	hash := sha256.New()
	watch := newStopwatch()
	for left := t.Size; left > 0; left -= int64(len(piece)) {
		hash.Write(piece[:min(int64(len(piece)), left)])
	}
	hash.Sum(nil)
	return watch.cost(), nil
}

// write gives as much as the image has to the same writer, from memory.
func (t stageTask) write(ctx context.Context) (stageCost, error) {
	piece := incompressible()
	return t.fill(ctx, func(sink io.Writer) error {
		for left := t.Size; left > 0; left -= int64(len(piece)) {
			if _, err := sink.Write(piece[:min(int64(len(piece)), left)]); err != nil {
				return err
			}
		}
		return nil
	})
}

// copy is what copying costs at least: one thread that reads from a socket and gives what it read to the same writer.
func (t stageTask) copy(ctx context.Context) (stageCost, error) {
	u, err := url.Parse(t.URI)
	if err != nil {
		return stageCost{}, err
	}
	return t.fill(ctx, func(sink io.Writer) error {
		address, err := netip.ParseAddrPort(u.Host)
		if err != nil {
			return err
		}
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(socket)
		if err := unix.Connect(socket, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
			return err
		}
		if _, err := unix.Write(socket, fmt.Appendf(nil, "GET %s HTTP/1.0\r\n\r\n", u.Path)); err != nil {
			return err
		}
		return copySocket(sink, socket, t.Size)
	})
}

// copySocket copies the body of a reply.
func copySocket(sink io.Writer, socket int, size int64) error {
	buffer, filled := durable.Buffer(pieceSize), 0
	inBody := false
	for size > 0 {
		n, err := unix.Read(socket, buffer[filled:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		filled += n
		if !inBody {
			_, body, ok := strings.Cut(string(buffer[:filled]), "\r\n\r\n")
			if !ok {
				continue
			}
			inBody, filled = true, copy(buffer, body)
		}
		if filled == len(buffer) || int64(filled) == size {
			if _, err := sink.Write(buffer[:filled]); err != nil {
				return err
			}
			size, filled = size-int64(filled), 0
		}
	}
	return nil
}

// fill has the target written by the writer that installs images, and forces everything to the storage.
func (t stageTask) fill(ctx context.Context, write func(io.Writer) error) (stageCost, error) {
	watch := newStopwatch()
	slot, err := t.open(ctx)
	if err != nil {
		return stageCost{}, err
	}
	defer slot.Close()
	if err := write(slot); err != nil {
		return stageCost{}, err
	}
	if err := syncTarget(t.Target); err != nil {
		return stageCost{}, err
	}
	return watch.cost(), nil
}

// syncTarget forces the content and the name of a file, or the content of a device, to the storage.
func syncTarget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Sync(), durable.OS{}.SyncDir(filepath.Dir(path)))
}

// pieceSize is how much is hashed, copied or written at a time: as much as package image does.
const pieceSize = 2 * mebibyte

// incompressible returns bytes that no storage can make less of.
func incompressible() []byte {
	b := durable.Buffer(pieceSize)
	rand.NewChaCha8([32]byte{1}).Read(b) // cannot fail
	return b
}

// loopback reaches what listens on this machine.
type loopback struct{}

func (loopback) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("the server's address is known")
}

func (loopback) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}
