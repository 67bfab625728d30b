package seed

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	cloudConfig = "#cloud-config\nhostname: dpu-7\nntp:\n  enabled: true\n"
	script      = "#!/bin/sh\necho hello\n"
	archive     = "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    timezone: UTC\n- |\n  #!/bin/sh\n  true\n"
	network     = "version: 2\nethernets:\n  oob_net0: {dhcp4: true}\n"
)

// message is a MIME message as other programs make it.
func message(parts ...string) string {
	return "Content-Type: multipart/mixed; boundary=\"==b==\"\nMIME-Version: 1.0\nNumber-Attachments: 9\n\n--==b==\n" +
		strings.Join(parts, "\n--==b==\n") + "\n--==b==--\n"
}

func named(name, content string) string {
	return "Content-Type: text/plain\nContent-Disposition: attachment; filename=\"" + name + "\"\n\n" + content
}

func TestNew(t *testing.T) {
	tests := map[string]struct {
		configuration string
		want          []string // files besides meta-data
		err           string
	}{
		"cloud-config":         {cloudConfig, []string{UserData}, ""},
		"carriage returns":     {"#cloud-config\r\nhostname: x\r\n", []string{UserData}, ""},
		"script":               {script, []string{UserData}, ""},
		"archive":              {archive, []string{UserData}, ""},
		"include":              {"#include https://192.0.2.1/x\n", []string{UserData}, ""},
		"jinja":                {"## template: jinja\n" + cloudConfig, []string{UserData}, ""},
		"compressed":           {"\x1f\x8b\x08\x00", []string{UserData}, ""},
		"message":              {message("Content-Type: text/cloud-config\n\n" + cloudConfig), []string{UserData}, ""},
		"whole seed":           {message(named(UserData, cloudConfig), named(NetworkConfig, network), named(VendorData, script)), []string{NetworkConfig, UserData, VendorData}, ""},
		"nothing":              {"", nil, "no user-data"},
		"blank":                {" \n", nil, "is empty"},
		"plain yaml":           {"hostname: x\n", nil, `"hostname: x", is none by which cloud-init knows`},
		"almost cloud-config":  {"#cloud-configuration\n", nil, "is none by which"},
		"comment first":        {"# comment\n#cloud-config\n", nil, "is none by which"},
		"argument":             {"#cloud-config hostname: x\n", nil, "is none by which"},
		"jinja of nothing":     {"## template: jinja\nhostname: x\n", nil, "is none by which"},
		"binary":               {"#cloud-config\n\x00", nil, "neither text"},
		"latin-1":              {"#cloud-config\nx: \xe4\n", nil, "neither text"},
		"too large":            {cloudConfig + strings.Repeat("#", MaxSize), nil, "more than 16777216"},
		"seed without user":    {message(named(NetworkConfig, network)), nil, "no user-data"},
		"seed and more":        {message(named(UserData, cloudConfig), named("script.sh", script)), nil, "some of its parts"},
		"seed with two":        {message(named(UserData, cloudConfig), named(UserData, script)), nil, "two parts named user-data"},
		"seed with meta-data":  {message(named(UserData, cloudConfig), named(MetaData, "instance-id: x\n")), nil, "ztp makes itself"},
		"bad file of a seed":   {message(named(UserData, "hostname: x")), nil, "user-data: its first line"},
		"empty network-config": {message(named(UserData, cloudConfig), named(NetworkConfig, " ")), nil, "network-config: it is empty"},
		"no end":               {strings.TrimSuffix(message(named(UserData, cloudConfig)), "--==b==--\n"), nil, "no end"},
		"part without an end":  {message("Content-Type: text/x-shellscript"), nil, "part 1: its header cannot be read"},
		"quoted-printable":     {message("Content-Transfer-Encoding: quoted-printable\n" + named(UserData, "=23!/bin/sh")), nil, "unknown Content-Transfer-Encoding"},
		"no boundary":          {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary\n\n", nil, "Content-Type cannot be read"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := New([]byte(tt.configuration))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range append(tt.want, MetaData) {
				if s[file] == nil {
					t.Errorf("no %s", file)
				}
			}
			if len(s) != len(tt.want)+1 || ID(s[MetaData]) == "" {
				t.Errorf("got %q", s)
			}
		})
	}
}

// TestIDFollowsTheContent: the same content is the same instance, and any other is another.
func TestIDFollowsTheContent(t *testing.T) {
	seen := map[string]string{}
	for name, configuration := range map[string]string{
		"a":       cloudConfig,
		"b":       cloudConfig + "\n",
		"network": message(named(UserData, cloudConfig), named(NetworkConfig, network)),
		"vendor":  message(named(UserData, cloudConfig), named(VendorData, cloudConfig)),
	} {
		one, err := New([]byte(configuration))
		if err != nil {
			t.Fatal(err)
		}
		two, _ := New([]byte(configuration))
		id := ID(one[MetaData])
		if other, known := seen[id]; known || id != ID(two[MetaData]) {
			t.Errorf("%s has the id of %q, or not the same twice", name, other)
		}
		seen[id] = name
	}
	if id := ID([]byte("instance-id: iid-local01\n")); id != "" {
		t.Errorf("took %s for ours", id)
	}
}

func TestMerge(t *testing.T) {
	present := Seed{
		UserData: []byte(script), NetworkConfig: []byte(network), VendorData: []byte(cloudConfig),
		MetaData: []byte("---\n# by the factory\n\"instance-id\": >-\n  iid-local01\nlocal-hostname: dpu-1\npublic-keys:\n  - a\n"),
	}
	s, err := Merge(present, []byte(cloudConfig))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		NetworkConfig: network, VendorData: cloudConfig,
		MetaData: "instance-id: " + ID(s[MetaData]) + "\n# by the factory\nlocal-hostname: dpu-1\npublic-keys:\n  - a\n",
	} {
		if diff := cmp.Diff(want, string(s[name])); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	again, err := Merge(s, []byte(cloudConfig))
	if diff := cmp.Diff(s, again); diff != "" || err != nil {
		t.Errorf("the second time: %v %s", err, diff)
	}
	for name, tt := range map[string]struct {
		present       Seed
		configuration string
		err           string
	}{
		"other network":         {present, message(named(UserData, cloudConfig), named(NetworkConfig, "version: 1\n")), "another network-config"},
		"present is compressed": {Seed{UserData: []byte("\x1f\x8b")}, cloudConfig, "compressed"},
		"new is compressed":     {present, "\x1f\x8b", "compressed"},
		"meta-data in JSON":     {Seed{MetaData: []byte(`{"instance-id": "x"}`)}, cloudConfig, "usual lines"},
		"meta-data is indented": {Seed{MetaData: []byte("  instance-id: x\n")}, cloudConfig, "indented"},
		"meta-data is a text":   {Seed{MetaData: []byte("instance-id\n")}, cloudConfig, "usual lines"},
		"two documents":         {Seed{MetaData: []byte("a: b\n---\nc: d\n")}, cloudConfig, "usual lines"},
		"broken message":        {Seed{UserData: []byte("MIME-Version: 1.0\nnonsense\n\n")}, cloudConfig, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Merge(tt.present, []byte(tt.configuration)); !errors.Is(err, ErrMerge) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q in it", err, tt.err)
			}
		})
	}
}

// reading is what cloud-init makes of a seed.
type reading struct {
	ID       string
	Parts    [][2]string
	Config   map[string]any
	Network  map[string]any
	Vendor   [][2]string
	Hostname string
}

// read has cloud-init itself read a seed.
func (s Seed) read(t *testing.T) reading {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "nocloud"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range s {
		if err := os.WriteFile(filepath.Join(dir, "nocloud", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "testdata/read.py", dir, t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var r reading
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	return r
}

// TestCloudInitReads has cloud-init judge what becomes of configurations.
func TestCloudInitReads(t *testing.T) {
	const (
		config, shell = "text/cloud-config", "text/x-shellscript"
		later         = "#cloud-config\nhostname: später\n"
	)
	tests := map[string]struct {
		present string // user-data; empty replaces
		add     string
		want    [][2]string
		host    string
	}{
		"replace":          {"", cloudConfig, [][2]string{{config, cloudConfig}}, "dpu-7"},
		"script":           {"", script, [][2]string{{shell, script}}, ""},
		"later wins":       {cloudConfig, later, [][2]string{{config, cloudConfig}, {config, later}}, "später"},
		"script first":     {script, cloudConfig, [][2]string{{shell, script}, {config, cloudConfig}}, "dpu-7"},
		"carriage returns": {script, "#cloud-config\r\nhostname: x\r\n", [][2]string{{shell, script}, {config, "#cloud-config\r\nhostname: x\r\n"}}, "x"},
		"archive":          {archive, cloudConfig, [][2]string{{config, "timezone: UTC\n"}, {shell, "#!/bin/sh\ntrue\n"}, {config, cloudConfig}}, "dpu-7"},
		"message of others": {message("Content-Type: text/cloud-config\n\n"+cloudConfig, "Content-Type: text/x-shellscript\n\n"+script), later,
			[][2]string{{config, cloudConfig}, {shell, script}, {config, later}}, "später"},
		"nested": {message("Content-Type: multipart/mixed; boundary=in\n\n--in\nContent-Type: text/plain\n\n" + script + "\n--in--"), cloudConfig,
			[][2]string{{shell, script}, {config, cloudConfig}}, "dpu-7"},
		"message added":         {cloudConfig, message("Content-Type: text/x-shellscript\n\n" + script), [][2]string{{config, cloudConfig}, {shell, script}}, "dpu-7"},
		"looks like a boundary": {script, "#cloud-config\nhostname: dpu-7\n#--==b==--\n", [][2]string{{shell, script}, {config, "#cloud-config\nhostname: dpu-7\n#--==b==--\n"}}, "dpu-7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := New([]byte(tt.add))
			if tt.present != "" {
				s, err = Merge(Seed{UserData: []byte(tt.present), MetaData: []byte("instance-id: x\nlocal-hostname: kept\n")}, []byte(tt.add))
			}
			if err != nil {
				t.Fatal(err)
			}
			got := s.read(t)
			if diff := cmp.Diff(tt.want, got.Parts); diff != "" {
				t.Errorf("%s\nin %s", diff, s[UserData])
			}
			if host, _ := got.Config["hostname"].(string); host != tt.host {
				t.Errorf("hostname %q", host)
			}
			if got.ID != ID(s[MetaData]) || (got.Hostname == "kept") != (tt.present != "") {
				t.Errorf("meta-data %+v", got)
			}
		})
	}
}

// TestWholeSeed takes apart what cloud-init's own tool has put together.
func TestWholeSeed(t *testing.T) {
	dir := t.TempDir()
	var arguments []string
	for name, content := range map[string]string{UserData: cloudConfig, VendorData: script, NetworkConfig: network} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		arguments = append(arguments, "--attach", filepath.Join(dir, name)+":plain")
	}
	made, err := exec.Command("cloud-init", append([]string{"devel", "make-mime", "--force"}, arguments...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(made)
	if err != nil {
		t.Fatalf("%v: %s", err, made)
	}
	got := s.read(t)
	if got.Config["hostname"] != "dpu-7" || got.Network["version"] != 2.0 || len(got.Vendor) != 1 || got.Vendor[0][1] != script {
		t.Errorf("cloud-init reads %+v", got)
	}
}

// FuzzMerge merges anything into anything: the result is a seed with an id, and merging the same again changes nothing.
func FuzzMerge(f *testing.F) {
	for _, present := range []string{"", script, cloudConfig, archive, message("Content-Type: text/x-shellscript\n\n" + script)} {
		f.Add([]byte(present), []byte("instance-id: x\nlocal-hostname: y\n"), []byte(cloudConfig))
		f.Add([]byte(cloudConfig), []byte("---\n{}"), []byte(present))
	}
	f.Add([]byte(script), []byte("a:\n  b\n"), []byte(message(named(UserData, script), named(NetworkConfig, network))))
	f.Fuzz(func(t *testing.T, userData, metaData, configuration []byte) {
		s, err := Merge(Seed{UserData: userData, MetaData: metaData}, configuration)
		if err != nil {
			return
		}
		if ID(s[MetaData]) == "" || len(s[UserData]) == 0 {
			t.Fatalf("made %q", s)
		}
		again, err := Merge(s, configuration)
		if diff := cmp.Diff(s, again); diff != "" || err != nil {
			t.Fatalf("merged again: %v %s", err, diff)
		}
	})
}
