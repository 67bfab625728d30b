package pki

import (
	"crypto"
	"crypto/x509"
)

// Manufacturer is the device maker's hierarchy: one root over the CA that issues IDevIDs and over the voucher signer.
type Manufacturer struct {
	Root     *Entity
	IDevIDCA *Entity
	MASA     *Entity // signs vouchers
}

// NewManufacturer makes a manufacturer named name.
func NewManufacturer(name string) (*Manufacturer, error) {
	root, err := Root(Profile{CommonName: name + " Root CA", Organization: name, NotAfter: Forever})
	if err != nil {
		return nil, err
	}
	ca, err := root.Issue(Profile{CommonName: name + " IDevID CA", Organization: name, CA: true, NotAfter: Forever})
	if err != nil {
		return nil, err
	}
	masa, err := root.Issue(Profile{CommonName: name + " MASA", Organization: name})
	if err != nil {
		return nil, err
	}
	return &Manufacturer{Root: root, IDevIDCA: ca, MASA: masa}, nil
}

// IDevIDProfile is the certificate profile of a device's IDevID (IEEE 802.1AR): it never expires, carries the serial number
// in its subject and the URL of the maker's voucher service.
func IDevIDProfile(organization, model, serial, masaURL string) Profile {
	return Profile{
		CommonName: model, Organization: organization, SerialNumber: serial, MASAURL: masaURL, NotAfter: Forever,
	}
}

// IDevID certifies the key of a device that left the factory with the given model and serial number.
func (m *Manufacturer) IDevID(pub crypto.PublicKey, model, serial, masaURL string) (*Entity, error) {
	organization := m.Root.Certificate.Subject.Organization[0]
	return m.IDevIDCA.Certify(IDevIDProfile(organization, model, serial, masaURL), pub)
}

// Owner is a device owner's hierarchy: root → issuing CA → owner certificate, of which the root is pinned in vouchers.
type Owner struct {
	Root    *Entity
	Issuing *Entity
	Signer  *Entity // the owner certificate of RFC 8572 §3.2
}

// NewOwner makes an owner named name.
func NewOwner(name string) (*Owner, error) {
	root, err := Root(Profile{CommonName: name + " Root CA", Organization: name})
	if err != nil {
		return nil, err
	}
	issuing, err := root.Issue(Profile{CommonName: name + " Issuing CA", Organization: name, CA: true})
	if err != nil {
		return nil, err
	}
	signer, err := issuing.Issue(Profile{CommonName: name + " SZTP owner", Organization: name})
	if err != nil {
		return nil, err
	}
	return &Owner{Root: root, Issuing: issuing, Signer: signer}, nil
}

// ServerProfile is the certificate profile of a TLS server for the given names.
func ServerProfile(names ...string) Profile {
	return Profile{
		CommonName: names[0], DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}
