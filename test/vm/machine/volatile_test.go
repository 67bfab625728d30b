package machine

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// logged is an entry of a log that the test writes: one sector of a letter, or a flush.
type logged struct {
	at     uint64 // sector
	letter byte   // 0 for a flush
	flags  uint64
}

// writeLog writes a log as QEMU does. The last partial bytes of it are missing, as after SIGKILL.
func writeLog(t *testing.T, path string, partial int, entries ...logged) {
	t.Helper()
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, (sector-b.Len()%sector)%sector)) }
	write := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
		pad()
	}
	write(struct {
		Magic, Version, Entries uint64
		SectorSize              uint32
	}{superMark, 1, uint64(len(entries)), sector})
	for _, e := range entries {
		h := header{Sector: e.at, Flags: e.flags}
		if e.letter != 0 {
			h.Sectors = 1
		}
		write(h)
		b.Write(bytes.Repeat([]byte{e.letter}, int(h.Sectors)*sector))
	}
	if err := os.WriteFile(path, b.Bytes()[:b.Len()-partial], 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPowerCutLosesWhatWasNotFlushed(t *testing.T) {
	flush := logged{flags: flagFlush}
	for name, test := range map[string]struct {
		keep    bool
		partial int
		entries []logged
		want    string // a letter for each sector of the disk
		lost    int
	}{
		"nothing-written":           {false, 0, nil, "....", 0},
		"flushed":                   {false, 0, []logged{{at: 0, letter: 'a'}, {at: 2, letter: 'b'}, flush}, "a.b.", 0},
		"not-flushed":               {false, 0, []logged{{at: 0, letter: 'a'}, flush, {at: 1, letter: 'b'}, {at: 2, letter: 'c'}}, "a...", 2},
		"not-flushed-but-kept":      {true, 0, []logged{{at: 0, letter: 'a'}, flush, {at: 1, letter: 'b'}}, "ab..", 0},
		"overwritten-since":         {false, 0, []logged{{at: 0, letter: 'a'}, flush, {at: 0, letter: 'b'}}, "a...", 1},
		"demanded-to-be-durable":    {false, 0, []logged{{at: 0, letter: 'a'}, {at: 1, letter: 'b', flags: flagFUA}}, ".b..", 1},
		"being-written":             {true, 100, []logged{{at: 0, letter: 'a'}, flush, {at: 1, letter: 'b'}}, "a...", 0},
		"header-not-written-before": {true, 0, []logged{{at: 0, letter: 'a'}, {}, {at: 1, letter: 'b'}}, "a...", 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			v := &volatile{disk: filepath.Join(dir, "disk"), log: filepath.Join(dir, "log")}
			if err := os.WriteFile(v.disk, bytes.Repeat([]byte("."), 4*sector), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := v.begin(); err != nil {
				t.Fatal(err)
			}
			writeLog(t, v.log, test.partial, test.entries...)
			// QEMU has written everything to the disk's file by then.
			if err := os.WriteFile(v.disk, bytes.Repeat([]byte("x"), 4*sector), 0o600); err != nil {
				t.Fatal(err)
			}
			lost, err := v.lose(func() bool { return test.keep })
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(v.disk)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for at := 0; at < len(content); at += sector {
				got = append(got, content[at])
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("the disk (-want +got):\n%s", diff)
			}
			if lost != test.lost {
				t.Errorf("%d writes were lost, want %d", lost, test.lost)
			}
		})
	}
}

func TestLogOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), sector), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := readLog(log); err == nil {
		t.Error("a file that is no log was read as one")
	}
}
