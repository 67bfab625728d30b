package config

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

// BadURL is the reason code for the address of a bootstrap server that is none.
const BadURL reason.Code = "server-url-invalid"

// Servers returns the bootstrap servers that urls name, each "https://HOST[:PORT]", with anchors. Errors are
// *reason.Error with the code BadURL.
func Servers(urls []string, anchors []artifacts.TrustAnchor) ([]artifacts.BootstrapServer, error) {
	var servers []artifacts.BootstrapServer
	for _, s := range urls {
		server, err := parseServer(s)
		if err != nil {
			return nil, &reason.Error{Code: BadURL, Msg: err.Error(), Fix: "write it like https://bootstrap.example.com:8443"}
		}
		server.Anchors = anchors
		servers = append(servers, server)
	}
	return servers, nil
}

// parseServer reads a bootstrap server's URL. It allows what RFC 8572 §8.3 allows in one: no path, query or fragment.
func parseServer(s string) (artifacts.BootstrapServer, error) {
	none := artifacts.BootstrapServer{}
	u, err := url.Parse(s)
	if err != nil {
		return none, fmt.Errorf("%q is not a URL", s)
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return none, fmt.Errorf("%q is not of the form \"https://HOST[:PORT]\"", s)
	}
	server := artifacts.BootstrapServer{Address: u.Hostname(), Port: 443}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return none, fmt.Errorf("%q has a port out of range, from 1 to 65535", s)
		}
		server.Port = uint16(n)
	}
	return server, nil
}
