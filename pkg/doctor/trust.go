package doctor

import (
	"strconv"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/config"
)

// VoucherAnchors judges whom the device believes about who owns it. places are where they are looked for; others says that there
// are well-known servers besides.
func (l Lines) VoucherAnchors(list []config.Anchor, clock artifacts.Clock, places []string, others bool) {
	if len(list) == 0 {
		l.Mildly(others).say("", fail+VoucherAnchors+" "+NoVoucherAnchor, "there is none: nothing that an owner signed can be believed"+do+
			"put the certificate of the maker's voucher service (MASA) into #1", strings.Join(places, " or "))
		return
	}
	l.anchors(VoucherAnchors, list, clock)
}

// ServerAnchors judges whom the device believes about well-known servers, which are needed where there are such servers.
func (l Lines) ServerAnchors(list []config.Anchor, clock artifacts.Clock, needed bool) {
	if needed { // that there are some then, the configuration demands
		l.anchors(ServerAnchors, list, clock)
		return
	}
	text := "there is none, and no well-known server that would need one"
	if len(list) > 0 {
		text = "there are some (#1), but no well-known server: only `ztp run --trusted` uses them"
	}
	l.say("", pass+ServerAnchors, text, strconv.Itoa(len(list)))
}

// ImageAnchors judges whom the device believes about servers of images.
func (l Lines) ImageAnchors(list []config.Anchor, clock artifacts.Clock) {
	l.anchors(ImageAnchors, list, clock)
}

func (l Lines) anchors(check string, list []config.Anchor, clock artifacts.Clock) {
	good := 0
	for _, a := range list {
		if !expired(a, clock) {
			good++
		}
	}
	if good > 0 {
		l.say("", pass+check, "#1 of #2 certificates can be used", strconv.Itoa(good), strconv.Itoa(len(list)))
	}
	for _, a := range list {
		if expired(a, clock) {
			l.Mildly(good > 0).say(a.Certificate.Subject.String(), fail+check+" "+AnchorExpired,
				"it has expired on #1: what it has issued is refused"+do+"replace it, or remove it from #2", day(a.Certificate.NotAfter), a.File)
		}
	}
}

func expired(a config.Anchor, clock artifacts.Clock) bool {
	return clock.Confidence != artifacts.ClockNone && clock.Now.After(a.Certificate.NotAfter)
}
