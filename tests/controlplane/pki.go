package main

// Keys and certificates: one CA, the API server's certificate, a client certificate for each component and the
// administrator. Made once per data folder, so that a restart keeps every kubeconfig and token valid.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// lifetime is longer than any test or demo runs, and short enough that a data folder left behind is no lasting risk.
const lifetime = 30 * 24 * time.Hour

// pki is a folder of NAME.crt and NAME.key.
type pki struct{ dir string }

func (p *pki) path(file string) string { return filepath.Join(p.dir, file) }

// identities are the clients: name of the files, and user and group as RBAC's own bootstrap bindings know them.
var identities = []struct{ file, user, group string }{
	{"admin", "nave:admin", "system:masters"},
	{"controller-manager", "system:kube-controller-manager", ""},
	{"scheduler", "system:kube-scheduler", ""},
}

func loadOrCreatePKI(o options) (*pki, error) {
	p := &pki{dir: filepath.Join(o.dataDir, "pki")}
	// Written last, so its presence says that all the others are there.
	if _, err := os.Stat(p.path("complete")); err == nil {
		return p, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for keys in %s: %w", p.dir, err)
	}
	if err := p.create(o); err != nil {
		return nil, fmt.Errorf("making keys in %s: %w", p.dir, err)
	}
	return p, nil
}

func (p *pki) create(o options) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	caKey, err := p.newKey("ca.key")
	if err != nil {
		return err
	}
	ca, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "nave-controlplane"}, caKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.path("ca.crt"), pemCertificate(ca.Raw), 0o600); err != nil {
		return err
	}
	if _, err := p.newKey("service-account.key"); err != nil {
		return err
	}
	server, err := serverTemplate(o)
	if err != nil {
		return err
	}
	if err := p.issue("apiserver", server, ca, caKey); err != nil {
		return err
	}
	for _, identity := range identities {
		subject := pkix.Name{CommonName: identity.user}
		if identity.group != "" {
			subject.Organization = []string{identity.group}
		}
		client := &x509.Certificate{Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if err := p.issue(identity.file, client, ca, caKey); err != nil {
			return err
		}
	}
	return os.WriteFile(p.path("complete"), nil, 0o600)
}

func serverTemplate(o options) (*x509.Certificate, error) {
	_, services, err := net.ParseCIDR(o.serviceIPRange)
	if err != nil {
		return nil, err
	}
	// The Service `kubernetes` has the first address of the range.
	first := append(net.IP{}, services.IP.To4()...)
	first[3]++
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(o.bindAddress), first},
	}, nil
}

func (p *pki) newKey(file string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(p.path(file), text, 0o600)
}

func (p *pki) issue(name string, template, ca *x509.Certificate, caKey crypto.Signer) error {
	key, err := p.newKey(name + ".key")
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	// An hour of grace for machines whose clock steps while the demo starts.
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(lifetime)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path(name+".crt"), pemCertificate(der), 0o600)
}

func pemCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
