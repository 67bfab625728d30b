package onboard

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xpu-sztp/ztp/pkg/config"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// TestHostileScripts have scripts do what no script should. Each comes to its verdict in good time, with output that is bounded,
// and leaves nothing behind: neither processes nor files in the private folder.
func TestHostileScripts(t *testing.T) {
	tests := map[string]struct {
		script string
		want   reason.Code
		says   string // in the report
	}{
		"floods for ever":          {"yes", ReasonScriptTimeout, "bytes left out"},
		"floods both streams":      {"yes >&2 & yes", ReasonScriptTimeout, "bytes left out"},
		"closes its streams":       {"echo before; exec >&- 2>&- <&-; exit 0", "", "before"},
		"leaves a writer behind":   {"echo before; (exec setsid sh -c 'while :; do echo x; sleep 0.01; done') & exit 0", "", "before"},
		"ignores every request":    {"trap '' TERM HUP INT QUIT; echo mine; while :; do sleep 1; done", ReasonScriptTimeout, "mine"},
		"stops itself":             {"echo stopped; kill -STOP $$", ReasonScriptTimeout, "stopped"},
		"kills its group":          {"echo bye; kill -KILL 0", ReasonScriptKilled, "bye"},
		"a tree of processes":      {"n() { [ $1 -eq 0 ] && exec sleep 1000; n $(($1 - 1)) & n $(($1 - 1)) & wait; }; n 6", ReasonScriptTimeout, ""},
		"daemons without a name":   {"for i in 1 2 3 4 5; do (env -i /usr/bin/setsid /bin/sleep 1000 &) ; done; exit 0", "", ""},
		"removes itself":           {"rm -f -- \"$0\"; exit 1", ReasonScriptFailed, ""},
		"removes its folder":       {"cd /; rm -rf \"$HOME\"; exit 0", "", ""},
		"fills its folder":         {"mkdir -p a/b/c; chmod 0 a; exit 0", "", ""},
		"replaces the work folder": {"cd ..; rm -rf work; ln -s /etc work; exit 0", "", ""},
		"reads its input":          {"cat; exit 0", "", ""},
		"a huge line":              {"head -c 5000000 /dev/zero | tr '\\0' y; exit 0", "", "bytes left out"},
		"control characters":       {"printf '\\033[2J\\007\\000\\377\\n'; exit 1", ReasonScriptFailed, "\uFFFD[2J"},
	}
	t.Cleanup(func() {
		if _, err := os.Stat("/etc/passwd"); err != nil {
			t.Error("a script's symbolic link was followed")
		}
	})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.opts.Scripts.Timeout = config.Duration(2 * time.Second)
			begun := time.Now()
			_, err := r.run(progress.Verbose, plan{pre: sh("echo $$ >" + r.dir + "/pid\n" + tt.script)})
			wantCode(t, err, tt.want)
			if took := time.Since(begun); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			report := progress.PreScriptComplete
			if tt.want != "" {
				report = progress.PreScriptError
			}
			said := r.server.message(report)
			if !strings.Contains(said, tt.says) || len(said) > int(r.opts.Scripts.OutputLimit)+1000 {
				t.Errorf("reported %d bytes, %.200q, want %q in it", len(said), said, tt.says)
			}
			wantNothingStaged(t, r)
			wantNobodyLeft(t, r)
		})
	}
}

// wantNobodyLeft looks for processes that have the device's folder as their working directory or have the session's mark.
func wantNobodyLeft(t *testing.T, r *rig) {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		place, _ := os.Readlink(filepath.Join(folder, "cwd"))
		environment, _ := os.ReadFile(filepath.Join(folder, "environ"))
		if filepath.Base(folder) == "self" || !strings.HasPrefix(place, r.dir+"/") && !strings.Contains(string(environment), "ZTP_ROOT="+r.dir+"\x00") {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		var status syscall.Stat_t
		if syscall.Stat(folder, &status) == nil { // it may have ended meanwhile
			t.Errorf("%s is left: %q", folder, command)
		}
	}
}
