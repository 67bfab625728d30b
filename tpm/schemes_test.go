//lint:file-ignore SA1019 RSAES-PKCS1-v1_5 is in use in the field and has to be tested

package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/xpu-sztp/ztp/tpm"
)

func rsaKey(scheme tpm2.TPMTRSAScheme) tpm2.TPMTPublic {
	area := signingKey()
	area.Type = tpm2.TPMAlgRSA
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Scheme: scheme})
	return area
}

func openWrapped(t *testing.T, sim *softTPM, ca *authority, template tpm2.TPMTPublic) *tpm.Identity {
	t.Helper()
	_, parent, _, _ := storageKeys()
	k := wrap(t, sim, parent, template, 0)
	return mustOpen(t, tpm.Options{TPM: sim.path, Key: writeFile(t, k.pem(t)), Certificate: k.certificate(t, ca)})
}

// T-15: what a key can do limits what is offered in TLS.
func TestKeyWithFixedScheme(t *testing.T) {
	ca := newAuthority(t)
	rsassa := tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}
	pss := tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAPSS,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})}
	ecc := func(hash tpm2.TPMAlgID) tpm2.TPMTPublic {
		area := signingKey()
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC,
			&tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: ecdsaScheme(hash)})
		return area
	}
	for name, test := range map[string]struct {
		template    tpm2.TPMTPublic
		version     uint16 // what TLS 1.2 and 1.3 servers end up with
		probes      int64
		can, cannot crypto.SignerOpts
	}{
		"RSASSA-SHA256": {rsaKey(rsassa), tls.VersionTLS12, 0, crypto.SHA256, &rsa.PSSOptions{Hash: crypto.SHA256}},
		"RSAPSS-SHA256": {rsaKey(pss), tls.VersionTLS13, 1,
			&rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}, crypto.SHA256},
		"ECDSA-SHA256": {ecc(tpm2.TPMAlgSHA256), tls.VersionTLS13, 0, crypto.SHA256, crypto.SHA384},
		"ECDSA-SHA384": {ecc(tpm2.TPMAlgSHA384), tls.VersionTLS12, 0, crypto.SHA384, crypto.SHA256},
	} {
		t.Run(name, func(t *testing.T) {
			sim := startSimulator(t)
			id := openWrapped(t, sim, ca, test.template)
			_, version, err := id.TLSCertificate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if version != test.version {
				t.Fatalf("TLS %s, want %s", tls.VersionName(version), tls.VersionName(test.version))
			}
			peer, err := handshake(t, id, ca, &tls.Config{})
			if err != nil || len(peer) != 2 {
				t.Errorf("handshake: %v, %q", err, names(peer))
			}
			if id.Signatures() != 1 || id.Probes() != test.probes {
				t.Errorf("%d signatures, %d probes, want 1 and %d", id.Signatures(), id.Probes(), test.probes)
			}
			if err := id.Prove(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := signWith(id, test.can); err != nil {
				t.Errorf("%v: %v", test.can, err)
			}
			_, err = signWith(id, test.cannot)
			wantCode(t, err, tpm.CodeKeyUnusable, "bound to scheme")
		})
	}
}

func signWith(id *tpm.Identity, opts crypto.SignerOpts) ([]byte, error) {
	h := opts.HashFunc().New()
	h.Write([]byte("x"))
	return id.Signer().Sign(rand.Reader, h.Sum(nil), opts)
}

// T-15: a TPM whose PSS salt is as long as fits cannot do TLS 1.3 with RSA. The TPM's answer is replaced, since the
// simulators at hand all use the digest's length.
func TestMaximalPSSSalt(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	pub := provision(t, sim.path, tpm.RSA2048, ca).(*rsa.PublicKey)
	id := mustOpen(t, tpm.Options{TPM: sim.path})
	sim.intercept(func(code tpm2.TPMCC) []byte {
		if code != tpm2.TPMCCSign {
			return nil
		}
		sim.answer = nil
		return signatureResponse(tpm2.TPMAlgRSAPSS, bytes.Repeat([]byte{1}, pub.Size()))
	})
	cert, version, err := id.TLSCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if version != tls.VersionTLS12 {
		t.Errorf("offers %s", tls.VersionName(version))
	}
	for _, s := range cert.SupportedSignatureAlgorithms {
		if s == tls.PSSWithSHA256 || s == tls.PSSWithSHA384 || s == tls.PSSWithSHA512 {
			t.Errorf("offers %v", s)
		}
	}
	if _, err := handshake(t, id, ca, &tls.Config{}); err != nil || id.Signatures() != 1 || id.Probes() != 1 {
		t.Errorf("handshake: %v, %d signatures, %d probes", err, id.Signatures(), id.Probes())
	}
}

// A signature that a faulty TPM got wrong must not leave the device.
func TestWrongSignatureIsWithheld(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	provision(t, sim.path, tpm.RSA2048, ca)
	id := mustOpen(t, tpm.Options{TPM: sim.path})
	sim.intercept(func(code tpm2.TPMCC) []byte {
		if code != tpm2.TPMCCSign {
			return nil
		}
		return signatureResponse(tpm2.TPMAlgRSASSA, bytes.Repeat([]byte{1}, 256))
	})
	sig, err := signWith(id, crypto.SHA256)
	wantCode(t, err, tpm.CodeFailure, "does not verify")
	if sig != nil {
		t.Error("the signature was returned")
	}
}

// signatureResponse is a TPM2_Sign response in a password session that carries sig.
func signatureResponse(scheme tpm2.TPMAlgID, sig []byte) []byte {
	u16 := binary.BigEndian.AppendUint16
	params := u16(u16(u16(nil, uint16(scheme)), uint16(tpm2.TPMAlgSHA256)), uint16(len(sig)))
	params = append(params, sig...)
	session := []byte{0, 0, 1, 0, 0} // no nonce, continueSession, no HMAC
	b := u16(nil, uint16(tpm2.TPMSTSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(10+4+len(params)+len(session)))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(params)))
	return append(append(b, params...), session...)
}

func TestSign(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	for name, template := range map[string]tpm.Template{"RSA": tpm.RSA2048, "ECC": tpm.P384} {
		t.Run(name, func(t *testing.T) {
			pub, err := tpm.Factory{TPM: sim.path, Overwrite: true}.CreateIDevID(t.Context(), template, tpm.IDevIDHandle)
			if err != nil {
				t.Fatal(err)
			}
			id := mustOpen(t, tpm.Options{TPM: sim.path, Certificate: writeFile(t, ca.device(pub, "SN1").Raw)})
			for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				sig, err := signWith(id, hash)
				if err != nil {
					t.Fatal(err)
				}
				h := hash.New()
				h.Write([]byte("x"))
				switch pub := pub.(type) {
				case *rsa.PublicKey:
					if err := rsa.VerifyPKCS1v15(pub, hash, h.Sum(nil), sig); err != nil {
						t.Errorf("%v: %v", hash, err)
					}
					opts := &rsa.PSSOptions{Hash: hash, SaltLength: rsa.PSSSaltLengthAuto}
					if sig, err = signWith(id, opts); err != nil {
						t.Errorf("PSS %v: %v", hash, err)
					} else if err := rsa.VerifyPSS(pub, hash, h.Sum(nil), sig, opts); err != nil {
						t.Errorf("PSS %v: %v", hash, err)
					}
				case *ecdsa.PublicKey:
					if !ecdsa.VerifyASN1(pub, h.Sum(nil), sig) {
						t.Errorf("%v does not verify", hash)
					}
				}
			}
			digest := sha512.Sum512([]byte("x"))
			for what, opts := range map[string]crypto.SignerOpts{
				"MD5+SHA1": crypto.MD5SHA1, "SHA-1": crypto.SHA1, "no hash": crypto.Hash(0), "wrong length": crypto.SHA256,
			} {
				_, err := id.Signer().Sign(rand.Reader, digest[:36], opts)
				wantCode(t, err, tpm.CodeKeyUnusable)
				if id.Signatures() == 0 {
					t.Errorf("%s: no signatures counted", what)
				}
			}
		})
	}
}

// T-14: an IDevID only signs; a key made for it decrypts.
func TestDecrypt(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	t.Run("IDevID-cannot", func(t *testing.T) {
		provision(t, sim.path, tpm.P256, ca)
		id := mustOpen(t, tpm.Options{TPM: sim.path})
		_, err := id.Decrypter()
		wantCode(t, err, tpm.CodeKeyUnusable, "may not decrypt")
		_, err = id.ECDH(nil)
		wantCode(t, err, tpm.CodeKeyUnusable, "may not agree")
		if _, ok := id.Signer().(crypto.Decrypter); ok {
			t.Error("the signer claims to decrypt")
		}
	})
	t.Run("RSA", func(t *testing.T) {
		template := rsaKey(tpm2.TPMTRSAScheme{})
		template.ObjectAttributes.Decrypt = true
		id := openWrapped(t, sim, ca, template)
		d, err := id.Decrypter()
		if err != nil {
			t.Fatal(err)
		}
		pub, secret := d.Public().(*rsa.PublicKey), []byte("content encryption key")
		pkcs1, err := rsa.EncryptPKCS1v15(rand.Reader, pub, secret)
		if err != nil {
			t.Fatal(err)
		}
		oaep := func(h crypto.Hash) []byte {
			c, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, secret, nil)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		for name, test := range map[string]struct {
			ciphertext []byte
			opts       crypto.DecrypterOpts
		}{
			"default":     {pkcs1, nil},
			"PKCS1":       {pkcs1, &rsa.PKCS1v15DecryptOptions{}},
			"session-key": {pkcs1, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: len(secret)}},
			"OAEP-SHA1":   {oaep(crypto.SHA1), &rsa.OAEPOptions{Hash: crypto.SHA1}},
			"OAEP-SHA256": {oaep(crypto.SHA256), &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA256}},
		} {
			t.Run(name, func(t *testing.T) {
				plain, err := d.Decrypt(rand.Reader, test.ciphertext, test.opts)
				if err != nil || !bytes.Equal(plain, secret) {
					t.Errorf("got %q, %v", plain, err)
				}
			})
		}
		bad := append([]byte(nil), pkcs1...)
		bad[100] ^= 1
		if _, err := d.Decrypt(rand.Reader, bad, nil); err == nil {
			t.Error("a changed ciphertext was decrypted")
		}
		for name, ciphertext := range map[string][]byte{"bad-padding": bad, "other-length": pkcs1} {
			plain, err := d.Decrypt(rand.Reader, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16})
			if err != nil || len(plain) != 16 {
				t.Errorf("%s: got %d bytes, %v; want a random key", name, len(plain), err)
			}
		}
	})
	// A key that is bound to a scheme has its padding taken away by the TPM.
	for name, test := range map[string]struct {
		scheme     tpm2.TPMTRSAScheme
		can, other crypto.DecrypterOpts
	}{
		"bound-to-RSAES": {tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAES,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})},
			&rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16}, &rsa.OAEPOptions{Hash: crypto.SHA256}},
		"bound-to-OAEP": {tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgOAEP,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: tpm2.TPMAlgSHA256})},
			&rsa.OAEPOptions{Hash: crypto.SHA256}, &rsa.OAEPOptions{Hash: crypto.SHA1}},
	} {
		t.Run(name, func(t *testing.T) {
			persist(t, sim, decryptKey(rsaKey(test.scheme)), 0x81020007)
			defer evict(t, sim, 0x81020007)
			id := mustOpen(t, tpm.Options{TPM: sim.path, DecryptKey: "0x81020007",
				DecryptCertificate: writeFile(t, ca.device(publicAt(t, sim, 0x81020007), "").Raw)})
			d, err := id.Decrypter()
			if err != nil {
				t.Fatal(err)
			}
			secret := []byte("0123456789abcdef")
			c, err := rsa.EncryptPKCS1v15(rand.Reader, d.Public().(*rsa.PublicKey), secret)
			if name == "bound-to-OAEP" {
				c, err = rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, d.Public().(*rsa.PublicKey), secret, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := d.Decrypt(nil, c, test.can); err != nil || !bytes.Equal(plain, secret) {
				t.Errorf("got %q, %v", plain, err)
			}
			if _, err := d.Decrypt(nil, c, test.other); err == nil {
				t.Error("decrypted with another scheme than the one the key is bound to")
			}
			c[100] ^= 1
			plain, err := d.Decrypt(nil, c, test.can)
			if name == "bound-to-RSAES" && (err != nil || len(plain) != 16 || bytes.Equal(plain, secret)) {
				t.Errorf("got %q, %v, want a random key", plain, err)
			}
			if name == "bound-to-OAEP" && err != rsa.ErrDecryption {
				t.Errorf("got %q, %v", plain, err)
			}
		})
	}
	t.Run("TPM-refuses-the-bare-operation", func(t *testing.T) {
		id := openWrapped(t, sim, ca, decryptOrSign(rsaKey(tpm2.TPMTRSAScheme{})))
		d, err := id.Decrypter()
		if err != nil {
			t.Fatal(err)
		}
		c, err := rsa.EncryptPKCS1v15(rand.Reader, d.Public().(*rsa.PublicKey), []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		refused := false
		sim.intercept(func(code tpm2.TPMCC) []byte {
			if code != tpm2.TPMCCRSADecrypt || refused {
				return nil
			}
			refused = true
			return refusal(tpm2.TPMRCScheme)
		})
		defer sim.intercept(nil)
		if plain, err := d.Decrypt(nil, c, nil); err != nil || string(plain) != "secret" || !refused {
			t.Errorf("got %q, %v", plain, err)
		}
	})
	t.Run("ECDH", func(t *testing.T) {
		template := signingKey()
		template.ObjectAttributes.Decrypt = true
		id := openWrapped(t, sim, ca, template)
		own, err := id.Signer().Public().(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := peer.ECDH(own)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := id.ECDH(peer.PublicKey()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %x, %v, want %x", got, err, want)
		}
		other, err := ecdh.P384().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, err = id.ECDH(other.PublicKey())
		wantCode(t, err, tpm.CodeKeyUnusable, "curve")
		if n := sim.transients(t); n != 0 {
			t.Errorf("%d transient objects left in the TPM", n)
		}
	})
}

// A key in a file offers the same as one in a TPM.
func TestDecryptWithKeyFile(t *testing.T) {
	ca := newAuthority(t)
	open := func(t *testing.T, key crypto.Signer) *tpm.Identity {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return mustOpen(t, tpm.Options{Key: writeFile(t, pemOf("PRIVATE KEY", der)),
			Certificate: writeFile(t, ca.device(key.Public(), "SN1").Raw)})
	}
	ecc := newP256(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecc.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("ECC", func(t *testing.T) {
		id := open(t, ecc)
		want, err := own.ECDH(own.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := id.ECDH(own.PublicKey()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %x, %v, want %x", got, err, want)
		}
		_, err = id.Decrypter()
		wantCode(t, err, tpm.CodeKeyUnusable, "cannot decrypt")
		if id.Probes() != 0 {
			t.Error("a key in a file was probed")
		}
	})
	t.Run("RSA", func(t *testing.T) {
		id := open(t, rsaKey)
		d, err := id.Decrypter()
		if err != nil {
			t.Fatal(err)
		}
		c, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, &rsaKey.PublicKey, []byte("secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := d.Decrypt(rand.Reader, c, &rsa.OAEPOptions{Hash: crypto.SHA256}); err != nil || string(plain) != "secret" {
			t.Errorf("got %q, %v", plain, err)
		}
		_, err = id.ECDH(own.PublicKey())
		wantCode(t, err, tpm.CodeKeyUnusable, "cannot agree")
	})
}

func TestFactoryRefusesToOverwrite(t *testing.T) {
	sim, ca := startSimulator(t), newAuthority(t)
	first := provision(t, sim.path, tpm.P256, ca)
	f := tpm.Factory{TPM: sim.path}
	_, err := f.CreateIDevID(t.Context(), tpm.P384, tpm.IDevIDHandle)
	wantCode(t, err, tpm.CodeOccupied, "0x81020000")
	wantCode(t, f.WriteCertificate(t.Context(), tpm.IDevIDCertificate, ca.root.Raw), tpm.CodeOccupied)
	wantCode(t, f.WriteChain(t.Context(), ca.root.Raw), tpm.CodeOccupied)
	if id := mustOpen(t, tpm.Options{TPM: sim.path}); !id.Signer().Public().(*ecdsa.PublicKey).Equal(first) {
		t.Error("the key changed")
	}

	f.Overwrite = true
	second, err := f.CreateIDevID(t.Context(), tpm.P384, tpm.IDevIDHandle)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteCertificate(t.Context(), tpm.IDevIDCertificate, ca.device(second, "SN2").Raw); err != nil {
		t.Fatal(err)
	}
	sim.writeNV(t, 0x01C90101, readable, "", ca.root.Raw) // what a longer chain left behind
	if err := f.WriteChain(t.Context(), ca.issuer.Raw); err != nil {
		t.Fatal(err)
	}
	if id := mustOpen(t, tpm.Options{TPM: sim.path}); id.SerialNumber != "SN2" || len(id.Chain) != 2 {
		t.Errorf("serial number %q, chain %q", id.SerialNumber, names(id.Chain))
	}
	if n := sim.transients(t); n != 0 {
		t.Errorf("%d transient objects left in the TPM", n)
	}
}

func TestFactoryRefusesNonsense(t *testing.T) {
	sim := startSimulator(t)
	f := tpm.Factory{TPM: sim.path}
	_, err := f.CreateIDevID(t.Context(), "H-99", tpm.IDevIDHandle)
	wantCode(t, err, tpm.CodeFailure, "H-99")
	_, err = f.CreateIDevID(t.Context(), tpm.P256, 0x80000000)
	wantCode(t, err, tpm.CodeFailure, "persistent")
	wantCode(t, f.WriteCertificate(t.Context(), tpm.IDevIDCertificate, []byte("x")), tpm.CodeFailure)
	wantCode(t, f.WriteChain(t.Context(), []byte("x")), tpm.CodeFailure)
	wantCode(t, f.WriteCertificate(t.Context(), 0x81000000, newAuthority(t).root.Raw), tpm.CodeFailure)
}

// The same TPM makes the same key again: an RMA'd disk does not change the device's identity (T-08, T-10).
func TestFactoryKeyIsDerived(t *testing.T) {
	sim := startSimulator(t)
	f := tpm.Factory{TPM: sim.path}
	a, err := f.CreateIDevID(t.Context(), tpm.P256, 0x81020000)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.CreateIDevID(t.Context(), tpm.P256, 0x81020001)
	if err != nil {
		t.Fatal(err)
	}
	if !a.(*ecdsa.PublicKey).Equal(b) {
		t.Error("the same template gave two keys")
	}
}
