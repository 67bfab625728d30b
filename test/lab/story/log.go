package story

import (
	"strings"
	"time"
)

// worthTelling picks the lines of the device's log that belong into the story: what the agent tells people, not debugging.
func worthTelling(line string) bool {
	return !strings.Contains(line, "level=DEBUG") && !strings.HasPrefix(line, "DEBUG")
}

// plain drops the time stamp and level of slog's text format, which the story has already or does not need.
func plain(line string) string {
	rest, ok := strings.CutPrefix(line, "time=")
	if !ok {
		return line
	}
	stamp, rest, _ := strings.Cut(rest, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
		return line
	}
	rest = strings.TrimPrefix(rest, "level=INFO ")
	lead := ""
	if warning, ok := strings.CutPrefix(rest, "level=WARN "); ok {
		lead, rest = "warning: ", warning
	}
	return lead + strings.TrimPrefix(rest, "msg=")
}
