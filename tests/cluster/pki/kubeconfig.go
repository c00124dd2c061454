package pki

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// WriteKubeconfig signs a client certificate for id and writes a kubeconfig
// that holds it and needs no other file, readable by its owner alone. cluster
// names the cluster and the context.
func (a *Authority) WriteKubeconfig(path, cluster, server string, id Identity) error {
	der, key, err := a.sign(id)
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", id.Name, err)
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", id.Name, err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{
		Server:                   server,
		CertificateAuthorityData: encodeCert(a.cert.Raw),
	}
	config.AuthInfos[id.Name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: encodeCert(der),
		ClientKeyData:         encoded,
	}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: id.Name}
	config.CurrentContext = cluster
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", id.Name, err)
	}
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write the kubeconfig of %s: %w", id.Name, err)
	}
	return nil
}
