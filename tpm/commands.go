package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// These are the commands used, by their names in TPM 2.0 Part 3.

func flushContext(h tpm2.TPMHandle) *command {
	return &command{code: tpm2.TPMCCFlushContext, handles: []tpm2.AuthHandle{{Handle: h}}}
}

func contextSave(h tpm2.TPMHandle) *command {
	return &command{code: tpm2.TPMCCContextSave, handles: []tpm2.AuthHandle{{Handle: h}}}
}

// contextLoad takes what contextSave returned.
func contextLoad(context []byte) *command {
	return &command{code: tpm2.TPMCCContextLoad, parameters: context, loads: true}
}

func evictControl(owner, object tpm2.AuthHandle, persistent tpm2.TPMHandle) *command {
	return &command{code: tpm2.TPMCCEvictControl, handles: []tpm2.AuthHandle{owner, object},
		parameters: binary.BigEndian.AppendUint32(nil, uint32(persistent))}
}

func getCapability(of tpm2.TPMCap, first, limit uint32) *command {
	parameters := binary.BigEndian.AppendUint32(nil, uint32(of))
	parameters = binary.BigEndian.AppendUint32(parameters, first)
	return &command{code: tpm2.TPMCCGetCapability, parameters: binary.BigEndian.AppendUint32(parameters, limit)}
}

func readPublicArea(object tpm2.TPMHandle) *command {
	return &command{code: tpm2.TPMCCReadPublic, handles: []tpm2.AuthHandle{{Handle: object}}}
}

// createPrimary derives a key without a password.
func createPrimary(hierarchy tpm2.AuthHandle, template tpm2.TPMTPublic) *command {
	noPassword := in2B([]byte{0, 0, 0, 0}) // TPMS_SENSITIVE_CREATE: neither that nor data
	noOutsideInfo, noPCRs := []byte{0, 0}, []byte{0, 0, 0, 0}
	return &command{code: tpm2.TPMCCCreatePrimary, handles: []tpm2.AuthHandle{hierarchy}, loads: true,
		parameters: bytes.Join([][]byte{noPassword, in2B(tpm2.Marshal(template)), noOutsideInfo, noPCRs}, nil)}
}

func load(parent tpm2.AuthHandle, private []byte, area *tpm2.TPMTPublic) *command {
	return &command{code: tpm2.TPMCCLoad, handles: []tpm2.AuthHandle{parent}, loads: true,
		parameters: append(in2B(private), in2B(tpm2.Marshal(*area))...)}
}

// signDigest is for unrestricted keys, which want no proof that the TPM made the digest.
func signDigest(key tpm2.AuthHandle, digest []byte, scheme tpm2.TPMTSigScheme) *command {
	noProof := tpm2.Marshal(tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull})
	return &command{code: tpm2.TPMCCSign, handles: []tpm2.AuthHandle{key},
		parameters: bytes.Join([][]byte{in2B(digest), tpm2.Marshal(scheme), noProof}, nil)}
}

func rsaDecrypt(key tpm2.AuthHandle, ciphertext []byte, scheme tpm2.TPMTRSADecrypt) *command {
	noLabel := []byte{0, 0}
	return &command{code: tpm2.TPMCCRSADecrypt, handles: []tpm2.AuthHandle{key},
		parameters: bytes.Join([][]byte{in2B(ciphertext), tpm2.Marshal(scheme), noLabel}, nil)}
}

func ecdhZGen(key tpm2.AuthHandle, peer tpm2.TPMSECCPoint) *command {
	return &command{code: tpm2.TPMCCECDHZGen, handles: []tpm2.AuthHandle{key}, parameters: in2B(tpm2.Marshal(peer))}
}

func nvReadPublic(index tpm2.TPMHandle) *command {
	return &command{code: tpm2.TPMCCNVReadPublic, handles: []tpm2.AuthHandle{{Handle: index}}}
}

func nvRead(reader, index tpm2.AuthHandle, size, offset int) *command {
	parameters := binary.BigEndian.AppendUint16(nil, uint16(size))
	return &command{code: tpm2.TPMCCNVRead, handles: []tpm2.AuthHandle{reader, index},
		parameters: binary.BigEndian.AppendUint16(parameters, uint16(offset))}
}

// nvDefineSpace makes an index without a password.
func nvDefineSpace(owner tpm2.AuthHandle, area tpm2.TPMSNVPublic) *command {
	noPassword := []byte{0, 0}
	return &command{code: tpm2.TPMCCNVDefineSpace, handles: []tpm2.AuthHandle{owner},
		parameters: append(noPassword, in2B(tpm2.Marshal(area))...)}
}

func nvWrite(owner, index tpm2.AuthHandle, data []byte, offset int) *command {
	return &command{code: tpm2.TPMCCNVWrite, handles: []tpm2.AuthHandle{owner, index},
		parameters: binary.BigEndian.AppendUint16(in2B(data), uint16(offset))}
}

func nvWriteLock(owner, index tpm2.AuthHandle) *command {
	return &command{code: tpm2.TPMCCNVWriteLock, handles: []tpm2.AuthHandle{owner, index}}
}

func nvUndefineSpace(owner, index tpm2.AuthHandle) *command {
	return &command{code: tpm2.TPMCCNVUndefineSpace, handles: []tpm2.AuthHandle{owner, index}}
}

// in2B returns content as a TPM2B.
func in2B(content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(content))), content...)
}
