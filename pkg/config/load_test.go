package config_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/image/signature"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// write makes a root folder with files, given by their paths on the device.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func load(t *testing.T, files map[string]string) (*config.Config, string) {
	t.Helper()
	root := write(t, files)
	c, err := config.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

func TestShippedFileEqualsDefaults(t *testing.T) {
	shipped, err := os.ReadFile("../../systemd/ztp.toml")
	if err != nil {
		t.Fatal(err)
	}
	setting := regexp.MustCompile(`(?m)^#([a-z-]+ = )`)
	active := setting.ReplaceAllString(string(shipped), "$1")

	missing := map[string]string{ // folders that may be missing only as long as the default names them
		"/usr/lib/ztp/trust/vouchers/README": "", "/etc/ztp/trust/vouchers/README": "",
		"/usr/lib/ztp/trust/bootstrap-servers/README": "", "/etc/ztp/trust/bootstrap-servers/README": "",
	}
	missing[config.AdminFile] = active
	got, root := load(t, missing)
	if err := os.Remove(filepath.Join(root, config.AdminFile)); err != nil {
		t.Fatal(err)
	}
	want, err := config.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	got.Files = nil
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(signature.Signers{})); diff != "" {
		t.Errorf("systemd/ztp.toml differs from Default (-default +file):\n%s", diff)
	}
	// Every key that is a default must also be in the file, or the comparison above proves nothing about it.
	keys := regexp.MustCompile(`(?m)^#[a-z-]+ = `).FindAllString(string(shipped), -1)
	if len(keys) != config.Keys() {
		t.Errorf("systemd/ztp.toml has %d keys, the configuration %d", len(keys), config.Keys())
	}
}

// TestLocalSourcesComeFirst: who is near is asked before who is far away (RFC 8572 §9.7).
func TestLocalSourcesComeFirst(t *testing.T) {
	if diff := cmp.Diff([]string{"removable-storage", "dhcp", "dns", "well-known"}, config.Default().Discovery.Sources); diff != "" {
		t.Error(diff)
	}
}

// TestMistakesAreToldTogether: nobody wants to restart the daemon once for each of them.
func TestMistakesAreToldTogether(t *testing.T) {
	root := write(t, map[string]string{
		config.AdminFile:              "[identity]\ntmp = \"x\"\n[nonsense]\na = 1\nb = 2\n[trust]\nclock = \"maybe\"\n",
		"/etc/ztp/ztp.toml.d/10.toml": "[image]\nattempts = 0\n",
		"/etc/ztp/ztp.toml.d/20.toml": "[image\n",
	})
	_, err := config.Load(root)
	if err == nil {
		t.Fatal("accepted")
	}
	want := []string{
		"ztp.toml:2: identity.tmp: unknown key", "ztp.toml:3: nonsense: unknown key", "ztp.toml:7: trust.clock: ",
		"10.toml:2: image.attempts: 0 is out of range, from 1 to 100", "20.toml:2: expected",
	}
	mistakes := strings.Split(err.Error(), "; ")
	if len(mistakes) != len(want) {
		t.Fatalf("got %q", mistakes)
	}
	for i, part := range want {
		if !strings.Contains(mistakes[i], part) {
			t.Errorf("got %q, want %q in it", mistakes[i], part)
		}
	}
	if _, hint := reason.Of(err); !strings.HasPrefix(hint, "did you mean identity.tpm?; ") {
		t.Errorf("hint %q", hint)
	}

	many := "[image]\n"
	for i := range 30 {
		many += fmt.Sprintf("x%d = 1\n", i)
	}
	if _, err := config.Load(write(t, map[string]string{config.AdminFile: many})); err == nil || !strings.HasSuffix(err.Error(), "; and 20 more") {
		t.Errorf("got %v", err)
	}
}

func TestLayers(t *testing.T) {
	got, root := load(t, map[string]string{
		config.VendorFile:                 "[device]\nhw-model = \"vendor\"\nos-name = \"vendor\"\n[discovery]\nexclude = [\"a\", \"b\"]\n",
		"/usr/lib/ztp/ztp.toml.d/90.toml": "[device]\nhw-model = \"maker\"\nos-version = \"maker\"\nos-name = \"maker\"\n[discovery]\nexclude = []\n",
		config.AdminFile:                  "[device]\nhw-model = \"admin\"\n[discovery]\nexclude = [\"c\"]\n",
		"/etc/ztp/ztp.toml.d/10-a.toml":   "retry.max = \"1h\"\ndevice = { hw-model = \"ten\" }\n",
		"/etc/ztp/ztp.toml.d/20-b.toml":   "[retry]\nmax = \"2h\"\n[image]\nmax-size = 4096\n",
		"/etc/ztp/ztp.toml.d/30-c.ignore": "not toml at all",
	})
	want := config.Default()
	want.Device.HWModel, want.Device.OSName, want.Device.OSVersion = "ten", "maker", "maker"
	want.Discovery.Exclude = []string{"c"}
	want.Retry.Max = config.Duration(2 * time.Hour)
	want.Image.MaxSize = 4096
	if diff := cmp.Diff([]any{want.Device, want.Discovery, want.Retry, want.Image.MaxSize},
		[]any{got.Device, got.Discovery, got.Retry, got.Image.MaxSize}); diff != "" {
		t.Error(diff)
	}
	var files []string
	for _, f := range got.Files {
		files = append(files, strings.TrimPrefix(f, root))
	}
	if diff := cmp.Diff([]string{
		config.VendorFile, "/usr/lib/ztp/ztp.toml.d/90.toml",
		config.AdminFile, "/etc/ztp/ztp.toml.d/10-a.toml", "/etc/ztp/ztp.toml.d/20-b.toml",
	}, files); diff != "" {
		t.Error(diff)
	}
}

func TestEveryPathIsBelowRoot(t *testing.T) {
	c, root := load(t, map[string]string{
		"/keys/k.tss2": "", config.AdminFile: "[identity]\ntpm = \"unix:/t.sock\"\nkey = \"/keys/k.tss2\"\ncertificate = \"/keys/c.pem\"\n" +
			"decrypt-key = \"/keys/d.pem\"\ndecrypt-certificate = \"/keys/dc.pem\"\n",
	})
	paths := []string{
		strings.TrimPrefix(c.Identity.TPM, "unix:"), c.Identity.Key, c.Identity.Certificate, c.Identity.DecryptKey,
		c.Identity.DecryptCertificate, c.Image.Slots, c.Configuration.Path, c.Configuration.Seed,
		c.Paths.State, c.Paths.Runtime, c.Paths.Status, c.Paths.Onboard, c.Image.Cache,
	}
	paths = append(paths, c.Trust.BootstrapServers...)
	paths = append(paths, c.Trust.Vouchers...)
	paths = append(paths, c.Report.SSHHostKeys...)
	for _, p := range paths {
		if !strings.HasPrefix(p, root+"/") {
			t.Errorf("%s is not below %s", p, root)
		}
	}
	if diff := cmp.Diff(config.Default().Reboot.Command, c.Reboot.Command); diff != "" {
		t.Errorf("a command was relocated: %s", diff)
	}
	c, _ = load(t, nil)
	if c.Identity.Key != "0x81020000" || c.Identity.Certificate != "auto" || c.Identity.TPM != filepath.Join(c.Paths.Root, "/dev/tpmrm0") {
		t.Errorf("identity %+v", c.Identity)
	}
}

func TestNothingEscapesTheRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := config.NewPaths("/r")
		if err != nil {
			t.Fatal(err)
		}
		path := "/" + rapid.StringMatching(`([a-z.]{0,3}/){0,6}[a-z.]{0,3}`).Draw(t, "path")
		for _, got := range []string{p.Below(path), strings.TrimPrefix(p.Below("unix:"+path), "unix:")} {
			if got != "/r" && !strings.HasPrefix(got, "/r/") {
				t.Fatalf("%q became %q", path, got)
			}
		}
	})
}

// TestInvalid names for each mistake the place and a part of the message that a person needs.
func TestInvalid(t *testing.T) {
	tests := map[string]struct{ file, at, message string }{
		"unknown key":         {"[identity]\n\ntmp = \"x\"\n", "3: identity.tmp", "unknown key"},
		"unknown table":       {"[identty]\ntpm = \"none\"\n", "1: identty", "unknown key"},
		"top-level key":       {"tpm = \"none\"\n", "1: tpm", "unknown key"},
		"dotted table":        {"\nrtry.max = \"1h\"\n", "2: rtry", "unknown key"},
		"wrong case":          {"[identity]\nTPM = \"none\"\n", "2: identity.TPM", "unknown key"},
		"key below a key":     {"[identity]\ntpm.path = \"none\"\n", "2: identity.tpm", "want a string"},
		"key below below":     {"[identity.tpm]\npath = \"none\"\n", "1: identity.tpm", "want a string"},
		"table is a value":    {"identity = 3\n", "1: identity", "is not a table"},
		"array of tables":     {"[[identity]]\ntpm = \"none\"\n", "1: identity", "is not a table"},
		"syntax":              {"[identity]\ntpm = \n", "2: ", "expected value"},
		"duplicate":           {"[identity]\ntpm = \"none\"\ntpm = \"none\"\n", "3: ", "already been defined"},
		"not UTF-8":           {"[device]\nhw-model = \"\xff\"\n", "2: ", "UTF-8"},
		"wrong type":          {"[identity]\ntpm = 3\n", "2: identity.tpm", "want a string in quotes, found integer"},
		"wrong list":          {"[discovery]\nsources = \"dhcp\"\n", "2: discovery.sources", "want a list of strings, found string"},
		"wrong element":       {"[discovery]\nsources = [3]\n", "2: discovery.sources", "want a list of strings"},
		"wrong bool":          {"[trust]\nlenient = \"yes\"\n", "2: trust.lenient", "want true or false"},
		"duration":            {"[discovery]\ntimeout = \"1 minute\"\n", "2: discovery.timeout", "not a duration"},
		"duration no unit":    {"[discovery]\ntimeout = 30\n", "2: discovery.timeout", "not a duration"},
		"duration as table":   {"[discovery.timeout]\na = 1\n", "1: discovery.timeout", "found"},
		"vendor class":        {"[discovery]\nvendor-class = \"" + strings.Repeat("x", 256) + "\"\n", "2: discovery.vendor-class", "256 bytes"},
		"duration range":      {"[discovery]\ntimeout = \"0s\"\n", "2: discovery.timeout", "out of range, from 1s to 1h"},
		"size":                {"[image]\nmax-size = \"4 gigs\"\n", "2: image.max-size", "not a size"},
		"size negative":       {"[image]\nmax-size = -1\n", "2: image.max-size", "not a size"},
		"size overflow":       {"[image]\nmax-size = \"9000000TiB\"\n", "2: image.max-size", "more bytes than can be counted"},
		"size range":          {"[scripts]\noutput-limit = 1\n", "2: scripts.output-limit", "out of range"},
		"attempts":            {"[image]\nattempts = 0\n", "2: image.attempts", "out of range, from 1 to 100"},
		"warning is success":  {"[scripts]\nwarning-exit = 0\n", "2: scripts.warning-exit", "out of range"},
		"glob":                {"[discovery]\ninclude = [\n \"eth*\",\n \"en[\",\n]\n", "2: discovery.include", "not a pattern"},
		"file glob":           {"[report]\nssh-host-keys = [\"/etc/[\"]\n", "2: report.ssh-host-keys", "not a pattern"},
		"serial pattern":      {"[device]\nserial-pattern = \"SN:*\"\n", "2: device.serial-pattern", "no \"(*)\""},
		"serial pattern open": {"[device]\nserial-pattern = \"SN:*(*)\"\n", "2: device.serial-pattern", "next to"},
		"control character":   {"[device]\nhw-model = \"a\\u0007\"\n", "2: device.hw-model", "cannot be printed"},
		"url scheme":          {"[discovery]\nwell-known = [\"http://a\"]\n", "2: discovery.well-known", "not of the form"},
		"url path":            {"[discovery]\nwell-known = [\"https://a/b\"]\n", "2: discovery.well-known", "not of the form"},
		"url user":            {"[discovery]\nwell-known = [\"https://u:p@a\"]\n", "2: discovery.well-known", "not of the form"},
		"url port":            {"[discovery]\nwell-known = [\"https://a:70000\"]\n", "2: discovery.well-known", "port out of range"},
		"url without anchor":  {"[discovery]\nwell-known = [\"https://a\"]\n", "2: discovery.well-known", "no trust anchor"},
		"source":              {"[discovery]\nsources = [\"dhcp\", \"usb\"]\n", "2: discovery.sources", "none of removable-storage, dhcp, dns, well-known"},
		"source twice":        {"[discovery]\nsources = [\"dhcp\", \"dhcp\"]\n", "2: discovery.sources", "twice"},
		"no source":           {"[discovery]\nsources = []\n", "2: discovery.sources", "is empty"},
		"assertion":           {"[trust]\nassertions = [\"hearsay\"]\n", "2: trust.assertions", "none of verified"},
		"clock":               {"[trust]\nclock = \"sundial\"\n", "2: trust.clock", "none of auto"},
		"anchor missing":      {"[trust]\nvouchers = [\"/nowhere\"]\n", "2: trust.vouchers", "no such file"},
		"anchor relative":     {"[trust]\nvouchers = [\"a.pem\"]\n", "2: trust.vouchers", "not an absolute path"},
		"tpm":                 {"[identity]\ntpm = \"tpm0\"\n", "2: identity.tpm", "neither a device node"},
		"socket too long":     {"[identity]\ntpm = \"unix:/" + strings.Repeat("x", 110) + "\"\n", "2: identity.tpm", "a unix socket can have 107"},
		"handle":              {"[identity]\nkey = \"0x41\"\n", "2: identity.key", "not a persistent handle"},
		"handle word":         {"[identity]\nkey = \"key\"\n", "2: identity.key", "neither a persistent handle"},
		"nv index":            {"[identity]\ncertificate = \"0x81000000\"\n", "2: identity.certificate", "not a NV index"},
		"trial":               {"[image]\ntrial-timeout = \"30s\"\n", "2: image.trial-timeout", "out of range, from 1m0s to 168h0m0s"},
		"no tpm for handle":   {"[identity]\ntpm = \"none\"\n", "2: identity.tpm", "is the TPM handle 0x81020000"},
		"decrypt key":         {"[identity]\ndecrypt-key = \"0x41\"\n", "2: identity.decrypt-key", "not a persistent handle"},
		"decrypt certificate": {"[identity]\ndecrypt-certificate = \"dc\"\n", "2: identity.decrypt-certificate", "neither a NV index"},
		"no tpm for decrypt": {"[identity]\ntpm = \"none\"\nkey = \"/k\"\ncertificate = \"/c\"\ndecrypt-key = \"0x81020002\"\n",
			"2: identity.tpm", "decrypt-key is the TPM handle 0x81020002"},
		"no tpm for decrypt auto": {"[identity]\ntpm = \"none\"\nkey = \"/k\"\ncertificate = \"/c\"\ndecrypt-key = \"/d\"\n",
			"2: identity.tpm", "decrypt-certificate is \"auto\""},
		"no tpm for auto":     {"[identity]\ntpm = \"none\"\nkey = \"/k\"\n", "2: identity.tpm", "certificate is \"auto\""},
		"installer":           {"[image]\ninstaller = \"rauc\"\n", "2: image.installer", "none of file, efi, grub, command, none"},
		"decompress":          {"[image]\ndecompress = \"lz4\"\n", "2: image.decompress", "none of auto, none, gzip, xz, zstd"},
		"exec without":        {"[configuration]\nhandler = \"exec\"\n", "2: configuration.handler", "command is empty"},
		"reboot":              {"[reboot]\ncommand = []\n", "2: reboot.command", "is empty"},
		"retry":               {"[retry]\nmax = \"1s\"\ninitial = \"2s\"\n", "3: retry.initial", "longer than retry.max"},
		"too large":           {strings.Repeat("#\n", 1<<18), "", "larger than"},
		"overridden mistakes": {"[retry]\nmax = \"1s\"\n", "built-in default: retry.initial", "longer than retry.max"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := write(t, map[string]string{config.AdminFile: tt.file})
			_, err := config.Load(root)
			if err == nil {
				t.Fatal("accepted")
			}
			at := tt.at
			if !strings.HasPrefix(at, "built-in") {
				at = filepath.Join(root, config.AdminFile) + ":"
				if tt.at != "" {
					at += tt.at
				}
			}
			if !strings.HasPrefix(err.Error(), at) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("got  %v\nwant %s… %s", err, at, tt.message)
			}
			if code, hint := reason.Of(err); code != config.Invalid || hint == "" {
				t.Errorf("code %q, hint %q", code, hint)
			}
		})
	}
}

// TestBadValueInWeakerLayer makes sure that a mistake is not hidden by a later file.
func TestBadValueInWeakerLayer(t *testing.T) {
	root := write(t, map[string]string{
		config.VendorFile: "[retry]\nmax = \"1000h\"\n",
		config.AdminFile:  "[retry]\nmax = \"1h\"\n",
	})
	if _, err := config.Load(root); err == nil || !strings.Contains(err.Error(), config.VendorFile+":2: retry.max") {
		t.Errorf("got %v", err)
	}
}

func TestSuggestion(t *testing.T) {
	for wrong, meant := range map[string]string{
		"[identity]\ncertifcate = \"auto\"": "identity.certificate", "[Identity]\ntpm = \"none\"": "identity",
	} {
		_, err := config.Load(write(t, map[string]string{config.AdminFile: wrong}))
		if _, hint := reason.Of(err); hint != fmt.Sprintf("did you mean %s?", meant) {
			t.Errorf("%q: %q", wrong, hint)
		}
	}
}

func TestUnreadableFile(t *testing.T) {
	root := write(t, map[string]string{config.AdminFile + "/x": ""}) // a folder where the file should be
	_, err := config.Load(root)
	if code, _ := reason.Of(err); code != config.Invalid || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
}

// TestSocketInTrustFolder: opening something that is no file must not hang the boot.
func TestSocketInTrustFolder(t *testing.T) {
	root := write(t, map[string]string{"/etc/ztp/trust/vouchers/README": ""})
	listener, err := net.Listen("unix", filepath.Join(root, "etc/ztp/trust/vouchers/s.pem"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = config.Load(root)
	var explained *reason.Error
	if !errors.As(err, &explained) || explained.Code != config.Invalid {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	shipped, err := os.ReadFile("../../systemd/ztp.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(shipped))
	f.Add(strings.ReplaceAll(string(shipped), "\n#", "\n"))
	f.Add("[retry]\nmax = \"1s\"\ninitial = \"2s\"\n")
	f.Add("a.b.c = [[1]]\n[identity.tpm]\n[[x]]")
	f.Fuzz(func(t *testing.T, content string) {
		root := write(t, map[string]string{config.AdminFile: content})
		first, err := config.Load(root)
		if err != nil {
			if code, _ := reason.Of(err); code != config.Invalid {
				t.Fatalf("code %q for %v", code, err)
			}
			return
		}
		again, err := config.Load(root)
		if diff := cmp.Diff(first, again, cmp.AllowUnexported(signature.Signers{})); err != nil || diff != "" {
			t.Fatalf("reading twice differs: %v %s", err, diff)
		}
	})
}
