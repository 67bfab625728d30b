package main

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// TestPeakMemoryIsTheProgramsOwn fails when what this process has resident is counted as the program's.
func TestPeakMemoryIsTheProgramsOwn(t *testing.T) {
	ballast := make([]byte, 64*mebibyte)
	for i := range ballast {
		ballast[i] = byte(i)
	}
	got, err := peakMemory("/bin/sh", "-c", "true")
	if err != nil {
		t.Fatal(err)
	}
	if got <= 0 || got > 16*mebibyte {
		t.Errorf("a shell that does nothing had %d bytes resident", got)
	}
	if ballast[len(ballast)-1] != 0xff {
		t.Error("the ballast is gone")
	}
	if _, err := peakMemory("/bin/sh", "-c", "exit 3"); err == nil {
		t.Error("a program that failed was measured")
	}
}

func TestSignatureCounter(t *testing.T) {
	dir := t.TempDir()
	chip, err := net.Listen("unix", filepath.Join(dir, "chip"))
	if err != nil {
		t.Fatal(err)
	}
	defer chip.Close()
	const failing = 7 // the size of the body that makes this chip refuse
	go func() {
		conn, err := chip.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			command, err := readMessage(conn)
			if err != nil {
				return
			}
			answer := []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0}
			if len(command) == 10+failing {
				binary.BigEndian.PutUint32(answer[6:], uint32(tpm2.TPMRCRetry))
			}
			conn.Write(answer)
		}
	}()
	counter, err := countSignatures(filepath.Join(dir, "counted"), filepath.Join(dir, "chip"))
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	conn, err := net.Dial("unix", filepath.Join(dir, "counted"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	send := func(code tpm2.TPMCC, body int) {
		t.Helper()
		command := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
		command = binary.BigEndian.AppendUint32(command, uint32(10+body))
		command = binary.BigEndian.AppendUint32(command, uint32(code))
		command = append(command, make([]byte, body)...)
		if _, err := conn.Write(command); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	send(tpm2.TPMCCSign, 40) // before the first server is contacted
	counter.mark()
	send(tpm2.TPMCCReadPublic, 4)
	send(tpm2.TPMCCSign, 40)
	send(tpm2.TPMCCNVRead, 0)
	send(tpm2.TPMCCSign, failing)
	send(tpm2.TPMCCSign, 0)
	counter.mark()
	if got := counter.sinceMark(); got != 2 {
		t.Errorf("counted %d signatures, want 2", got)
	}
}
