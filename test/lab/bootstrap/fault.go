package bootstrap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/test/lab/event"
)

// Fault is one way to misbehave instead of answering.
type Fault struct {
	Status      int    // the HTTP status; 0 means 200
	ContentType string // of Body; default text/plain
	Body        string
	Header      http.Header // added to the answer, such as Retry-After or Location
	Hang        bool        // never answer, until the client goes away
	Drop        bool        // cut the connection without an answer
	// Only limits the fault to reports of this progress type; "" is every request.
	Only string
	// Times is how often the fault happens before the server behaves again; 0 means for ever.
	Times int
}

// The faults that devices meet in the field.
var (
	Portal    = Fault{ContentType: "text/html", Body: "<html><body>Please log in to the guest network</body></html>"}
	EmptyBody = Fault{ContentType: jsonType}
	Hang      = Fault{Hang: true}
	Drop      = Fault{Drop: true}
)

// Misbehave makes the server show faults, in order, at an operation (HostMeta, GetBootstrappingData, ReportProgress). No
// faults ends the misbehaviour.
func (s *Server) Misbehave(operation string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[operation] = append([]Fault(nil), faults...)
}

// next returns the fault to show now.
func (s *Server) next(operation, progressType string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.faults[operation]
	for i, f := range queue {
		if f.Only != "" && f.Only != progressType {
			continue
		}
		if f.Times == 1 {
			s.faults[operation] = append(append([]Fault(nil), queue[:i]...), queue[i+1:]...)
		} else if f.Times > 1 {
			queue[i].Times--
		}
		return f, true
	}
	return Fault{}, false
}

// faulty shows a fault when there is one, and calls handle otherwise. Reports met by a fault are recorded all the same.
func (s *Server) faulty(operation string, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		serial := r.TLS.PeerCertificates[0].Subject.SerialNumber
		report, body := peekReport(operation, r)
		r.Body = io.NopCloser(bytes.NewReader(body))
		f, ok := s.next(operation, report.Type)
		if !ok {
			handle(w, r)
			return
		}
		status := f.Status
		if status == 0 {
			status = http.StatusOK
		}
		if operation == ReportProgress {
			s.addReport(Report{Serial: serial, Received: time.Now(), Status: status, ProgressInput: report})
		} else {
			s.options.Log.Add(s.options.Name, event.Request,
				[]string{"serial", serial, "operation", operation, "status", fmt.Sprint(status), "fault", "yes"},
				"%s answered on purpose with %s", operation, f)
		}
		f.show(w, r)
	}
}

func peekReport(operation string, r *http.Request) (ProgressInput, []byte) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	var doc map[string]ProgressInput
	if err != nil || operation != ReportProgress || json.Unmarshal(body, &doc) != nil {
		return ProgressInput{}, body
	}
	return doc["ietf-sztp-bootstrap-server:input"], body
}

// String tells what the fault looks like from outside.
func (f Fault) String() string {
	switch {
	case f.Hang:
		return "silence"
	case f.Drop:
		return "a cut connection"
	}
	return fmt.Sprintf("status %d, %s, %d bytes", max(f.Status, 200), f.ContentType, len(f.Body))
}

func (f Fault) show(w http.ResponseWriter, r *http.Request) {
	if f.Hang {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // returning would send an answer, which a client that is just going might still read
	}
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	if f.ContentType == "" {
		f.ContentType = "text/plain"
	}
	w.Header().Set("Content-Type", f.ContentType)
	if f.Status != 0 {
		w.WriteHeader(f.Status)
	}
	io.WriteString(w, f.Body)
}

// progressTypes is the enumeration of RFC 8572 §7.3.
var progressTypes = func() map[string]bool {
	known := map[string]bool{}
	for _, t := range progress.All {
		known[string(t)] = true
	}
	return known
}()
