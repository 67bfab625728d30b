package restconf

import (
	"crypto/tls"
	"errors"
	"io"
	"time"
)

// AwaitRefusal tells whether the server refuses the device's certificate, without asking it for anything: in TLS 1.3 it does so
// after the handshake is done for the device. It waits at most patience, and not at all in TLS 1.2. The session is of no use
// afterwards.
func (s *Session) AwaitRefusal(patience time.Duration) error {
	s.mu.Lock()
	c := s.live
	s.mu.Unlock()
	if c.ConnectionState().Version < tls.VersionTLS13 {
		return nil
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	switch {
	case isRemoteAlert(err):
		return explainAlert(err)
	case errors.Is(err, io.EOF), isReset(err):
		return fail(CodeTLSFailure, "the server closed the connection after the TLS handshake",
			"look at the server's log; it may not accept the device's certificate", err)
	}
	return nil
}

// TLSVersion is that of the newest connection, as crypto/tls numbers them.
func (s *Session) TLSVersion() uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.ConnectionState().Version
}
