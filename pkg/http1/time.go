package http1

import "time"

// ParseTime reads a date of a header field, in any of the three forms of RFC 9110 §5.6.7.
func ParseTime(text string) (t time.Time, err error) {
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC} {
		if t, err = time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return t, err
}
