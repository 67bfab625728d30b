package dhcp_test

import (
	"encoding/hex"
	"fmt"
	"log"

	"github.com/xpu-sztp/ztp/dhcp"
)

// The value of option 143 or 136 is a list of URIs, each after its length (RFC 8572 §8.3).
func ExampleParseServerList() {
	value, err := hex.DecodeString("0017" + hex.EncodeToString([]byte("https://bs1.example.net")) +
		"001a" + hex.EncodeToString([]byte("https://[2001:db8::1]:8443")))
	if err != nil {
		log.Fatal(err)
	}
	servers, ignored, err := dhcp.ParseServerList(value)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range servers {
		fmt.Println(s.Host, s.Port)
	}
	fmt.Println(len(ignored), "entries ignored")
	// Output:
	// bs1.example.net 443
	// 2001:db8::1 8443
	// 0 entries ignored
}
