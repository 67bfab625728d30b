package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// command is one command of TPM 2.0 Part 3. The library's sessions authorize it and encrypt its parameters, and its structures
// are in the parameters; its own commands are not used because each type of response brings its own copy of the code that
// executes them.
type command struct {
	code       tpm2.TPMCC
	handles    []tpm2.AuthHandle // those with Auth are authorized; as Part 3 has it, they come first
	parameters []byte
	// encryption encrypts the first parameter, of the command or of the response; nil for none. Handles are then authorized
	// by a plain password: another session would have to vouch for the nonce of this one (Part 1, 19.6.5).
	encryption tpm2.Session
	loads      bool // a handle is in the response
}

// response is what the TPM has to say. Its parameters are decoded one by one; what is left of them is ignored.
type response struct {
	handle     tpm2.TPMHandle // 0 when the command does not load anything
	parameters cryptobyte.String
}

var errMalformed = errors.New("the TPM's response is malformed")

// encrypted is the command with its first parameter encrypted.
func (c *command) encrypted(by tpm2.Session) *command {
	c.encryption = by
	return c
}

// execute runs one command. When the TPM refuses it the error is a tpm2.TPMRC.
func (s *session) execute(c *command) (*response, error) {
	sessions, names, err := c.sessions()
	if err != nil {
		return nil, err
	}
	request, err := c.encode(sessions, names)
	if err != nil {
		return nil, err
	}
	answer, err := s.Send(request)
	if err != nil {
		return nil, err
	}
	if rc := responseCode(answer); rc != tpm2.TPMRCSuccess {
		return nil, rc
	}
	return c.decode(answer[headerSize:], sessions, names)
}

// sessions returns those of the handles that are authorized, and the one that encrypts. If there are any, they vouch for the
// names of what all handles refer to (TPM 2.0 Part 1, 16).
func (c *command) sessions() (sessions []tpm2.Session, names []tpm2.TPM2BName, err error) {
	for _, h := range c.handles {
		if h.Auth != nil {
			sessions = append(sessions, h.Auth)
		}
	}
	if c.encryption != nil {
		sessions = append(sessions, c.encryption)
	}
	if len(sessions) == 0 {
		return nil, nil, nil
	}
	for _, h := range c.handles {
		name := h.KnownName()
		if name == nil {
			return nil, nil, fmt.Errorf("the name of the object at %#08x is not known", uint32(h.Handle))
		}
		names = append(names, *name)
	}
	return sessions, names, nil
}

// encode returns the bytes of a command (TPM 2.0 Part 1, 18.3 and 18.4).
func (c *command) encode(sessions []tpm2.Session, names []tpm2.TPM2BName) ([]byte, error) {
	tag := tpm2.TPMSTNoSessions
	var body []byte
	for _, h := range c.handles {
		body = binary.BigEndian.AppendUint32(body, uint32(h.Handle))
	}
	parameters := append([]byte(nil), c.parameters...)
	if len(sessions) > 0 {
		tag = tpm2.TPMSTSessions
		area, err := c.authorize(parameters, sessions, names)
		if err != nil {
			return nil, err
		}
		body = binary.BigEndian.AppendUint32(body, uint32(len(area)))
		body = append(body, area...)
	}
	body = append(body, parameters...)
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(c.code))
	return append(b, body...), nil
}

// authorize encrypts the first parameter, if the command's session wants that, and returns the authorizations.
func (c *command) authorize(parameters []byte, sessions []tpm2.Session, names []tpm2.TPM2BName) (area []byte, err error) {
	for _, session := range sessions {
		if err := session.NewNonceCaller(); err != nil {
			return nil, err
		}
	}
	if c.encryption != nil && c.encryption.IsDecryption() { // that is what it is for the TPM
		if err := inFirst(parameters, c.encryption.Encrypt); err != nil {
			return nil, err
		}
	}
	for i, session := range sessions {
		authorization, err := session.Authorize(c.code, parameters, nil, names, i)
		if err != nil {
			return nil, fmt.Errorf("authorizing a command: %w", err)
		}
		area = append(area, tpm2.Marshal(*authorization)...)
	}
	return area, nil
}

// decode checks what follows the header of a response (TPM 2.0 Part 1, 18.8 and 18.9).
func (c *command) decode(body cryptobyte.String, sessions []tpm2.Session, names []tpm2.TPM2BName) (*response, error) {
	var r response
	if c.loads && !body.ReadUint32((*uint32)(&r.handle)) {
		return nil, errMalformed
	}
	if len(sessions) == 0 {
		r.parameters = body
		return &r, nil
	}
	var size uint32
	if !body.ReadUint32(&size) || uint64(size) > uint64(len(body)) || !body.ReadBytes((*[]byte)(&r.parameters), int(size)) {
		return nil, errMalformed
	}
	for i, session := range sessions {
		authorization, err := readAuthorization(&body)
		if err != nil {
			return nil, err
		}
		if err := session.Validate(tpm2.TPMRCSuccess, c.code, r.parameters, names, i, authorization); err != nil {
			return nil, fmt.Errorf("the TPM's response is not authentic: %w", err)
		}
	}
	if !body.Empty() {
		return nil, errMalformed
	}
	if c.encryption != nil && c.encryption.IsEncryption() {
		if err := inFirst(r.parameters, c.encryption.Decrypt); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

func readAuthorization(b *cryptobyte.String) (*tpm2.TPMSAuthResponse, error) {
	var nonce, hmac cryptobyte.String
	var flags []byte
	if !b.ReadUint16LengthPrefixed(&nonce) || !b.ReadBytes(&flags, 1) || !b.ReadUint16LengthPrefixed(&hmac) {
		return nil, errMalformed
	}
	attributes, err := tpm2.Unmarshal[tpm2.TPMASession](flags)
	if err != nil {
		return nil, err
	}
	return &tpm2.TPMSAuthResponse{Nonce: tpm2.TPM2BNonce{Buffer: nonce}, Attributes: *attributes,
		Authorization: tpm2.TPM2BData{Buffer: hmac}}, nil
}

// inFirst has the content of the first parameter, a TPM2B, encrypted or decrypted in its place.
func inFirst(parameters cryptobyte.String, cipher func([]byte) error) error {
	var first cryptobyte.String
	if !parameters.ReadUint16LengthPrefixed(&first) {
		return errMalformed
	}
	return cipher(first)
}

// sized returns the content of the next parameter, a TPM2B.
func (r *response) sized() ([]byte, error) {
	var content cryptobyte.String
	if !r.parameters.ReadUint16LengthPrefixed(&content) {
		return nil, errMalformed
	}
	return content, nil
}

// public returns the public area of an object that is the next parameter.
func (r *response) public() (*tpm2.TPMTPublic, error) {
	content, err := r.sized()
	if err != nil {
		return nil, err
	}
	return tpm2.Unmarshal[tpm2.TPMTPublic](content)
}
