// Hyperkube is Kubernetes in one program: its servers, etcd and kubectl. One binary shares the libraries that all of
// them link, which halves both the build and the disk.
//
// The first argument chooses; when the program is called by one of these names (kubectl), the name does.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func run(build func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(build())) }
}

var programs = map[string]func(){
	"etcd":               func() { etcdmain.Main(os.Args) },
	"apiserver":          run(apiserver.NewAPIServerCommand),
	"controller-manager": run(manager.NewControllerManagerCommand),
	"scheduler":          run(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":            run(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"proxy":              run(proxy.NewProxyCommand),
	"kubectl":            run(kubectl.NewDefaultKubectlCommand),
}

func main() {
	name := filepath.Base(os.Args[0])
	if programs[name] == nil && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	program := programs[name]
	if program == nil {
		names := make([]string, 0, len(programs))
		for known := range programs {
			names = append(names, known)
		}
		sort.Strings(names)
		fmt.Fprintln(os.Stderr, "usage: hyperkube", strings.Join(names, "|"), "ARGUMENTS…")
		os.Exit(2)
	}
	program()
}
