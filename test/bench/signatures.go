package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/google/go-tpm/tpm2"
)

// signatureCounter stands between a program and a TPM, and counts the commands, and the signatures that the TPM makes.
type signatureCounter struct {
	listener net.Listener
	tpm      string // socket

	mu     sync.Mutex
	asked  int // commands
	signed int
	marked int
	isSet  bool
}

// countSignatures listens on socket and passes everything on to tpm, another socket.
func countSignatures(socket, tpm string) (*signatureCounter, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	c := &signatureCounter{listener: listener, tpm: tpm}
	go c.serve()
	return c, nil
}

func (c *signatureCounter) Close() error { return c.listener.Close() }

// mark begins the count anew, the first time it is called.
func (c *signatureCounter) mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isSet {
		c.isSet, c.marked = true, c.signed
	}
}

func (c *signatureCounter) sinceMark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signed - c.marked
}

// commands returns how many the TPM was sent so far.
func (c *signatureCounter) commands() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *signatureCounter) serve() {
	for {
		program, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.relay(program)
	}
}

func (c *signatureCounter) relay(program net.Conn) {
	defer program.Close()
	tpm, err := net.Dial("unix", c.tpm)
	if err != nil {
		return
	}
	defer tpm.Close()
	for {
		command, err := readMessage(program)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.asked++
		c.mu.Unlock()
		if _, err := tpm.Write(command); err != nil {
			return
		}
		answer, err := readMessage(tpm)
		if err != nil {
			return
		}
		if tpm2.TPMCC(code(command)) == tpm2.TPMCCSign && tpm2.TPMRC(code(answer)) == tpm2.TPMRCSuccess {
			c.mu.Lock()
			c.signed++
			c.mu.Unlock()
		}
		if _, err := program.Write(answer); err != nil {
			return
		}
	}
}

// readMessage reads one command or answer of TPM 2.0: a tag of two bytes, the size of the whole in four, the command or
// response code in four, and the rest.
func readMessage(r io.Reader) ([]byte, error) {
	const header, most = 10, 4096
	message := make([]byte, header, most)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(message[2:])
	if size < header || size > most {
		return nil, fmt.Errorf("TPM message of %d bytes", size)
	}
	message = message[:size]
	_, err := io.ReadFull(r, message[header:])
	return message, err
}

func code(message []byte) uint32 { return binary.BigEndian.Uint32(message[6:]) }
