package daemon

import "crypto/rand"

// nonce makes the nonce of one request (RFC 8572 §7.3).
func nonce() ([]byte, error) {
	n := make([]byte, 32)
	_, err := rand.Read(n)
	return n, err
}
