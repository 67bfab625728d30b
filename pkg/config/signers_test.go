package config_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	allowed = "release@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVEFtbzzXHeKCdBPl3eHWbz0eYQ6FEmKGzEHNhlwAoS\n"
	minisig = "untrusted comment: minisign public key 9AD3D4C0\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n"
)

func TestSigners(t *testing.T) {
	leaf := certificate(t, "release", func(c *x509.Certificate) { c.IsCA = false })
	c, _ := load(t, map[string]string{
		"/etc/ztp/allowed_signers": allowed,
		"/etc/ztp/release.pub":     minisig,
		"/etc/ztp/release.pem":     "words\n" + leaf,
		config.AdminFile: "[image]\nsignature = \"required\"\nsigners = [\"/etc/ztp/allowed_signers\", \"/etc/ztp/release.pub\", " +
			"\"/etc/ztp/release.pem\", \"owner\"]\n",
	})
	forms, err := (&signature.Policy{Signers: &c.Signers}).Forms()
	if err != nil || len(forms) != 3 || !c.Signers.Owner {
		t.Errorf("forms %v, owner %v, %v", forms, c.Signers.Owner, err)
	}
}

func TestSignersInvalid(t *testing.T) {
	files := map[string]string{
		"/etc/ztp/allowed_signers": allowed,
		"/etc/ztp/bad_signers":     allowed + "somebody\n",
		"/etc/ztp/damaged.pem":     "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"/etc/ztp/empty":           "",
	}
	for name, test := range map[string]struct{ text, at, message string }{
		"nobody":       {"[image]\nsignature = \"required\"\n", "2: image.signature", "while image.signers is empty"},
		"other-mode":   {"[image]\nsignature = \"when-present\"\n", "2: image.signature", "none of none, required"},
		"no-path":      {"[image]\nsigners = [\"release.pub\"]\n", "2: image.signers", "neither \"owner\" nor an absolute path"},
		"missing":      {"[image]\nsigners = [\"/etc/ztp/nothing\"]\n", "2: image.signers", "no such file"},
		"line":         {"[image]\nsigners = [\"/etc/ztp/bad_signers\"]\n", "2: image.signers", "/etc/ztp/bad_signers: line 2: "},
		"certificate":  {"[image]\nsigners = [\"/etc/ztp/damaged.pem\"]\n", "2: image.signers", "/etc/ztp/damaged.pem:1: is not a certificate"},
		"empty":        {"[image]\nsigners = [\"/etc/ztp/empty\"]\n", "2: image.signers", "names nobody"},
		"folder":       {"[image]\nsigners = [\"/etc/ztp\"]\n", "2: image.signers", "not a regular file"},
		"no-namespace": {"[image]\nsignature-namespace = \"\"\n", "2: image.signature-namespace", "not a namespace"},
		"two-words":    {"[image]\nsignature-namespace = \"a b\"\n", "2: image.signature-namespace", "not a namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			files[config.AdminFile] = test.text
			_, err := config.Load(write(t, files))
			code, hint := reason.Of(err)
			if code != config.Invalid || hint == "" || !strings.Contains(err.Error(), "ztp.toml:"+test.at) || !strings.Contains(err.Error(), test.message) {
				t.Errorf("%v (%s)", err, hint)
			}
		})
	}
}
