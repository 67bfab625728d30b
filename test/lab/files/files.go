// Package files is an HTTPS file server with strong entity tags and byte ranges, as images are downloaded from, that can be
// told to spoil what it serves.
package files

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/xpu-sztp/ztp/test/lab/event"
)

// Server serves byte slices by name. The zero value needs Certificate only for Serve with TLS.
type Server struct {
	Name        string // for events; default "files"
	Certificate *tls.Certificate
	Log         *event.Log

	once   sync.Once
	http   *http.Server
	mu     sync.Mutex
	files  map[string][]byte
	faults map[string]Fault
}

// Fault spoils one file.
type Fault struct {
	Status int   // answer with this status and no file
	Flip   bool  // serve bytes of which one is wrong
	CutAt  int64 // cut the connection after so many bytes of an answer; 0 means never
	Times  int   // how often; 0 means for ever
	// Amid is called in the middle of an answer, which goes on when it returns.
	Amid func()
	// Pace is called after each piece of an answer, with how much of it was sent; the answer goes on when it returns.
	Pace func(sent int64)
}

// Put serves content as /name and returns its SHA-256.
func (s *Server) Put(name string, content []byte) [sha256.Size]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[string][]byte{}
	}
	s.files["/"+name] = content
	return sha256.Sum256(content)
}

// Misbehave spoils the file called name.
func (s *Server) Misbehave(name string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		s.faults = map[string]Fault{}
	}
	s.faults["/"+name] = f
}

// Behave ends all misbehaviour.
func (s *Server) Behave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Serve accepts connections on l until Close: with TLS when a certificate is set, plain HTTP otherwise.
func (s *Server) Serve(l net.Listener) error {
	s.init()
	if s.Certificate == nil {
		return s.http.Serve(l)
	}
	return s.http.ServeTLS(l, "", "")
}

// Close ends Serve.
func (s *Server) Close() error {
	s.init()
	return s.http.Close()
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.Name == "" {
			s.Name = "files"
		}
		if s.Log == nil {
			s.Log = &event.Log{}
		}
		s.http = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
		if s.Certificate != nil {
			s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*s.Certificate}}
		}
	})
}

// ServeHTTP answers GET and HEAD.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.init()
	s.mu.Lock()
	content, ok := s.files[r.URL.Path]
	fault := s.takeFault(r.URL.Path)
	s.mu.Unlock()
	counted := &counter{ResponseWriter: w, status: http.StatusOK, limit: fault.CutAt, half: int64(len(content)) / 2, amid: fault.Amid, pace: fault.Pace}
	defer s.note(r, counted)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(counted, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	case fault.Status != 0:
		http.Error(counted, "spoiled on purpose", fault.Status)
		return
	case !ok:
		http.NotFound(counted, r)
		return
	}
	sum := sha256.Sum256(content)
	if fault.Flip {
		content = bytes.Clone(content)
		content[len(content)/2] ^= 1
	}
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(counted, r, "", time.Time{}, bytes.NewReader(content))
}

func (s *Server) takeFault(path string) Fault {
	f, ok := s.faults[path]
	if ok && f.Times == 1 {
		delete(s.faults, path)
	} else if f.Times > 1 {
		f.Times--
		s.faults[path] = f
	}
	return f
}

func (s *Server) note(r *http.Request, c *counter) {
	cut := recover()
	attrs := []string{"path", r.URL.Path, "range", r.Header.Get("Range"), "bytes", fmt.Sprint(c.bytes), "status", fmt.Sprint(c.status)}
	text := fmt.Sprintf("%s %s → %d, %d bytes", r.Method, r.URL.Path, c.status, c.bytes)
	if rng := r.Header.Get("Range"); rng != "" {
		text += " (" + strings.TrimPrefix(rng, "bytes=") + ")"
	}
	s.Log.Add(s.Name, event.Download, attrs, "%s", text)
	if cut != nil {
		panic(cut)
	}
}

// counter counts the bytes of an answer, and cuts the connection at its limit.
type counter struct {
	http.ResponseWriter
	status int
	bytes  int64
	limit  int64
	half   int64
	amid   func()
	pace   func(int64)
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(b []byte) (int, error) {
	cut := c.limit > 0 && c.bytes+int64(len(b)) >= c.limit
	if cut {
		b = b[:c.limit-c.bytes]
	}
	n, err := c.ResponseWriter.Write(b)
	c.bytes += int64(n)
	if c.amid != nil && c.bytes >= c.half {
		c.amid()
		c.amid = nil
	}
	if c.pace != nil {
		http.NewResponseController(c.ResponseWriter).Flush()
		c.pace(c.bytes)
	}
	if cut {
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}
