// Command controlplane is a whole Kubernetes control plane in one process: etcd, kube-apiserver and
// kube-controller-manager, each linked from its published module and started with its own flags.
//
// It is for the demo and the tests: one data folder holds everything, every port is on loopback unless asked
// otherwise, and it ends at once on SIGTERM. It never talks to a node; the node tests add kubelet and kube-scheduler
// from the program in node/.
//
// Called by the name of etcd or kube-apiserver (a link will do) it is that program alone, with its own flags: a folder
// of the two links is what KUBEBUILDER_ASSETS stands for.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	_ "time/tzdata" // time zones of CronJobs, on machines without a time zone database

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

func run() error {
	// The second component in a process is refused its logging flags otherwise.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged

	options := parseOptions()
	if err := os.MkdirAll(options.dataDir, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	pki, err := loadOrCreatePKI(options)
	if err != nil {
		return err
	}
	store, err := startEtcd(options)
	if err != nil {
		return err
	}
	// The components install signal handlers of their own and would outlive SIGTERM by a minute.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	failed := make(chan error, 3)
	go func() { failed <- runAPIServer(options, pki, store) }()
	go func() {
		if err := waitForAPIServer(options, pki); err != nil {
			failed <- err
			return
		}
		go func() { failed <- runControllerManager(options, pki) }()
		if err := waitForDefaultServiceAccount(options, pki); err != nil {
			failed <- err
			return
		}
		if err := publishKubeconfig(options, pki); err != nil {
			failed <- err
		}
	}()

	select {
	case err := <-failed:
		return err
	case <-stop:
		// With real fsync everything acknowledged is on the disk already; without it the data is meant to be thrown away.
		return nil
	}
}

// options are this program's own flags; everything else about the components is decided in components.go.
type options struct {
	dataDir        string
	bindAddress    string
	port           int
	serviceIPRange string
	fsync          bool
	kubeconfig     string
	apiServerArgs  arguments
	managerArgs    arguments
}

// arguments is a flag that may be given several times.
type arguments []string

func (a *arguments) String() string     { return fmt.Sprint(*a) }
func (a *arguments) Set(v string) error { *a = append(*a, v); return nil }

func parseOptions() options {
	o := options{}
	flag.StringVar(&o.dataDir, "data-dir", "", "folder for etcd's data, keys and the admin kubeconfig (kept between runs)")
	flag.StringVar(&o.bindAddress, "bind-address", "127.0.0.1", "address of the API server")
	flag.IntVar(&o.port, "port", 6443, "port of the API server")
	flag.StringVar(&o.serviceIPRange, "service-cluster-ip-range", "10.96.0.0/16", "addresses for Services")
	flag.BoolVar(&o.fsync, "fsync", false, "have etcd wait for the disk (for tests that crash or restart the control plane)")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "file to write when ready (default DATA-DIR/admin.kubeconfig)")
	flag.Var(&o.apiServerArgs, "apiserver-arg", "one more argument for kube-apiserver; may be repeated")
	flag.Var(&o.managerArgs, "controller-manager-arg", "one more argument for kube-controller-manager; may be repeated")
	flag.Parse()
	if o.dataDir == "" || flag.NArg() != 0 {
		fmt.Fprintln(os.Stderr, "usage: controlplane --data-dir DIR [flags]")
		flag.PrintDefaults()
		os.Exit(2)
	}
	if o.kubeconfig == "" {
		o.kubeconfig = o.dataDir + "/admin.kubeconfig"
	}
	return o
}
