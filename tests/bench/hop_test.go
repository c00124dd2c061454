package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

const (
	hopRate    = 1000 // requests a second
	hopTime    = 10 * time.Second
	hopWarmUp  = 2 * time.Second
	hopService = 500 // of a thousand
)

// BenchmarkHop prints the latency of 1,000 requests a second through a managed Envoy with 1,000 open Services, and through
// the same Envoy whose configuration, as it dumps it, was made static and trimmed to the one Service; and without any.
// Vegeta sends each request at its time, whatever became of those before.
func BenchmarkHop(b *testing.B) {
	f := figures.New()
	through := "http://" + clusterIPOf(hopService) + "/"
	managed, static, bare := newWorld(b), newWorld(b), newWorld(b)
	backends := managed.serve(b)
	static.serve(b)
	bare.serve(b)
	sidecar := serveOne(b, managed, resources(b, services, backends))
	sidecar.has(b, services)
	serveStatic(b, static, sidecar)

	ways := []struct {
		name  string
		world *world
		url   string
	}{
		{"managed Envoy", managed, through},
		{"static Envoy", static, through},
		{"no Envoy", bare, fmt.Sprintf("http://%s:%d/", backends[0].address, backends[0].port)},
	}
	f.Goal("p50: managed above static %", 5)
	for b.Loop() {
		for n := range *figures.Rounds {
			got := make([]vegeta.LatencyMetrics, len(ways))
			for i := range ways {
				// In turns, so that each meets the same noise.
				at := (i + n) % len(ways)
				ways[at].world.attack(b, ways[at].url, hopWarmUp)
				got[at] = ways[at].world.attack(b, ways[at].url, hopTime)
			}
			for i, way := range ways {
				f.Add(way.name+" p50 ms", figures.Milliseconds(got[i].P50))
				f.Add(way.name+" p99 ms", figures.Milliseconds(got[i].P99))
			}
			f.Add("p50: managed above static %", above(got[0].P50, got[1].P50))
			f.Add("p99: managed above static %", above(got[0].P99, got[1].P99))
		}
	}
	f.Print(b)
}

func above(a, b time.Duration) float64 { return (a.Seconds()/b.Seconds() - 1) * 100 }

// attack sends requests from the pod at the rate, and fails if one is not answered with 200.
func (w *world) attack(b *testing.B, url string, took time.Duration) vegeta.LatencyMetrics {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: w.dial, MaxIdleConnsPerHost: 100}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	attacker := vegeta.NewAttacker(vegeta.Client(client))
	var metrics vegeta.Metrics
	for result := range attacker.Attack(
		vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: url}), vegeta.Rate{Freq: hopRate, Per: time.Second}, took, "",
	) {
		metrics.Add(result)
	}
	metrics.Close()
	if metrics.Success < 1 {
		b.Errorf("%s: %v %v", url, metrics.StatusCodes, metrics.Errors)
	}
	return metrics.Latencies
}

// serveStatic runs an Envoy, in a pod of its own, with what another has for the one Service, as static resources.
func serveStatic(b *testing.B, w *world, managed *sidecar) {
	b.Helper()
	folder := injected.Volumes(b, managed.pod)
	config := managed.trimmed(b, clusterIPOf(hopService)+":80", fmt.Sprintf("80|default|%s.outbound", serviceName(hopService)))
	socket := filepath.Join(folder, adminSocket)
	config["admin"] = object{"address": object{"pipe": object{"path": socket}}}
	text, err := json.Marshal(config)
	if err != nil {
		b.Fatal(err)
	}
	injected.Redirect(b, w.pod, managed.pod)
	args := append([]string{}, managed.args...)
	args[len(args)-1] = string(text)
	runEnvoy(b, w, folder, args)
}

type object = map[string]any

// trimmed is the sidecar's configuration with one listener and its cluster, as static resources.
func (s *sidecar) trimmed(b *testing.B, listener, cluster string) object {
	b.Helper()
	got, err := ask(s.admin, "http://admin/config_dump?include_eds")
	if err != nil {
		b.Fatal(err)
	}
	dump := injected.ParseDump(b, []byte(got.body))
	find := func(list, name string, at ...string) object { return dump.Find(b, list, name, at...) }
	c := find("dynamic_active_clusters", cluster, "cluster")
	c["type"], c["load_assignment"] = "STATIC", object{
		"cluster_name": cluster, "endpoints": endpointsOf(find("dynamic_endpoint_configs", cluster, "endpoint_config")),
	}
	delete(c, "eds_cluster_config")
	l := find("dynamic_listeners", listener, "active_state", "listener")
	manager := l["filter_chains"].([]any)[0].(object)["filters"].([]any)[0].(object)["typed_config"].(object)
	manager["route_config"] = find("dynamic_route_configs", cluster, "route_config")
	delete(manager, "rds")

	bootstrap := dump[0]["bootstrap"].(object)
	delete(bootstrap, "dynamic_resources")
	delete(bootstrap["node"].(object), "extensions")
	static := bootstrap["static_resources"].(object)
	static["listeners"] = append(static["listeners"].([]any), l)
	static["clusters"] = append(static["clusters"].([]any), c)
	return bootstrap
}

// endpointsOf leaves out of dumped endpoints what is not of the configuration, such as their health.
func endpointsOf(dumped object) []object {
	var groups []object
	for _, group := range dumped["endpoints"].([]any) {
		var endpoints []object
		for _, e := range group.(object)["lb_endpoints"].([]any) {
			endpoints = append(endpoints, object{
				"endpoint":              object{"address": e.(object)["endpoint"].(object)["address"]},
				"load_balancing_weight": e.(object)["load_balancing_weight"],
			})
		}
		groups = append(groups, object{"lb_endpoints": endpoints})
	}
	return groups
}
