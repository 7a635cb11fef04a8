package main

// The three components and the flags that they are started with.

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// startEtcd starts a store of one member on free loopback ports and returns the URL for its client.
func startEtcd(o options) (string, error) {
	anyPort := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Name = "nave"
	config.Dir = filepath.Join(o.dataDir, "etcd")
	config.ListenClientUrls = []url.URL{anyPort}
	config.ListenPeerUrls = []url.URL{anyPort}
	config.AdvertiseClientUrls = []url.URL{anyPort}
	config.AdvertisePeerUrls = []url.URL{anyPort}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = !o.fsync
	config.LogLevel = "error"
	config.LogOutputs = []string{"stderr"}

	server, err := embed.StartEtcd(config)
	if err != nil {
		return "", fmt.Errorf("starting etcd in %s: %w", config.Dir, err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return "http://" + server.Clients[0].Addr().String(), nil
	case err := <-server.Err():
		return "", fmt.Errorf("etcd in %s: %w", config.Dir, err)
	case <-time.After(time.Minute):
		return "", fmt.Errorf("etcd in %s was not ready within a minute", config.Dir)
	}
}

func runAPIServer(o options, p *pki, store string) error {
	command := apiserver.NewAPIServerCommand()
	command.SetArgs(append([]string{
		"--etcd-servers=" + store,
		"--bind-address=" + o.bindAddress,
		"--advertise-address=" + o.bindAddress,
		"--secure-port=" + strconv.Itoa(o.port),
		"--cert-dir=" + o.dataDir,
		"--tls-cert-file=" + p.path("apiserver.crt"),
		"--tls-private-key-file=" + p.path("apiserver.key"),
		"--client-ca-file=" + p.path("ca.crt"),
		"--kubelet-client-certificate=" + p.path("admin.crt"),
		"--kubelet-client-key=" + p.path("admin.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.path("service-account.key"),
		"--service-account-signing-key-file=" + p.path("service-account.key"),
		"--service-cluster-ip-range=" + o.serviceIPRange,
		// Endpoints of the Service `kubernetes` may not be loopback addresses; only a node's pods need them.
		"--endpoint-reconciler-type=" + reconciler(o),
		"--allow-privileged=true",
	}, o.apiServerArgs...))
	return ended("kube-apiserver", command.Execute())
}

func reconciler(o options) string {
	if o.bindAddress == "127.0.0.1" {
		return "none"
	}
	return "lease"
}

func runControllerManager(o options, p *pki) error {
	kubeconfig := filepath.Join(o.dataDir, "controller-manager.kubeconfig")
	if err := writeKubeconfig(kubeconfig, o, p, "controller-manager"); err != nil {
		return err
	}
	command := controllermanager.NewControllerManagerCommand()
	command.SetArgs(append([]string{
		"--kubeconfig=" + kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + p.path("service-account.key"),
		"--root-ca-file=" + p.path("ca.crt"),
		"--cluster-signing-cert-file=" + p.path("ca.crt"),
		"--cluster-signing-key-file=" + p.path("ca.key"),
		"--allocate-node-cidrs=false",
		// Tests make and delete namespaces at a rate that the default limits would turn into waiting.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}, o.managerArgs...))
	return ended("kube-controller-manager", command.Execute())
}

// ended turns the end of a component, which should run for ever, into an error.
func ended(component string, err error) error {
	if err == nil {
		err = errors.New("it returned")
	}
	return fmt.Errorf("%s ended: %w", component, err)
}
