// One process that is a whole Kubernetes API server: the real kube-apiserver with an etcd of its own inside.
//
// All flags are kube-apiserver's; --embedded-etcd-dir says where etcd keeps its data. The process ends when its
// standard input does, so that it can't outlive the test run that started it, however that ended.
package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	command := app.NewAPIServerCommand()
	dir := command.Flags().String("embedded-etcd-dir", "", "where the etcd inside keeps its data")
	command.PreRunE = func(cmd *cobra.Command, _ []string) error {
		endpoint, err := startEtcd(*dir)
		if err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		return cmd.Flags().Set("etcd-servers", endpoint)
	}
	os.Exit(cli.Run(command))
}

// startEtcd listens on a free port of the loopback interface and answers its URL.
func startEtcd(dir string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("--embedded-etcd-dir is needed")
	}
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config := embed.NewConfig()
	config.Dir = dir
	config.LogLevel = "warn"
	config.LogOutputs = []string{filepath.Join(dir, "..", "etcd.log")}
	config.ListenClientUrls, config.AdvertiseClientUrls = anyPort, anyPort
	config.ListenPeerUrls, config.AdvertisePeerUrls = anyPort, anyPort
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true // the data is thrown away
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return "http://" + etcd.Clients[0].Addr().String(), nil
	case err := <-etcd.Err():
		return "", err
	case <-time.After(time.Minute):
		return "", fmt.Errorf("not ready after a minute")
	}
}
