package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// ErrDown says that the cluster does not run.
var ErrDown = errors.New("the cluster is down")

// Status lists the node's components in the order of their needs, or fails
// with ErrDown.
func (c *Cluster) Status(ctx context.Context) ([]node.Status, error) {
	body, err := c.call(ctx, http.MethodGet, "/components")
	if err != nil {
		return nil, err
	}
	var list []node.Status
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("decode the node's status: %w", err)
	}
	return list, nil
}

// Stop ends a component, such as "kubelet", and returns when its process is
// gone. It stays down until Start.
func (c *Cluster) Stop(ctx context.Context, component string) error {
	_, err := c.call(ctx, http.MethodPost, "/components/"+component+"/stop")
	return err
}

// Start starts a stopped component and returns when it is ready.
func (c *Cluster) Start(ctx context.Context, component string) error {
	_, err := c.call(ctx, http.MethodPost, "/components/"+component+"/start")
	return err
}

// Restart stops a component and starts it again, and returns when it is ready.
func (c *Cluster) Restart(ctx context.Context, component string) error {
	_, err := c.call(ctx, http.MethodPost, "/components/"+component+"/restart")
	return err
}

// call asks the node's supervisor.
func (c *Cluster) call(ctx context.Context, method, path string) ([]byte, error) {
	if pid, err := c.pid(); err != nil || pid == 0 {
		return nil, errors.Join(ErrDown, err)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	transport := &http.Transport{DialContext: c.dialNode, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	return body, nil
}

func (c *Cluster) dialNode(ctx context.Context, _, _ string) (net.Conn, error) {
	short, dir, err := node.ShortPath(c.Socket())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}
