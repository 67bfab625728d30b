package onboard

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

func configuration(h artifacts.Handling, data string) *artifacts.Configuration {
	return &artifacts.Configuration{Handling: h, Data: []byte(data)}
}

func TestConfigurationFile(t *testing.T) {
	tests := []struct {
		name string
		old  string // "" is no file
		data *artifacts.Configuration
		want string
		code reason.Code
	}{
		{"replace", "anything", configuration(artifacts.Replace, "hostname x\n"), "hostname x\n", ""},
		{"replace-nothing", "", configuration(artifacts.Replace, "hostname x\n"), "hostname x\n", ""},
		{"replace-by-nothing", "anything", configuration(artifacts.Replace, ""), "", ""},
		{"merge", `{"a":{"b":1,"c":2},"d":[1]}`, configuration(artifacts.Merge, `{"a":{"b":null,"x":"<>"},"d":[2]}`),
			"{\n  \"a\": {\n    \"c\": 2,\n    \"x\": \"<>\"\n  },\n  \"d\": [\n    2\n  ]\n}\n", ""},
		{"merge-keeps-digits", `{"n":12345678901234567890.10}`, configuration(artifacts.Merge, `{}`),
			"{\n  \"n\": 12345678901234567890.10\n}\n", ""},
		{"merge-into-nothing", "", configuration(artifacts.Merge, `{"a":1,"b":null}`), "{\n  \"a\": 1\n}\n", ""},
		{"merge-text", `{}`, configuration(artifacts.Merge, "hostname x\n"), "", ReasonConfigMerge},
		{"merge-array", `{}`, configuration(artifacts.Merge, "[]"), "", ReasonConfigMerge},
		{"merge-null", `{}`, configuration(artifacts.Merge, "null"), "", ReasonConfigMerge},
		{"merge-two-values", `{}`, configuration(artifacts.Merge, "{}{}"), "", ReasonConfigMerge},
		{"merge-bomb", `{}`, configuration(artifacts.Merge, strings.Repeat(`{"a":`, 100000)), "", ReasonConfigMerge},
		{"merge-into-text", "hostname y\n", configuration(artifacts.Merge, `{}`), "", ReasonConfigMerge},
		{"unknown-handling", "{}", configuration("upsert", "{}"), "", ReasonConfigMerge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			path := r.opts.Configuration.Path
			wantMode := os.FileMode(0o600)
			if tt.old != "" {
				put(t, path, tt.old, 0o600)
				wantMode = 0o751 | os.ModeSetuid
				if err := errors.Join(os.Chown(path, 12, 34), os.Chmod(path, wantMode)); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, r.dir)
			_, err := r.run(progress.Minimal, plan{config: tt.data})
			wantCode(t, err, tt.code)
			if tt.code != "" {
				if diff := cmp.Diff(before, tree(t, r.dir)); diff != "" {
					t.Error(diff)
				}
				return
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v", got, err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != wantMode {
				t.Errorf("mode %v, %v; want %v", info.Mode(), err, wantMode)
			}
			if st := info.Sys().(*syscall.Stat_t); tt.old != "" && (st.Uid != 12 || st.Gid != 34) {
				t.Errorf("owner %d:%d", st.Uid, st.Gid)
			}
			wantNothingStaged(t, r)
		})
	}
}

// TestConfigurationCommitFails lets the commit fail after everything was prepared.
func TestConfigurationCommitFails(t *testing.T) {
	r := newRig(t)
	path := r.opts.Configuration.Path
	put(t, path, "old", 0o640)
	// A folder that cannot be removed has the name of the temporary file, until the undo, which must not fail over it.
	block := filepath.Join(filepath.Dir(path), ".config.json.ztp-new")
	put(t, filepath.Join(block, "x"), "", 0o600)
	_, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, "new")})
	wantCode(t, err, ReasonConfigFile)
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("the old configuration became %q", got)
	}
	os.RemoveAll(block)
	if err := New(r.opts).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" || len(r.record(t).Journal) > 0 {
		t.Errorf("after recovery: %q, journal %v", got, r.record(t).Journal)
	}
}

func TestConfigurationFilePaths(t *testing.T) {
	t.Run("symbolic-link", func(t *testing.T) {
		r := newRig(t)
		path, target := r.opts.Configuration.Path, filepath.Join(r.dir, "elsewhere", "real.json")
		put(t, target, "old", 0o640)
		put(t, filepath.Join(filepath.Dir(path), "x"), "", 0o600)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		before := tree(t, r.dir)
		r.server.refuse[progress.BootstrapComplete] = 500
		r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, "new")})
		if diff := cmp.Diff(before, tree(t, r.dir)); diff != "" {
			t.Error(diff)
		}
		r.server = &server{}
		if _, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, "new")}); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(target); string(got) != "new" {
			t.Errorf("the target of the link reads %q", got)
		}
	})
	t.Run("link-to-nothing", func(t *testing.T) {
		r := newRig(t)
		put(t, filepath.Join(r.dir, "etc", "x"), "", 0o600)
		if err := os.Symlink("/no/such/file", r.opts.Configuration.Path); err != nil {
			t.Fatal(err)
		}
		_, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, "new")})
		wantCode(t, err, ReasonConfigFile)
	})
	t.Run("folder", func(t *testing.T) {
		r := newRig(t)
		put(t, filepath.Join(r.opts.Configuration.Path, "x"), "", 0o600)
		_, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, "new")})
		wantCode(t, err, ReasonConfigFile)
	})
	t.Run("missing-folders", func(t *testing.T) {
		r := newRig(t)
		r.opts.Configuration.Path = filepath.Join(r.dir, "one", "two", "config")
		before := tree(t, r.dir)
		r.server.refuse[progress.BootstrapComplete] = 500
		r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, "new")})
		if diff := cmp.Diff(before, tree(t, r.dir)); diff != "" {
			t.Errorf("folders stayed: %s", diff)
		}
	})
}

func TestConfigurationDamagedBackup(t *testing.T) {
	r := newRig(t)
	put(t, r.opts.Configuration.Path, "old", 0o600)
	p := plan{
		config: configuration(artifacts.Replace, "new"),
		post:   sh("echo damaged >" + filepath.Join(r.opts.Dir, backupConfig) + "; exit 1"),
	}
	_, err := r.run(progress.Minimal, p)
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(r.opts.Configuration.Path); string(got) != "new" {
		t.Errorf("a damaged backup was restored: %q", got)
	}
}

func TestConfigurationExec(t *testing.T) {
	tests := []struct {
		name  string
		body  string
		fails bool // something after the commit fails
		want  reason.Code
		trace []string
	}{
		{"commit", "", false, "", []string{"-x merge: data"}},
		{"warning", "exit 10", false, "", []string{"-x merge: data"}},
		{"undone", "", true, ReasonReport, []string{"-x merge: data", "-x undo: data"}},
		{"fails", "[ $2 = undo ] || exit 1", false, ReasonConfigFailed, []string{"-x merge: data", "-x undo: data"}},
		{"signal", "[ $2 = undo ] || kill -9 $$", false, ReasonConfigKilled, []string{"-x merge: data", "-x undo: data"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			handler := filepath.Join(r.dir, "handler")
			put(t, handler, "#!/bin/sh\necho \"$1 $2: $(cat)\" >>"+r.dir+"/trace\necho output of handler\n"+tt.body+"\n", 0o755)
			r.opts.Configuration.Handler, r.opts.Configuration.Command = "exec", []string{handler, "-x"}
			if tt.fails {
				r.server.refuse[progress.BootstrapComplete] = 500
			}
			_, err := r.run(progress.Verbose, plan{config: configuration(artifacts.Merge, "data")})
			wantCode(t, err, tt.want)
			if _, hint := reason.Of(err); err != nil && hint == "" {
				t.Errorf("no hint with %v", err)
			}
			if diff := cmp.Diff(tt.trace, r.trace()); diff != "" {
				t.Error(diff)
			}
			report := map[string]progress.Type{"warning": progress.ConfigWarning, "fails": progress.ConfigError}[tt.name]
			if report != "" && !strings.Contains(r.server.message(report), "output of handler") {
				t.Errorf("%s says %q", report, r.server.message(report))
			}
			wantNothingStaged(t, r)
		})
	}
	t.Run("missing", func(t *testing.T) {
		r := newRig(t)
		r.opts.Configuration.Handler, r.opts.Configuration.Command = "exec", []string{"/no/such/handler"}
		_, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Merge, "data")})
		wantCode(t, err, ReasonConfigStart)
		if strings.Contains(err.Error(), "undo") || len(r.record(t).Journal) > 0 {
			t.Errorf("something is to be undone: %v, %+v", err, r.record(t).Journal)
		}
	})
}

func TestConfigurationNoHandler(t *testing.T) {
	r := newRig(t)
	r.opts.Configuration.Handler = "none"
	_, err := r.run(progress.Minimal, plan{config: configuration(artifacts.Replace, "x")})
	wantCode(t, err, ReasonConfigNoHandler)
	if outcome, err := r.run(progress.Minimal, plan{}); outcome != Complete {
		t.Errorf("without a configuration: %v", err)
	}
}

// TestMergePatchRFC7396 is appendix A of RFC 7396, as far as both sides are objects.
func TestMergePatchRFC7396(t *testing.T) {
	for _, tt := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		got, err := mergePatch([]byte(tt[0]), []byte(tt[1]))
		if err != nil || !cmp.Equal(decoded(t, got), decoded(t, []byte(tt[2]))) {
			t.Errorf("%s merged into %s is %s, %v; want %s", tt[1], tt[0], got, err, tt[2])
		}
	}
}

func decoded(t interface{ Fatal(...any) }, data []byte) (v any) {
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestMergePatchIsIdempotent: a session that is repeated after a power cut ends where the first one would have.
func TestMergePatchIsIdempotent(t *testing.T) {
	object := rapid.MapOfN(rapid.StringMatching("[a-c]"), rapid.OneOf(
		rapid.Just[any](nil), rapid.Just[any]("x"), rapid.Just[any]([]any{1.0}),
		rapid.Map(rapid.MapOfN(rapid.StringMatching("[a-c]"), rapid.SampledFrom([]any{nil, "y", 2.0}), 0, 3),
			func(m map[string]any) any { return m }),
	), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		present, _ := json.Marshal(object.Draw(t, "present"))
		patch, _ := json.Marshal(object.Draw(t, "patch"))
		once, err := mergePatch(present, patch)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := mergePatch(once, patch)
		if err != nil || string(once) != string(twice) {
			t.Fatalf("once %s, twice %s, %v", once, twice, err)
		}
	})
}
