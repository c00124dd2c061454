package xds

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// counters are those of Envoy's statistics that tell what it received.
func (s *sidecar) counters(t *testing.T) map[string]int {
	t.Helper()
	text, err := s.ask("/stats?filter=" + `^(listener_manager|cluster_manager)\.`)
	if err != nil {
		t.Fatal(err)
	}
	counters := map[string]int{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if n, err := strconv.Atoi(value); ok && err == nil {
			counters[name] = n
		}
	}
	return counters
}

// A dump is what Envoy has of the control plane, by type and name: the version, or the endpoints.
type dump map[string]string

// dump returns what is in use, and the names of what is not yet.
func (s *sidecar) dump(t *testing.T) (active dump, warming []string) {
	t.Helper()
	text, err := s.ask("/config_dump?include_eds")
	if err != nil {
		t.Fatal(err)
	}
	type state struct {
		Version string `json:"version_info"`
		Cluster struct{ Name string }
		Route   struct{ Name string } `json:"route_config"`
	}
	var all struct {
		Configs []struct {
			Active    []state `json:"dynamic_active_clusters"`
			Warming   []state `json:"dynamic_warming_clusters"`
			Routes    []state `json:"dynamic_route_configs"`
			Endpoints []struct {
				Config json.RawMessage `json:"endpoint_config"`
			} `json:"dynamic_endpoint_configs"`
			Listeners []struct {
				Name    string
				Active  *state `json:"active_state"`
				Warming *state `json:"warming_state"`
			} `json:"dynamic_listeners"`
		}
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("config dump: %v in %.300s", err, text)
	}
	active = dump{}
	for _, c := range all.Configs {
		for _, v := range c.Active {
			active["cluster "+v.Cluster.Name] = v.Version
		}
		for _, v := range c.Warming {
			warming = append(warming, "cluster "+v.Cluster.Name)
		}
		for _, v := range c.Routes {
			active["route "+v.Route.Name] = v.Version
		}
		for _, v := range c.Endpoints {
			assignment := &endpointv3.ClusterLoadAssignment{}
			if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(v.Config, assignment); err != nil {
				t.Fatal(err)
			}
			active["endpoint "+assignment.GetClusterName()] = weights(assignment)
		}
		for _, l := range c.Listeners {
			if l.Active != nil {
				active["listener "+l.Name] = l.Active.Version
			}
			if l.Warming != nil {
				warming = append(warming, "listener "+l.Name)
			}
		}
	}
	return active, warming
}

// weights writes endpoints as "port*weight".
func weights(assignment *endpointv3.ClusterLoadAssignment) string {
	var all []string
	for _, group := range assignment.GetEndpoints() {
		for _, e := range group.GetLbEndpoints() {
			port := e.GetEndpoint().GetAddress().GetSocketAddress().GetPortValue()
			all = append(all, fmt.Sprintf("%d*%d", port, e.GetLoadBalancingWeight().GetValue()))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// has waits until Envoy uses exactly what is published. It may still have routes of listeners that are gone: their
// connections are drained for half a minute.
func (s *sidecar) has(t *testing.T, published []envoy.Resource) {
	t.Helper()
	want := dump{}
	for _, r := range published {
		switch r.Type {
		case resourcev3.EndpointType:
			assignment := &endpointv3.ClusterLoadAssignment{}
			if err := proto.Unmarshal(r.Body.GetValue(), assignment); err != nil {
				t.Fatal(err)
			}
			want["endpoint "+r.Name] = weights(assignment)
		case resourcev3.ClusterType:
			want["cluster "+r.Name] = r.Version
		case resourcev3.ListenerType:
			want["listener "+r.Name] = r.Version
		case resourcev3.RouteType:
			want["route "+r.Name] = r.Version
		}
	}
	eventually(t, "Envoy has what is published", func() error {
		got, warming := s.dump(t)
		maps.DeleteFunc(got, func(name, _ string) bool {
			_, published := want[name]
			return !published && strings.HasPrefix(name, "route ")
		})
		if len(warming) > 0 {
			return fmt.Errorf("warming: %v", warming)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("(-want +got)\n%s", diff)
		}
		return nil
	})
}

// allocated is how much memory Envoy has in use, in bytes.
func (s *sidecar) allocated(t *testing.T) int64 {
	t.Helper()
	text, err := s.ask("/memory")
	if err != nil {
		t.Fatal(err)
	}
	var memory struct {
		Allocated int64 `json:"allocated,string"`
	}
	if err := json.Unmarshal([]byte(text), &memory); err != nil {
		t.Fatal(err)
	}
	return memory.Allocated
}
