package envoy

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

// binary is the Envoy that the local cluster runs.
const binary = "../../.local/bin/envoy"

// object is a resource as YAML has it.
type object = map[string]any

// TestStoriesLoad gives the resources of each story of the control plane to Envoy, which must take them without a
// warning: an unknown field, a deprecated one or a missing extension would reach every proxy of a cluster.
func TestStoriesLoad(t *testing.T) {
	paths, err := filepath.Glob("../../xds/testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			validate(t, bootstrap(t, archive, ""), "")
			if strings.HasPrefix(filepath.Base(path), "gateway") {
				validate(t, bootstrap(t, archive, "gateway-"), "")
			}
		})
	}
}

// TestEnvoyRefuses is the control of the test above: Envoy really reads what it is given.
func TestEnvoyRefuses(t *testing.T) {
	archive, err := txtar.ParseFile("../../xds/testdata/http.txtar")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new, refusal string }{
		{"an unknown field in a listener", "stat_prefix: outbound", "stat_prefixes: outbound", "stat_prefixes"},
		{"an unknown filter", "envoy.extensions.filters.http.fault.v3.HTTPFault", "envoy.extensions.filters.http.fault.v3.HTTPFaults", "HTTPFaults"},
		{"weight 0", "load_balancing_weight: 100", "load_balancing_weight: 0", "LoadBalancingWeight"},
		{"a route to nowhere", "cluster: 9080|default|reviews.outbound", `cluster: ""`, "Cluster"},
		{"a deprecated field", "connect_timeout: 60s", "connect_timeout: 60s\ntrack_timeout_budgets: true", "deprecated"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			changed := &txtar.Archive{}
			for _, f := range archive.Files {
				data := bytes.ReplaceAll(f.Data, []byte(test.old), []byte(test.new))
				changed.Files = append(changed.Files, txtar.File{Name: f.Name, Data: data})
			}
			validate(t, bootstrap(t, changed, ""), test.refusal)
		})
	}
}

// complaint is a line of Envoy's log that nobody should have to read.
var complaint = regexp.MustCompile(`(?m)^.*(\[(warning|error|critical)\]|[Dd]eprecated).*$`)

// validate runs Envoy on a configuration and wants it to succeed in silence, or to complain with the given words.
func validate(t *testing.T, config []byte, refusal string) {
	path := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "--mode", "validate", "--reject-unknown-dynamic-fields", "--config-path", path).CombinedOutput()
	complaints := complaint.FindAllString(string(out), -1)
	switch {
	case refusal == "" && (err != nil || len(complaints) > 0):
		t.Errorf("envoy: %v\n%s", err, out)
	case refusal != "" && len(complaints) == 0 && err == nil:
		t.Errorf("envoy took it")
	case refusal != "" && !strings.Contains(string(out), refusal):
		t.Errorf("envoy does not name %s:\n%s", refusal, out)
	}
}

// bootstrap makes a static configuration of a story's resources: routes move into the listeners that name them, and
// endpoints into clusters of their own, because neither can stand alone in a file. The files have the prefix.
func bootstrap(t *testing.T, archive *txtar.Archive, prefix string) []byte {
	resources := map[string][]object{}
	for _, f := range archive.Files {
		if name, ours := strings.CutPrefix(f.Name, prefix); ours && strings.HasSuffix(name, "s.yaml") && name != "objects.yaml" && !strings.HasPrefix(name, "gateway-") {
			resources[name] = documents(t, f)
		}
	}
	routes := map[any]object{}
	for _, r := range resources["routes.yaml"] {
		routes[r["name"]] = r
	}
	managers := map[any]object{}
	for _, m := range resources["managers.yaml"] {
		managers[m["name"]] = m["typed_config"].(object)
	}
	for _, l := range resources["listeners.yaml"] {
		for _, chain := range l["filter_chains"].([]any) {
			inlineManager(chain.(object), managers)
		}
		inlineRoute(t, l, routes)
	}
	if len(resources["listeners.yaml"]) == 0 && prefix != "" {
		resources["listeners.yaml"] = routeListeners(routes)
	}
	clusters := []object{{"name": "traffic-control", "type": "STATIC"}}
	for _, assignment := range resources["endpoints.yaml"] {
		clusters = append(clusters, object{
			"name": "static " + assignment["cluster_name"].(string), "type": "STATIC", "load_assignment": assignment,
		})
	}
	config := object{
		"node": object{"id": "pod.default", "cluster": "pod.default"},
		"dynamic_resources": object{"ads_config": object{
			"api_type": "DELTA_GRPC", "transport_api_version": "V3",
			"grpc_services": []object{{"envoy_grpc": object{"cluster_name": "traffic-control"}}},
		}},
		"static_resources": object{
			"clusters":  append(clusters, resources["clusters.yaml"]...),
			"listeners": resources["listeners.yaml"],
		},
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func documents(t *testing.T, f txtar.File) []object {
	var list []object
	for _, text := range bytes.Split(f.Data, []byte("\n---\n")) {
		var o object
		if err := yaml.Unmarshal(text, &o); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		list = append(list, o)
	}
	return list
}

func inlineRoute(t *testing.T, listener object, routes map[any]object) {
	chain := listener["filter_chains"].([]any)[0].(object)
	config := chain["filters"].([]any)[0].(object)["typed_config"].(object)
	rds, ok := config["rds"].(object)
	if !ok {
		return
	}
	route := routes[rds["route_config_name"]]
	if route == nil {
		t.Fatalf("listener %s: no route %s", listener["name"], rds["route_config_name"])
	}
	delete(config, "rds")
	config["route_config"] = route
}

// inlineManager puts a connection manager into the chain that names it.
func inlineManager(chain object, managers map[any]object) {
	filter := chain["filters"].([]any)[0].(object)
	if manager, named := managers[filter["name"]]; named {
		delete(filter, "config_discovery")
		filter["typed_config"] = manager
	}
}

// routeListeners holds the routes of a story that does not show its listeners.
func routeListeners(routes map[any]object) []object {
	var listeners []object
	for _, name := range slices.SortedFunc(maps.Keys(routes), func(a, b any) int { return strings.Compare(a.(string), b.(string)) }) {
		filter := func(name, configuration string) object {
			return object{"name": name, "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters." + configuration}}
		}
		manager := filter("manager", "network.http_connection_manager.v3.HttpConnectionManager")
		config := manager["typed_config"].(object)
		config["stat_prefix"], config["route_config"] = "story", routes[name]
		buffer := filter("envoy.filters.http.buffer", "http.buffer.v3.Buffer")
		buffer["typed_config"].(object)["max_request_bytes"] = 1
		config["http_filters"] = []object{
			filter("envoy.filters.http.rbac", "http.rbac.v3.RBAC"), buffer, filter("envoy.filters.http.router", "http.router.v3.Router"),
		}
		listeners = append(listeners, object{
			"name": name, "filter_chains": []object{{"filters": []object{manager}}},
			"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 8080 + len(listeners)}},
		})
	}
	return listeners
}
