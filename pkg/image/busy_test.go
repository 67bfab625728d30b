package image_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpu-sztp/ztp/pkg/image"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// A mirror that asks to come back later is asked later, when there is time for that, and others meanwhile.
func TestBusyMirrors(t *testing.T) {
	b := content(1000)
	after := func(value string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	date := func(d time.Duration) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) { // whose clock is a year off, as the device's may be
			now := time.Now().AddDate(1, 0, 0).UTC()
			w.Header().Set("Date", now.Format(http.TimeFormat))
			after(now.Add(d).Format(http.TimeFormat))(w)
		}
	}
	good := func(w http.ResponseWriter) { w.Write(b) }
	tests := []struct {
		name    string
		mirrors map[string][]func(http.ResponseWriter) // what each answers, the last one for ever
		order   string
		want    string // who is asked, in order
		least   time.Duration
		most    time.Duration
		code    reason.Code
	}{
		{"seconds", map[string][]func(http.ResponseWriter){"a": {after("60"), good}}, "a", "aa", time.Minute, 90 * time.Second, ""},
		{"date", map[string][]func(http.ResponseWriter){"a": {date(time.Minute), good}}, "a", "aa", time.Minute, 90 * time.Second, ""},
		{"too many requests", map[string][]func(http.ResponseWriter){"a": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		}, good}}, "a", "aa", time.Minute, 90 * time.Second, ""},
		{"does not say when", map[string][]func(http.ResponseWriter){"a": {after("soon"), after("0"), after("-1"), good}}, "a", "aaaa", time.Second, 6 * time.Second, ""},
		{"longer than anybody would wait", map[string][]func(http.ResponseWriter){"a": {after("86400"), good}}, "a", "aa", 10 * time.Minute, 15 * time.Minute, ""},
		{"again and again", map[string][]func(http.ResponseWriter){"a": {after("60")}}, "a", "aaaaaaaaa", 8 * time.Minute, 12 * time.Minute, image.CodeBusy},
		{"longer than there is time", map[string][]func(http.ResponseWriter){"a": {after("3600"), after("3600"), good}}, "a", "a", 0, time.Second, image.CodeBusy},
		{"the next one has it", map[string][]func(http.ResponseWriter){"a": {after("60"), good}, "b": {good}}, "ab", "ab", 0, time.Second, ""},
		{"the next one fails", map[string][]func(http.ResponseWriter){"a": {after("60"), good}, "b": {func(w http.ResponseWriter) { w.WriteHeader(404) }}},
			"ab", "aba", time.Minute, 90 * time.Second, ""},
		{"whoever is ready first", map[string][]func(http.ResponseWriter){"a": {after("300"), good}, "b": {after("60"), good}}, "ab", "abb", time.Minute, 90 * time.Second, ""},
		{"both are ready", map[string][]func(http.ResponseWriter){"a": {after("30"), good}, "b": {after("0"), after("120"), good}}, "ab", "abba", 30 * time.Second, 45 * time.Second, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
				asked := ""
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					who := r.URL.Path[1:]
					asked += who
					answers := tt.mirrors[who]
					if len(answers) > 1 {
						tt.mirrors[who] = answers[1:]
					}
					answers[0](w)
				})}
				go server.Serve(network)
				defer server.Shutdown(context.Background())
				var uris []string
				for _, who := range tt.order {
					uris = append(uris, "http://mirror.example/"+string(who))
				}
				r := request(b, uris...)
				r.Network, r.RetryWait = network, 0
				if tt.code == image.CodeBusy && tt.want == "a" {
					r.Timeout = 9 * time.Minute
				}
				started := time.Now()
				_, err := image.Fetch(t.Context(), r, &memory{})
				wantCode(t, err, tt.code)
				if took := time.Since(started); took < tt.least || took > tt.most {
					t.Errorf("took %v, want %v to %v", took, tt.least, tt.most)
				}
				if tt.want != "" && asked != tt.want {
					t.Errorf("asked %s, want %s", asked, tt.want)
				}
			})
		})
	}
}

// Devices that were turned away at one instant do not come back at one.
func TestBusyMirrorsAreNotStormed(t *testing.T) {
	b := content(1000)
	var waits []time.Duration
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			network := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
			started := time.Now()
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if time.Since(started) < time.Minute {
					w.Header().Set("Retry-After", "60")
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				waits = append(waits, time.Since(started))
				w.Write(b)
			})}
			go server.Serve(network)
			defer server.Shutdown(context.Background())
			r := request(b, "http://mirror.example/os.img")
			r.Network = network
			if _, err := image.Fetch(t.Context(), r, &memory{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	if first, last := slices.Min(waits), slices.Max(waits); last-first < 10*time.Second {
		t.Errorf("all came back between %v and %v", first, last)
	}
}

// What a mirror that became busy in the middle has sent is not lost.
func TestBusyInTheMiddle(t *testing.T) {
	b := content(1 << 20)
	var got []asked
	n := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, asked{r.Header.Get("Range"), r.Header.Get("If-Range")})
		switch n++; n {
		case 1:
			cutting(file(b, `"v1"`), 1<<19)(w, r)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			file(b, `"v1"`)(w, r)
		}
	})
	var sink memory
	if _, err := image.Fetch(t.Context(), request(b, url), &sink); err != nil {
		t.Fatal(err)
	}
	wantImage(t, &sink, b)
	if diff := cmp.Diff([]asked{{}, {"bytes=524288-", `"v1"`}, {"bytes=524288-", `"v1"`}}, got); diff != "" {
		t.Error(diff)
	}
}
