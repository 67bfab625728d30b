package restconf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/xpu-sztp/ztp/artifacts"
	"github.com/xpu-sztp/ztp/artifacts/strictjson"
	"github.com/xpu-sztp/ztp/pkg/progress"
	"github.com/xpu-sztp/ztp/pkg/reason"
)

const (
	module   = "ietf-sztp-bootstrap-server"
	mediaXRD = "application/xrd+xml"
)

// maxReply bounds the reply to an RPC, in bytes: conveyed information of 16 MiB in base64, and its artifacts.
const maxReply = 32 << 20

// Lengths of the nonce, in bytes (RFC 8572 §7.3).
const (
	minNonce = 16
	maxNonce = 32
)

// Input is what the device would say of itself in get-bootstrapping-data (RFC 8572 §7.3). A provisional server gets
// signed-data-preferred and the nonce, always and nothing else (R5.3-11); empty fields are left out.
type Input struct {
	SignedDataPreferred        bool
	HWModel, OSName, OSVersion string
	Nonce                      []byte // 16 to 32 bytes, fresh for every request; nil for none
}

// Output is what a bootstrap server answered: artifacts of which nothing is verified.
type Output struct {
	Bundle   artifacts.Bundle
	Level    progress.Level
	Warnings []string // tolerated deviations, for people
}

// empty is the YANG type empty, which JSON encodes as [null] (RFC 7951 §6.9).
type empty []*struct{}

// provisionalInput is all that a server may be told that was not authenticated.
type provisionalInput struct {
	SignedDataPreferred empty  `json:"signed-data-preferred,omitempty"`
	Nonce               []byte `json:"nonce,omitempty"`
}

// authenticatedInput is what an authenticated server is told.
type authenticatedInput struct {
	SignedDataPreferred empty  `json:"signed-data-preferred,omitempty"`
	HWModel             string `json:"hw-model,omitempty"`
	OSName              string `json:"os-name,omitempty"`
	OSVersion           string `json:"os-version,omitempty"`
	Nonce               []byte `json:"nonce,omitempty"`
}

// body encodes in for a server of which evidence is all that is known.
func (in Input) body(evidence *artifacts.ServerEvidence) ([]byte, error) {
	if n := len(in.Nonce); n != 0 && (n < minNonce || n > maxNonce) {
		return nil, fail(reason.Internal, fmt.Sprintf("a nonce has %d to %d bytes, not %d", minNonce, maxNonce, n), "", nil)
	}
	yes := empty{nil}
	if !evidence.Valid() {
		return rpcInput(provisionalInput{yes, in.Nonce})
	}
	trusted := authenticatedInput{HWModel: in.HWModel, OSName: in.OSName, OSVersion: in.OSVersion, Nonce: in.Nonce}
	if in.SignedDataPreferred {
		trusted.SignedDataPreferred = yes
	}
	return rpcInput(trusted)
}

func rpcInput(input any) ([]byte, error) {
	return json.Marshal(map[string]any{module + ":input": input})
}

// GetBootstrappingData asks the server for this device's bootstrapping data (RFC 8572 §7.3). Errors are *Error,
// *artifacts.Error (the server had to be connected to again and did not authenticate), or wrap ctx's.
func (s *Session) GetBootstrappingData(ctx context.Context, in Input) (*Output, error) {
	body, err := in.body(s.Evidence())
	if err != nil {
		return nil, err
	}
	rep, warning, err := s.call(ctx, "get-bootstrapping-data", body)
	if err != nil {
		return nil, err
	}
	if rep.status != 200 {
		return nil, refusedData(rep)
	}
	encoded, tolerated, err := checkData(rep, s.options.Lenient)
	if err != nil {
		return nil, err
	}
	out, err := decodeOutput(rep.body, encoded, s.options.Lenient)
	if err != nil {
		return nil, fail(CodeBadReply, "the server's reply is malformed", "correct the bootstrap server", err)
	}
	noted := slices.DeleteFunc([]string{warning, tolerated}, func(w string) bool { return w == "" })
	out.Warnings = append(noted, out.Warnings...)
	return out, nil
}

// call invokes an operation. A server that does not want JSON is asked once in XML and, if it wants that, from then on only in
// XML: RFC 8040 §5.2 lets a server do with one of the two. input is in JSON; a warning is about the server's RESTCONF root.
func (s *Session) call(ctx context.Context, name string, input []byte) (rep *reply, warning string, err error) {
	root, warning, err := s.discover(ctx)
	if err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	now, settled := s.encoding, s.settled
	s.mu.Unlock()
	rep, err = s.callIn(ctx, now, root, name, input)
	if err != nil || settled || !wantsXML(rep) {
		return rep, warning, err
	}
	s.log.InfoContext(ctx, "the server does not want JSON; XML is used", "status", rep.status)
	if rep.status != 200 {
		if rep, err = s.callIn(ctx, inXML, root, name, input); err != nil {
			return nil, warning, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled = true; !refusesEncoding(rep) {
		s.encoding = inXML
	}
	return rep, warning, nil
}

func (s *Session) callIn(ctx context.Context, e encoding, root *url.URL, name string, input []byte) (*reply, error) {
	body, err := e.encode(input)
	if err != nil {
		return nil, fail(reason.Internal, "the request cannot be encoded", "", err)
	}
	return s.exchange(ctx, request{"POST", root.JoinPath("operations", module+":"+name), string(e), body, maxReply})
}

// wantsXML reports whether the server could not read a request in JSON, or answered it in XML. A server that knows XML alone
// may well call JSON a malformed message.
func wantsXML(rep *reply) bool {
	e, _ := encodingOf(rep.mediaType)
	return refusesEncoding(rep) || e == inXML && (rep.status == 200 || rep.status == 400)
}

func refusesEncoding(rep *reply) bool {
	return rep.status == 406 || rep.status == 415
}

// checkData makes sure that a successful reply claims to be bootstrapping data, and is there whole.
func checkData(rep *reply, lenient bool) (e encoding, warning string, err error) {
	e, exact := encodingOf(rep.mediaType)
	if rep.mediaType == "text/plain" && lenient {
		e = encodingLike(rep.body)
	}
	switch {
	case e == "" && rep.mediaType == "text/plain":
		return "", "", fail(CodeNotBootstrapServer, "the server answered with text/plain instead of bootstrapping data",
			"check the address; a bootstrap server that names no media type is usable with trust.lenient", nil)
	case e == "":
		return "", "", fail(CodeNotBootstrapServer, "the server answered with "+kindOf(rep.mediaType)+" instead of bootstrapping data",
			"check the address; a captive portal or another web server may be in between", nil)
	case !exact && !lenient:
		return "", "", fail(CodeBadReply, "the reply's media type is not "+string(e), "correct the bootstrap server, or set trust.lenient",
			fmt.Errorf("media type %q", rep.mediaType))
	case !exact:
		warning = fmt.Sprintf("the reply's media type is %q instead of %s", rep.mediaType, e)
	}
	if rep.tooLarge {
		return "", "", fail(CodeBadReply, fmt.Sprintf("the reply is larger than %d MiB", maxReply>>20),
			"have the server send less; images and large files belong on a file server", nil)
	}
	if rep.encoded {
		return "", "", fail(CodeBadReply, "the reply is compressed without being asked to", "disable compression on the bootstrap server", nil)
	}
	return e, warning, nil
}

// decodeOutput decodes the output of get-bootstrapping-data.
func decodeOutput(document []byte, e encoding, lenient bool) (*Output, error) {
	out := new(Output)
	var tolerate func(where, what string)
	if lenient {
		tolerate = func(where, what string) { out.warn("the reply's %s: %s", where, what) }
	}
	root, err := e.parse(document, outputXML(), tolerate)
	if err != nil {
		return nil, err
	}
	list, err := only(root, module+":output")
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if err := out.set(m, lenient); err != nil {
			return nil, fmt.Errorf("%s: %w", printable(m.Name, 64), err)
		}
	}
	b := out.Bundle
	if b.ConveyedInformation == nil {
		return nil, fmt.Errorf("conveyed-information is missing")
	}
	if (b.OwnerCertificate == nil) != (b.OwnershipVoucher == nil) {
		return nil, fmt.Errorf("owner-certificate and ownership-voucher come together or not at all")
	}
	return out, nil
}

// set takes one member of the output.
func (out *Output) set(m strictjson.Member, lenient bool) error {
	switch m.Name {
	case "reporting-level":
		return out.setLevel(m.Value)
	case "conveyed-information":
		return out.setArtifact(&out.Bundle.ConveyedInformation, m, lenient)
	case "owner-certificate":
		return out.setArtifact(&out.Bundle.OwnerCertificate, m, lenient)
	case "ownership-voucher":
		return out.setArtifact(&out.Bundle.OwnershipVoucher, m, lenient)
	}
	// Another module may add to the output (RFC 7951 §4); this one may not add to itself.
	other, _, qualified := strings.Cut(m.Name, ":")
	if !lenient && (!qualified || other == module) {
		return fmt.Errorf("unknown member")
	}
	out.warn("the reply's member %q is unknown and was ignored", printable(m.Name, 64))
	return nil
}

func (out *Output) setLevel(value strictjson.Value) error {
	if value.Kind != strictjson.String {
		return errors.New("not a string")
	}
	switch level := value.Text; level {
	case progress.Minimal.String():
		out.Level = progress.Minimal
	case progress.Verbose.String():
		out.Level = progress.Verbose
	default:
		out.Level = progress.Minimal
		out.warn("reporting-level %q is unknown; minimal is used", printable(level, 32))
	}
	return nil
}

func (out *Output) setArtifact(to *[]byte, m strictjson.Member, lenient bool) error {
	decoded, folded, err := binary(m.Value, lenient)
	if err != nil {
		return err
	}
	if folded {
		out.warn("%s has white space inside its base64", m.Name)
	}
	*to = decoded
	return nil
}

func (out *Output) warn(format string, args ...any) {
	if len(out.Warnings) < maxWarnings {
		out.Warnings = append(out.Warnings, fmt.Sprintf(format, args...))
	}
}

// maxWarnings bounds what a hostile server can put in front of an operator.
const maxWarnings = 16
