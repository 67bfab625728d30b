package story

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/pkg/state"
	"github.com/xpu-sztp/ztp/test/lab/artifact"
)

// refusal lets the voucher service issue vouchers for another device, and expects the device to refuse them.
func (p *play) refusal(ctx context.Context) error {
	p.lab.MASA.Modify(func(v *artifact.Voucher) { v.SerialNumber = otherSerial })
	p.say("lab", "from now on, vouchers are for device %s", otherSerial)
	if err := p.device.PowerOn(ctx); err != nil {
		return err
	}
	status, err := p.awaitRefusal(ctx)
	if err != nil {
		return p.brokenOff(ctx, err)
	}
	p.say("lab", "the device gave up for now and will try again later: %s", status.Reason.Code)
	var f findings
	err = p.showStatus(ctx, func(code int, output string) {
		if code != state.ExitInProgress {
			f.add("ztp status ended with exit code %d, want %d (not provisioned, still trying)", code, state.ExitInProgress)
		}
		if !strings.Contains(output, status.Reason.Code) {
			f.add("ztp status does not name the reason %s", status.Reason.Code)
		}
	})
	if err != nil {
		return err
	}
	p.device.Stop()
	p.checkRefusal(&f, status.Reason)
	return f.err()
}

// awaitRefusal waits until the device has heard from the owner's server and backs off.
func (p *play) awaitRefusal(ctx context.Context) (*state.Status, error) {
	exited := make(chan error, 1)
	go func() {
		end, err := p.device.Wait(ctx)
		if err == nil {
			err = fmt.Errorf("the daemon ended (%+v) instead of trying again", end)
		}
		exited <- err
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var s state.Status
		content, err := os.ReadFile(p.device.Path("run/ztp/status.json"))
		if err == nil && json.Unmarshal(content, &s) == nil && s.Phase == state.PhaseBackingOff && s.Reason != nil &&
			len(p.lab.Bootstrap.Requests()) > 0 {
			return &s, nil
		}
		select {
		case err := <-exited:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// checkRefusal checks that the reason is the voucher's serial number and that nothing was executed.
func (p *play) checkRefusal(f *findings, reason *state.Reason) {
	if reason.Code != string(artifacts.CodeVoucherSerial) || !strings.Contains(reason.Message, otherSerial) {
		f.add("the reason is %s, %q; want %s with the serial number %s of the voucher",
			reason.Code, reason.Message, artifacts.CodeVoucherSerial, otherSerial)
	}
	for _, r := range p.lab.Bootstrap.Requests() {
		if !r.Input.SignedDataPreferred {
			f.add("the device trusted the bootstrap server")
		}
	}
	if n := len(p.lab.Bootstrap.Reports()) + len(p.lab.Redirect.Reports()); n > 0 {
		f.add("untrusted servers got %d reports", n)
	}
	if got := p.read(provisioningLog); got != "" {
		f.add("a script was executed: %s", got)
	}
	if got := p.read(deviceConfig); got == configuration {
		f.add("the configuration was committed")
	}
	for _, file := range []string{"b.img", "next"} {
		if _, err := os.Stat(p.device.Path("var/lib/ztp/slots/" + file)); !os.IsNotExist(err) {
			f.add("the image slots were touched: there is a file %s", file)
		}
	}
}
