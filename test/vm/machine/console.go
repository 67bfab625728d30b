package machine

import (
	"bufio"
	"io"
	"regexp"
	"strings"
	"sync"
)

// escapes are sequences that move a terminal's cursor, which firmware prints.
var escapes = regexp.MustCompile("\x1b\\[[0-9;=?]*[A-Za-z]")

// follow passes on what a terminal would show, line by line.
func follow(console io.Reader, line func(string)) {
	for lines := bufio.NewReader(console); ; {
		text, err := lines.ReadString('\n')
		text = strings.TrimRight(escapes.ReplaceAllString(text, ""), "\r\n \x00")
		if text != "" && line != nil {
			line(text)
		}
		if err != nil {
			return
		}
	}
}

// tail keeps the end of what a program complains about.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if n := len(t.text) - 4096; n > 0 {
		t.text = t.text[n:]
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
