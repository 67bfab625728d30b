package doctor

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// ServerFacts are what came of connecting to one bootstrap server. It was not asked for anything.
type ServerFacts struct {
	URL      string
	Source   string // what named it: "dhcp4", "well-known", "url", …
	Trusted  bool   // it must authenticate to the trust anchors
	Anchors  int    // how many there are
	Lookup   error  // why its name has no address
	Attempts []Attempt
}

// Attempt is a connection to one address of a server.
type Attempt struct {
	Address   string // with the port
	Err       error
	Version   uint16            // of TLS; 0 when only TCP was tried
	Presented *x509.Certificate // by the server
	Authentic error             // why it does not satisfy the trust anchors
}

// Server judges one server.
func (l Lines) Server(f *ServerFacts) {
	var good *Attempt
	var failed []string
	err := f.Lookup
	for i := range f.Attempts {
		switch a := &f.Attempts[i]; {
		case a.Err == nil:
			good = a
		default:
			failed, err = append(failed, a.Err.Error()), a.Err
		}
	}
	code, hint := reason.Of(err)
	hint = cmp.Or(hint, "see why it does not answer, or give more time with --timeout")
	kind, text := fail+Server+" "+string(code), "#1"+do+"#2"
	why := strings.Join(failed, "; ")
	switch {
	case f.Lookup != nil:
		why = f.Lookup.Error()
	case good == nil:
	case good.Version == 0:
		kind, why = warn+Server+" "+NotChecked, good.Address
		text = "#1 accepts connections; TLS was not tried, which takes the device's identity" + do + "look at what is said of the identity"
	default:
		l.reached(f, good)
		if err == nil {
			return
		}
		kind, text = warn+Server+" "+string(code), "not at every address: #1"+do+"#2"
	}
	l.say(f.URL, kind, text, why, hint)
}

// reached judges a server that answers.
func (l Lines) reached(f *ServerFacts, a *Attempt) {
	presented, why := "", ""
	if p := a.Presented; p != nil {
		presented = ", certificate of " + p.Subject.String() + " by " + p.Issuer.String()
	}
	if a.Authentic != nil {
		why = a.Authentic.Error()
	}
	code, hint := reason.Of(a.Authentic)
	kind, text := pass+Server, ": provisional, named by #4; only what the owner signed is believed"
	switch named := f.Source == "url"; {
	case f.Trusted && why != "":
		kind, text = fail+Server+" "+string(code), ": #5"+do+"#6"
	case f.Trusted:
		text = ": authenticated by the trust anchors"
	case named && f.Anchors > 0 && why != "":
		kind, text = warn+Server+" "+string(code), ": `ztp run --trusted` would refuse it, and otherwise only what the owner signed is believed: #5"+do+"#6"
	case named && why == "":
		text = ": fits the trust anchors, as `ztp run --trusted` wants it"
	}
	l.say(f.URL, kind, "#1 speaks #2#3"+text, a.Address, tls.VersionName(a.Version), presented, f.Source, why, hint)
}
