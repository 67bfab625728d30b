package onboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/durable"
	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// A download that the end of the process interrupts goes on where it was, in the next one.
func TestDownloadGoesOn(t *testing.T) {
	r := imageRig(t)
	r.opts.Checkpoints = image.CheckpointFile{FS: durable.OS{}, Path: filepath.Join(r.dir, "state", "image-checkpoint")}
	content := bytes.Repeat([]byte("AcmeOS 2"), 1<<14)
	half := len(content) / 2
	ctx, stop := context.WithCancel(t.Context())
	var ranges []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ranges = append(ranges, req.Header.Get("Range"))
		w.Header().Set("ETag", `"2"`)
		switch len(ranges) {
		case 1: // the network fails,
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			w.Write(content[:half])
		case 2: // and then the device
			stop()
			<-req.Context().Done()
		default:
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
		}
	}))
	defer server.Close()
	sum := sha256.Sum256(content)
	p := plan{boot: &artifacts.BootImage{OSName: "AcmeOS", OSVersion: "2", URIs: []string{server.URL}, SHA256: sum[:]}}
	_, err := New(r.opts).execute(ctx, Request{Reporter: r.server, Level: progress.Minimal, Network: loopback{}}, p)
	wantCode(t, err, reason.Cancelled)
	r.installs(t, p)
	behind := fmt.Sprintf("bytes=%d-", half)
	if diff := cmp.Diff([]string{"", behind, behind}, ranges); diff != "" {
		t.Error(diff)
	}
	downloads := r.board.Snapshot().Downloads
	if last := downloads[len(downloads)-1]; last.Resumed != int64(half) || last.Requests != 1 || last.Bytes != int64(len(content)) {
		t.Errorf("shown as %+v", last)
	}
}
