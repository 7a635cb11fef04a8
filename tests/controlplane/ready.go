package main

// When it is ready, and how others reach it: the kubeconfigs.

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// startupLimit is many times what a start takes on two idle cores (2 to 4 s), for machines that are busy building.
const startupLimit = 3 * time.Minute

// waitForAPIServer returns when /readyz answers, bootstrap roles included.
func waitForAPIServer(o options, p *pki) error {
	client, err := adminClient(o, p)
	if err != nil {
		return err
	}
	return poll("the API server to be ready", func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// waitForDefaultServiceAccount returns when the controller manager does its work: its first visible product is there.
func waitForDefaultServiceAccount(o options, p *pki) error {
	client, err := adminClient(o, p)
	if err != nil {
		return err
	}
	return poll("the default ServiceAccount", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func poll(what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startupLimit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", startupLimit, what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func adminClient(o options, p *pki) (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(&rest.Config{
		Host: endpoint(o),
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: p.path("ca.crt"), CertFile: p.path("admin.crt"), KeyFile: p.path("admin.key"),
		},
		QPS: -1,
	})
}

func endpoint(o options) string {
	return "https://" + net.JoinHostPort(o.bindAddress, strconv.Itoa(o.port))
}

// publishKubeconfig writes the administrator's and the scheduler's kubeconfig, the administrator's last and by rename: whoever sees it may go on.
func publishKubeconfig(o options, p *pki) error {
	if err := writeKubeconfig(o.dataDir+"/scheduler.kubeconfig", o, p, "scheduler"); err != nil {
		return err
	}
	unfinished := o.kubeconfig + ".new"
	if err := writeKubeconfig(unfinished, o, p, "admin"); err != nil {
		return err
	}
	return os.Rename(unfinished, o.kubeconfig)
}

// writeKubeconfig writes a kubeconfig that holds its certificates itself, so that it can be copied anywhere.
func writeKubeconfig(file string, o options, p *pki, identity string) error {
	var content [3][]byte
	for i, name := range []string{"ca.crt", identity + ".crt", identity + ".key"} {
		data, err := os.ReadFile(p.path(name))
		if err != nil {
			return fmt.Errorf("writing %s: %w", file, err)
		}
		content[i] = data
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["nave"] = &clientcmdapi.Cluster{Server: endpoint(o), CertificateAuthorityData: content[0]}
	config.AuthInfos[identity] = &clientcmdapi.AuthInfo{ClientCertificateData: content[1], ClientKeyData: content[2]}
	config.Contexts["nave"] = &clientcmdapi.Context{Cluster: "nave", AuthInfo: identity}
	config.CurrentContext = "nave"
	return clientcmd.WriteToFile(*config, file)
}
