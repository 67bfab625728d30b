package dhcp_test

import (
	"testing"

	"github.com/xpu-sztp/ztp/dhcp"
	"github.com/xpu-sztp/ztp/test/hostile"
)

// hostileLists is what a list of a megabyte can be, although no DHCP option holds one.
func hostileLists() map[string][]byte {
	return map[string][]byte{
		"zeros":      make([]byte, hostile.Size),
		"one-byte":   hostile.Fill("", "\x00\x01a", "", ""),
		"short":      hostile.Fill("", "\x00\x09https://a", "", ""),
		"paths":      hostile.Fill("", "\x00\x0bhttps://a/b", "", ""),
		"too-long":   hostile.Fill("", "\xff\xff", "", ""),
		"text":       hostile.Fill("", "https://a ", "", ""),
		"commas":     hostile.Fill("https://a", ",", "", ""),
		"one-name":   hostile.Fill("https://", "a", "", ""),
		"labels":     hostile.Fill("https://", "a.", "", ""),
		"brackets":   hostile.Fill("https://", "[", "]", ""),
		"percentage": hostile.Fill("https://", "%41", "", ""),
	}
}

func parseLists(list []byte) {
	_, _, _ = dhcp.ParseServerList(list)
	_, _, _ = dhcp.ParseServerListLeniently(list)
}

// TestHostileServerLists bounds the memory for a bootstrap server list.
func TestHostileServerLists(t *testing.T) { hostile.Check(t, hostileLists(), parseLists) }

func BenchmarkHostileServerLists(b *testing.B) { hostile.Benchmark(b, hostileLists(), parseLists) }
