package command

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/slot"
)

// shell runs a script in dir.
func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// files writes texts below dir, with DIR replaced by it.
func files(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o700))
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// holds tells whether a file begins with data.
func holds(t *testing.T, path string, data []byte) bool {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	return bytes.HasPrefix(got, data)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

const certificate = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=test -days 3650 -addext extendedKeyUsage=emailProtection,codeSigning\n"

// TestRAUC has RAUC itself install a bundle into a file, and a script be the boot loader.
func TestRAUC(t *testing.T) {
	d := newDevice(t, RAUC())
	d.reboot = func() {}
	root := randomBytes(1 << 16)
	files(t, d.dir, map[string]string{
		"system.conf": `[system]
compatible=test
bootloader=custom
mountprefix=DIR/mnt
statusfile=DIR/status
[handlers]
bootloader-custom-backend=DIR/backend
[keyring]
path=DIR/cert.pem
[slot.rootfs.0]
device=DIR/rootfs.0
type=raw
bootname=A
[slot.rootfs.1]
device=DIR/rootfs.1
type=raw
bootname=B
`,
		"backend": `#!/bin/sh
cd DIR
case $1 in
get-primary) cat primary ;;
set-primary) echo $2 >primary ;;
get-state) cat state-$2 ;;
set-state) echo $3 >state-$2 ;;
esac
`,
		"primary": "A\n", "state-A": "good\n", "state-B": "bad\n",
		"bundle/manifest.raucm": "[update]\ncompatible=test\nversion=2\n[image.rootfs]\nfilename=rootfs.img\n",
		"bundle/rootfs.img":     string(root),
	})
	shell(t, d.dir, certificate+"mkdir mnt; truncate -s 1M rootfs.0 rootfs.1\nrauc --cert cert.pem --key key.pem bundle bundle out.raucb")
	rauc, err := exec.LookPath("rauc")
	must(t, err)
	files(t, d.dir, map[string]string{
		"bus.conf": `<busconfig><type>session</type><listen>unix:path=DIR/bus</listen><servicedir>DIR/services</servicedir>
<policy context="default"><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy></busconfig>`,
		"services/de.pengutronix.rauc.service": "[D-BUS Service]\nName=de.pengutronix.rauc\nExec=" + rauc +
			" --conf=DIR/system.conf --override-boot-slot=A service\n",
	})
	startBus(t, filepath.Join(d.dir, "bus.conf"))
	bus := "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + filepath.Join(d.dir, "bus")
	play(t, d.dir, "rauc", "export "+bus+"\nexec "+rauc+` "$@"`)

	d.want(t, "rootfs.0", "rootfs.0", "", "rootfs.1")
	bundle := read(t, filepath.Join(d.dir, "out.raucb"))
	wantCode(t, install(t, d.installer(t, nil), "no bundle"), CodeFailed)
	if got := read(t, filepath.Join(d.dir, "primary")); got != "A\n" {
		t.Errorf("boots %s", got)
	}
	err = install(t, d.installer(t, nil), bundle)
	if mount := exec.Command("mount", "-o", "loop,ro", "out.raucb", "mnt"); !works(mount, d.dir) {
		// RAUC cannot mount bundles here, and neither can anybody else.
		wantCode(t, err, CodeFailed)
		shell(t, d.dir, "cp bundle/rootfs.img rootfs.1")
	} else {
		shell(t, d.dir, "umount mnt")
		must(t, err)
		wantImage(t, d.want(t, "rootfs.0", "rootfs.0", "rootfs.1", "rootfs.1"), "rootfs.1", bundle)
		must(t, d.installer(t, nil).Deactivate(t.Context()))
		d.want(t, "rootfs.0", "rootfs.0", "", "rootfs.1")
		must(t, d.installer(t, nil).Activate(t.Context()))
		d.want(t, "rootfs.0", "rootfs.0", "rootfs.1", "rootfs.1")
	}
	if !holds(t, filepath.Join(d.dir, "rootfs.1"), root) {
		t.Error("the slot does not hold the image")
	}
	files(t, d.dir, map[string]string{"state-A": "bad\n"}) // as the boot loader counts
	must(t, d.installer(t, nil).MarkGood(t.Context()))
	if got := read(t, filepath.Join(d.dir, "state-A")); got != "good\n" {
		t.Errorf("the running slot is %s", got)
	}
}

func works(cmd *exec.Cmd, dir string) bool {
	cmd.Dir = dir
	return cmd.Run() == nil
}

// startBus runs a message bus, which starts services when they are called, until the test ends.
func startBus(t *testing.T, config string) {
	t.Helper()
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens once it says where
		t.Fatal(err)
	}
}

// TestSWUpdate has SWUpdate itself install a signed image into a file.
func TestSWUpdate(t *testing.T) {
	real, err := exec.LookPath("swupdate")
	must(t, err)
	d := swupdate(t)
	root := randomBytes(1 << 16)
	shell(t, d.dir, certificate+"truncate -s 1M part2 part3")
	files(t, d.dir, map[string]string{
		"root.img": string(root),
		"config":   `globals: { public-key-file = "DIR/cert.pem"; }; identify: ();`,
	})
	description := `software = { version = "2"; hardware-compatibility = [ "1.0" ]; stable = {`
	for mode, part := range map[string]string{"copy1": "part2", "copy2": "part3"} {
		description += fmt.Sprintf(`%s: { images: ( { filename = "root.img"; device = "DIR/%s"; type = "raw"; sha256 = "@SUM@"; } ); };`, mode, part)
	}
	files(t, d.dir, map[string]string{"sw-description": description + "}; }\n"})
	shell(t, d.dir, `sed -i "s/@SUM@/$(sha256sum root.img | cut -d ' ' -f 1)/g" sw-description
openssl cms -sign -in sw-description -out sw-description.sig -signer cert.pem -inkey key.pem -outform DER -nosmimecap -binary
printf 'sw-description\nsw-description.sig\nroot.img\n' | cpio -o -H crc >out.swu`)
	play(t, d.dir, "swupdate", `
if [ "$*" = --get-root ]; then exec cat root; fi
exec `+real+` --file config --hwrevision board:1.0 "$@"`)
	wantCode(t, install(t, d.installer(t, nil), "no image"), CodeFailed)
	image := read(t, filepath.Join(d.dir, "out.swu"))
	spoiled := strings.Replace(image, `version = "2"`, `version = "3"`, 1)
	wantCode(t, install(t, d.installer(t, nil), spoiled), CodeFailed)
	if holds(t, filepath.Join(d.dir, "part3"), root) {
		t.Error("installed without a good signature")
	}
	must(t, install(t, d.installer(t, nil), image))
	if !holds(t, filepath.Join(d.dir, "part3"), root) || holds(t, filepath.Join(d.dir, "part2"), root) {
		t.Error("it is not in the slot that does not run")
	}
	wantImage(t, d.want(t, "copy1", "copy1", "copy2", "copy2"), "copy2", image)
	d.put("root", "/dev/mmcblk0p9")
	_, err = d.installer(t, nil).Describe(t.Context())
	wantCode(t, err, slot.CodeUnavailable)
}
