package ingress

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

const (
	plainHost   = "plain.example"
	loadHost    = "h500" // one of a thousand
	loadRate    = 1000   // requests a second, for latency
	loadWorkers = 32     // connections that wait for each answer, for throughput
	loadTime    = 5 * time.Second
	loadWarmUp  = time.Second
)

// BenchmarkGateway compares a gateway with a thousand hosts and certificates with the same Envoy whose configuration, as it
// dumps it, was made static and trimmed to the one host that is asked: requests a second, latency at 1,000 requests a second,
// and what a request takes of the processor.
func BenchmarkGateway(b *testing.B) {
	f := figures.New()
	managed := start(b)
	managed.backend(b)
	chain, key := injected.Pair(b, time.Hour, "*.example")
	managed.set([]byte(rules("plain", 1, plainHost+"|P|/|web")))
	for n := range 1000 {
		managed.addHost(n, true, chain, key)
	}
	managed.publish()
	static := newGateway(b)
	static.backend(b)
	static.adjustBootstrap = func(string) string { return managed.static(b, chain, key) }
	static.startEnvoy(static.startControl())
	static.listens()
	ways := []struct {
		name string
		*gateway
	}{{"managed", managed}, {"static", static}}
	for b.Loop() {
		for n := range *figures.Rounds {
			for _, target := range []struct{ scheme, url string }{
				{"http", "http://" + plainHost + "/"}, {"https", "https://" + loadHost + ".example/"},
			} {
				for i := range ways {
					way := ways[(i+n)%len(ways)] // in turns, so that each meets the same noise
					way.take(b, f, way.name+" "+target.scheme, target.url)
				}
			}
		}
	}
	f.Print(b)
}

// take adds the figures of a round.
func (g *gateway) take(b *testing.B, f *figures.Table, name, url string) {
	b.Helper()
	g.load(b, url, loadWarmUp, vegeta.Rate{})
	before := g.processor()
	most := g.load(b, url, loadTime, vegeta.Rate{})
	f.Add(name+" requests/s", most.Throughput)
	f.Add(name+" processor us/request", float64((g.processor()-before).Microseconds())/float64(most.Requests))
	steady := g.load(b, url, loadTime, vegeta.Rate{Freq: loadRate, Per: time.Second})
	f.Add(name+" p50 ms", figures.Milliseconds(steady.Latencies.P50))
	f.Add(name+" p99 ms", figures.Milliseconds(steady.Latencies.P99))
}

// load sends requests, and fails unless each is answered with 200.
func (g *gateway) load(b *testing.B, url string, took time.Duration, rate vegeta.Rate) vegeta.Metrics {
	b.Helper()
	client := g.client(nil)
	transport := client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2, transport.MaxIdleConnsPerHost = false, loadRate
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	defer client.CloseIdleConnections()
	workers := uint64(loadRate) // so that no request waits for the answer to another
	if rate.Freq == 0 {
		workers = loadWorkers
	}
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(loadWorkers), vegeta.MaxWorkers(workers))
	var metrics vegeta.Metrics
	for result := range attacker.Attack(vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: url}), rate, took, "") {
		metrics.Add(result)
	}
	metrics.Close()
	if metrics.Success < 1 {
		b.Errorf("%s: %v %v", url, metrics.StatusCodes, metrics.Errors)
	}
	return metrics
}

// backend answers as service web, at an address that two gateways can have.
func (g *gateway) backend(b *testing.B) {
	b.Helper()
	const port = 9000
	l := g.listen(g.outside, fmt.Sprintf("%s:%d", serverAddress, port))
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "web")
	})}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() { server.Close() })
	g.serviceAt("web", port)
}

// static is the gateway's bootstrap with the resources of one host, as Envoy dumps them; without the certificate's key, which
// no dump has.
func (g *gateway) static(b *testing.B, chain, key []byte) string {
	b.Helper()
	const host = loadHost + ".example"
	dump := injected.ParseDump(b, g.admin("/config_dump?include_eds"))
	find := func(list, name string, at ...string) object { return dump.Find(b, list, name, at...) }
	backend := "80|default|web.outbound"
	cluster := find("dynamic_active_clusters", backend, "cluster")
	endpoints := find("dynamic_endpoint_configs", backend, "endpoint_config")
	delete(endpoints, "policy")
	for _, group := range endpoints["endpoints"].([]any) { // what is not of the configuration, such as their health
		delete(group.(object), "load_balancing_weight")
		for _, e := range group.(object)["lb_endpoints"].([]any) {
			delete(e.(object), "health_status")
			delete(e.(object), "metadata")
			delete(e.(object)["endpoint"].(object), "health_check_config")
		}
	}
	cluster["type"], cluster["load_assignment"] = "STATIC", endpoints
	delete(cluster, "eds_cluster_config")

	plain := find("dynamic_listeners", "http", "active_state", "listener")
	manager := plain["filter_chains"].([]any)[0].(object)["filters"].([]any)[0].(object)["typed_config"].(object)
	manager["route_config"] = routesOf(find("dynamic_route_configs", "http", "route_config"), plainHost)
	delete(manager, "rds")

	secure := find("dynamic_listeners", "https", "active_state", "listener")
	certificate := "https/default/" + loadHost
	manager = find("ecds_filters", certificate, "ecds_filter")["typed_config"].(object)
	manager["route_config"] = routesOf(find("dynamic_route_configs", certificate, "route_config"), host)
	delete(manager, "rds")
	var chains []any
	for _, c := range secure["filter_chains"].([]any) {
		if c.(object)["name"] == certificate {
			c.(object)["filters"] = []any{object{"name": certificate, "typed_config": manager}}
			context := c.(object)["transport_socket"].(object)["typed_config"].(object)["common_tls_context"].(object)
			delete(context, "tls_certificate_sds_secret_configs")
			context["tls_certificates"] = []any{object{
				"certificate_chain": object{"inline_bytes": chain}, "private_key": object{"inline_bytes": key},
			}}
			chains = append(chains, c)
		}
	}
	secure["filter_chains"] = chains
	tree := secure["filter_chain_matcher"].(object)["matcher_tree"].(object)["exact_match_map"].(object)
	tree["map"] = object{host: tree["map"].(object)[host]}

	bootstrap := dump[0]["bootstrap"].(object)
	delete(bootstrap, "dynamic_resources")
	delete(bootstrap["node"].(object), "extensions")
	resources := bootstrap["static_resources"].(object)
	resources["listeners"] = append(resources["listeners"].([]any), plain, secure)
	resources["clusters"] = append(resources["clusters"].([]any), cluster)
	text, err := json.Marshal(bootstrap)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// routesOf keeps the virtual host of the one host.
func routesOf(routes object, host string) object {
	routes["virtual_hosts"] = slices.DeleteFunc(routes["virtual_hosts"].([]any), func(v any) bool {
		return !slices.Contains(v.(object)["domains"].([]any), any(host))
	})
	return routes
}
