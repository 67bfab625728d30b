package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/xpu-sztp/ztp/test/lab/artifact"
	"github.com/xpu-sztp/ztp/test/lab/pki"
)

// makeImage makes an image of the device's system, with further files below /image.
func (r *rig) makeImage(ctx context.Context, version string, more map[string]string) (string, error) {
	files := map[string]string{
		"os-release": fmt.Sprintf("ID=labos\nNAME=LabOS\nVERSION_ID=%s\nPRETTY_NAME=\"LabOS %s\"\n", version, version),
		"ztp.toml":   r.configuration(),
		"maker.pem":  string(pki.PEM(r.lab.Maker.Root.Certificate)),
	}
	if r.decrypts != nil {
		files["decrypt.pem"] = string(r.decrypts)
	}
	for name, content := range more {
		files[name] = content
	}
	path := filepath.Join(r.dir, version+".img")
	return path, r.base.variant(ctx, path, files)
}

func (r *rig) configuration() string {
	installer, entryA, entryB := "efi", `entry = "ztp-a"`, `entry = "ztp-b"`
	if r.loader == grub {
		installer, entryA, entryB = "grub", "", ""
	}
	identity := ""
	if r.decrypts != nil {
		identity = "decrypt-key = \"" + decryptKey + "\"\ndecrypt-certificate = \"/image/decrypt.pem\""
	}
	return fmt.Sprintf(`[image]
installer = %q
%s
[image.slot.a]
device = "/dev/disk/by-partlabel/root-a"
%s
[image.slot.b]
device = "/dev/disk/by-partlabel/root-b"
%s
[grub]
environment = ["/efi/grub/grubenv", "/efi/grub/grubenv.copy"]
[configuration]
handler = "file"
[retry]
initial = "2s"
max = "20s"
[identity]
%s
`, installer, r.image, entryA, entryB, identity)
}

// serve publishes an image, and returns what onboarding information says about it.
func (r *rig) serve(path, version string) (*artifact.BootImage, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return r.publish(version, content), nil
}

func (r *rig) publish(version string, content []byte) *artifact.BootImage {
	name := imageName(version)
	sum := r.lab.Files.Put(name, content)
	return &artifact.BootImage{
		OSName: "labos", OSVersion: version, URIs: []string{"https://" + r.lab.FilesAt.String() + "/" + name},
		Verification: artifact.SHA256(sum[:]),
	}
}

func imageName(version string) string { return "labos-" + version + ".img" }

// newImage makes and publishes an image.
func (r *rig) newImage(ctx context.Context, version string, more map[string]string) (*artifact.BootImage, error) {
	path, err := r.makeImage(ctx, version, more)
	if err != nil {
		return nil, err
	}
	return r.serve(path, version)
}

// upgrade has the owner want an image, two scripts that leave a mark on the console, and a configuration.
func (r *rig) upgrade(image *artifact.BootImage) {
	script := func(text string) []byte { return []byte("#!/bin/sh\necho \"lab-script " + text + "\" >/dev/console\n") }
	r.lab.Onboard(artifact.Onboarding{
		BootImage:     image,
		PreScript:     script("$1 pre on $(sed -n s/^VERSION_ID=//p /etc/os-release)"),
		Handling:      "replace",
		Configuration: []byte("hostname dpu-7\n"),
		PostScript:    script("$1 post with $(cat /var/lib/ztp/configuration), good is $(" + loaderSays + ")"),
	}, "verbose")
}
