package efivar

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// decodeText reads what stands before the first NUL. A string without one, of which systemd-boot loses the last character, and
// halves of characters are errors: a name that only resembles another one must not be taken for it.
func decodeText(value []byte) (string, bool) {
	if len(value)%2 != 0 {
		return "", false
	}
	var text []byte
	for i := 0; i < len(value); i += 2 {
		unit := rune(binary.LittleEndian.Uint16(value[i:]))
		if unit == 0 {
			return string(text), true
		}
		if utf16.IsSurrogate(unit) {
			if i += 2; i == len(value) {
				return "", false
			}
			if unit = utf16.DecodeRune(unit, rune(binary.LittleEndian.Uint16(value[i:]))); unit == utf8.RuneError {
				return "", false
			}
		}
		text = utf8.AppendRune(text, unit)
	}
	return "", false
}

// encodeText is the inverse of decodeText, with a NUL at the end.
func encodeText(text string) ([]byte, error) {
	var value []byte
	for i, r := range text {
		if r == 0 || r == utf8.RuneError {
			return nil, fmt.Errorf("%.64q cannot be the value of an EFI variable because of its character %d", text, i)
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			value = binary.LittleEndian.AppendUint16(value, unit)
		}
	}
	if value = append(value, 0, 0); len(value) > maxValue {
		return nil, fmt.Errorf("a string of %d bytes is too long for an EFI variable", len(text))
	}
	return value, nil
}
