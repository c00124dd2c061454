package bench

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
)

// crowd is how many clients reconnect at once, each with a token of its own.
var crowd = flag.Int("crowd", 1000, "how many clients reconnect at once, at most 8000")

// BenchmarkReconnect prints how long it takes from the start of the control plane until the last of 1,000 clients that have
// the configuration of before has what changed meanwhile, in a cluster of 1,000 Services, half of them open; how many tokens
// the API server reviews for it, how many at once, and what the control plane needs. Before that, the same for clients that
// have nothing.
func BenchmarkReconnect(b *testing.B) {
	f := figures.New()
	client := newClient(b)
	p := populate(b, client, [podsEach]endpoint{nowhere(weighted, 0), nowhere(weighted, 1)})
	reviews := &reviewed{}
	control := newControlPlane(b, reviews.before(b), p.namespace)
	nodes, tokens := p.identities(b, *crowd)
	clients := newFleet(control, p.namespace)
	clients.size, clients.resumes = *crowd, true
	f.Goal("reconnect to all synced s", 10)

	all := clients.aim(synced)
	stop := clients.run(b, nodes, tokens)
	defer stop()
	begin := time.Now()
	control.start(b)
	f.Add("first sync of all s", clients.wait(b, all).Sub(begin).Seconds())
	reviews.add(f, "first: ")
	control.needs(b, f, "first: ")
	for b.Loop() {
		for n := range *figures.Rounds {
			control.stop(b)
			if err := p.labelService(b.Context(), weighted, faultKey, fmt.Sprint(1+n)); err != nil {
				b.Fatal(err)
			}
			all := clients.aim(p.resynced)
			begin := time.Now()
			control.start(b)
			f.Add("reconnect to all synced s", clients.wait(b, all).Sub(begin).Seconds())
			reviews.add(f, "")
			control.needs(b, f, "")
		}
	}
	f.Print(b)
}

// resynced is met by a client that has the endpoints once more, which a control plane cannot know to be in use, and the
// route that changed.
func (p *population) resynced(c *client) bool {
	return c.again == opened && c.fresh[key{resourcev3.RouteType, p.clusterName(weighted)}]
}

// needs takes what the control plane has needed since its start.
func (c *controlPlane) needs(b *testing.B, f *figures.Table, of string) {
	b.Helper()
	f.Add(of+"processor s of traffic-control", processorTime(b, c.pid()))
	f.Add(of+"resident at most MB", memory(b, c.pid(), "VmHWM"))
	f.Add(of+"resident after it MB", memory(b, c.pid(), "VmRSS"))
}

// A reviewed is a way to the API server that counts the reviews of tokens which pass.
type reviewed struct{ all, now, most atomic.Int64 }

// before starts it, and returns a kubeconfig that names it.
func (r *reviewed) before(b *testing.B) string {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig(b))
	if err != nil {
		b.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		b.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		b.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }, Transport: transport, FlushInterval: -1,
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if strings.HasSuffix(request.URL.Path, "/tokenreviews") {
			defer r.count()()
		}
		proxy.ServeHTTP(w, request)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	b.Cleanup(server.CloseClientConnections)

	file := filepath.Join(b.TempDir(), "kubeconfig")
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		CurrentContext: "c",
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: server.URL, InsecureSkipTLSVerify: true}},
	}, file)
	if err != nil {
		b.Fatal(err)
	}
	return file
}

func (r *reviewed) count() (done func()) {
	r.all.Add(1)
	now := r.now.Add(1)
	for most := r.most.Load(); now > most && !r.most.CompareAndSwap(most, now); most = r.most.Load() {
	}
	return func() { r.now.Add(-1) }
}

// add takes what passed since the last time.
func (r *reviewed) add(f *figures.Table, of string) {
	f.Add(of+"token reviews", float64(r.all.Swap(0)))
	f.Add(of+"most token reviews at once", float64(r.most.Swap(0)))
}

// pause is the time before the next attempt to connect: for those that resume Envoy's first, which it doubles each time.
func (f *fleet) pause() time.Duration {
	if f.resumes {
		return rand.N(500 * time.Millisecond)
	}
	return 20 * time.Millisecond
}

// dial connects from an address of the client's own, as pods do: what one may ask for is limited.
func (c *client) dial(ctx context.Context, address string) (net.Conn, error) {
	own := net.IPv4(127, 1, byte(c.number>>8), byte(c.number))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: own}}
	return d.DialContext(ctx, "tcp", address)
}

// first is what a stream begins with: a question for all clusters or, if the client has something, for all that it has, with
// its versions.
func (c *client) first() (requests []*discoveryv3.DeltaDiscoveryRequest) {
	for _, typeURL := range []string{resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.ListenerType, resourcev3.RouteType} {
		request := &discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: c.node}, TypeUrl: typeURL, InitialResourceVersions: map[string]string{},
		}
		for k, version := range c.have {
			if k.typeURL == typeURL {
				request.InitialResourceVersions[k.name] = version
			}
		}
		for k := range c.known {
			if k.typeURL == typeURL {
				request.ResourceNamesSubscribe = append(request.ResourceNamesSubscribe, k.name)
			}
		}
		requests = append(requests, request)
		if !c.listening {
			break
		}
	}
	return requests
}
