package chart

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// schema is as much of JSON schema as this test looks at.
type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 string             `json:"type"`
	Title                string             `json:"title"`
	Description          string             `json:"description"`
	Enum                 []string           `json:"enum"`
	Pattern              string             `json:"pattern"`
	Minimum              *int64             `json:"minimum"`
	Maximum              *int64             `json:"maximum"`
	Items                *schema            `json:"items"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
	Definitions          map[string]*schema `json:"definitions"`
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read schema
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return &read
}

func readValues(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func defaults(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return readValues(t, text)
}

// settable lists the paths of all values that the schema knows by name.
func (s *schema) settable(root *schema, prefix string) []string {
	var paths []string
	for name, property := range s.Properties {
		if definition, isRef := strings.CutPrefix(property.Ref, "#/definitions/"); isRef {
			property = root.Definitions[definition]
		}
		if len(property.Properties) > 0 {
			paths = append(paths, property.settable(root, prefix+name+".")...)
		} else {
			paths = append(paths, prefix+name)
		}
	}
	return paths
}

// lookup is what values say at a path.
func lookup(values map[string]any, path string) (value any, there bool) {
	name, rest, deeper := strings.Cut(path, ".")
	value, there = values[name]
	if !there || !deeper {
		return value, there
	}
	below, isMap := value.(map[string]any)
	if !isMap {
		return nil, false
	}
	return lookup(below, rest)
}

// A value that only the schema or only values.yaml knows cannot be found, or cannot be set.
func TestSchemaAndDefaultsNameTheSameValues(t *testing.T) {
	schema, values := readSchema(t), defaults(t)
	for _, path := range schema.settable(schema, "") {
		if _, there := lookup(values, path); path != "global" && !there {
			t.Errorf("%s is in the schema but has no default in values.yaml", path)
		}
	}
	closed(t, schema, "values")
	for name, definition := range schema.Definitions {
		closed(t, definition, name)
	}
	// That values.yaml has no path that the schema lacks is what helm itself checks, as all objects are closed.
	template(t)
}

// closed complains about objects with named properties that let misspelt ones pass.
func closed(t *testing.T, s *schema, path string) {
	t.Helper()
	if len(s.Properties) > 0 && s.AdditionalProperties != false {
		t.Errorf("%s takes names that nobody reads", path)
	}
	for name, property := range s.Properties {
		closed(t, property, path+"."+name)
	}
}

// A value that no story sets could be one that no template reads. Of those that are one word of a few, each word is told, so
// that the API server judges what it renders.
func TestEveryValueHasAStory(t *testing.T) {
	told := map[string]map[string]bool{}
	schema, standard := readSchema(t), defaults(t)
	all := schema.settable(schema, "")
	for _, path := range all {
		told[path] = map[string]bool{}
	}
	tell := func(values map[string]any) {
		for _, path := range all {
			if value, there := lookup(values, path); there {
				told[path][fmt.Sprint(value)] = true
			}
		}
	}
	for _, story := range stories(t) {
		tell(readValues(t, story.values))
	}
	for _, path := range all {
		value, _ := lookup(standard, path)
		others := maps.Clone(told[path])
		delete(others, fmt.Sprint(value))
		if len(others) == 0 && path != "global" {
			t.Errorf("no story in testdata sets %s to something else than its default, %v", path, value)
		}
	}
	tell(standard)
	for _, path := range all {
		for _, word := range schema.words(schema, path) {
			if !told[path][word] {
				t.Errorf("no story in testdata sets %s to %s", path, word)
			}
		}
	}
}

// words are what a value may be if that is one of a few words.
func (s *schema) words(root *schema, path string) []string {
	name, rest, deeper := strings.Cut(path, ".")
	property := s.Properties[name]
	if definition, isRef := strings.CutPrefix(property.Ref, "#/definitions/"); isRef {
		property = root.Definitions[definition]
	}
	switch {
	case deeper:
		return property.words(root, rest)
	case property.Type == "boolean":
		return []string{"true", "false"}
	}
	if strings.HasSuffix(strings.ToLower(path), "loglevel") {
		return nil // each is passed on as it is
	}
	return property.Enum
}

// A wrong value must be an error of helm that names it, not a pod that does not start.
func TestWrongValuesAreRefused(t *testing.T) {
	for set, want := range map[string]string{
		"acessLog=all":                          "additional properties 'acessLog' not allowed",
		"accessLog=some":                        "at '/accessLog': value must be one of 'all', 'errors', 'off'",
		"outbound.defaultPolicy=allow":          "at '/outbound/defaultPolicy': value must be one of 'block', 'passthrough'",
		"outbound.kubernetesAPI=yes":            "at '/outbound/kubernetesAPI': got string, want boolean",
		"clusterDomain=cluster.local.":          "at '/clusterDomain': 'cluster.local.' does not match pattern",
		"tracing.kind=jaeger":                   "at '/tracing/kind': value must be one of 'zipkin', 'otlp'",
		"tracing.address=zipkin":                "at '/tracing/address': 'zipkin' does not match pattern",
		"tracing.address=http://zipkin:9411":    "at '/tracing/address': 'http://zipkin:9411' does not match pattern",
		"port.trafficControl=0":                 "at '/port/trafficControl': minimum: got 0, want 1",
		"port.envoyProxy=65536":                 "at '/port/envoyProxy': maximum: got 65,536, want 65,535",
		"port.envoyAdmin=http":                  "at '/port/envoyAdmin': got string, want integer",
		"proxy.uid=0":                           "at '/proxy/uid': minimum: got 0, want 1",
		"proxy.uid=65532":                       "at '/proxy/uid'",
		"proxy.uid=4000000000":                  "at '/proxy/uid': maximum",
		"proxy.concurrency=65":                  "at '/proxy/concurrency': maximum: got 65, want 64",
		"control.topologySpread.rack=Always":    "at '/control/topologySpread/rack': value must be one of",
		"networkPolicies.apiServer.ports={}":    "at '/networkPolicies/apiServer/ports/0': got string, want integer",
		"images.injectedPullSecrets={A_b}":      "at '/images/injectedPullSecrets/0'",
		"proxy.logLevel=warn":                   "at '/proxy/logLevel': value must be one of",
		"proxy.resources.requests.memory=lots":  "at '/proxy/resources/requests/memory'",
		"proxy.resources.request.memory=1Gi":    "additional properties 'request' not allowed",
		"redirect.excludeCIDRs={10.0.0.0/33}":   "at '/redirect/excludeCIDRs/0': '10.0.0.0/33' does not match pattern",
		"redirect.excludeCIDRs={10.0.0.256/8}":  "at '/redirect/excludeCIDRs/0': '10.0.0.256/8' does not match pattern",
		"redirect.excludeCIDRs={fd00::/129}":    "at '/redirect/excludeCIDRs/0': 'fd00::/129' does not match pattern",
		"redirect.excludeCIDRs={10.0.0.0}":      "at '/redirect/excludeCIDRs/0': '10.0.0.0' does not match pattern",
		"redirect.excludePorts={0}":             "at '/redirect/excludePorts/0'",
		"redirect.excludePorts={http}":          "at '/redirect/excludePorts/0'",
		"redirect.excludePorts=5432":            "at '/redirect/excludePorts': got number, want array",
		"images.envoyProxy=envoy":               "at '/images/envoyProxy': 'envoy' does not match pattern",
		"images.trafficControl=traffic-control": "at '/images/trafficControl'",
		"images.pullPolicy=Sometimes":           "at '/images/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
		"cni.confDir=etc/cni/net.d":             "at '/cni/confDir': 'etc/cni/net.d' does not match pattern",
		"cni.backend=ebpf":                      "at '/cni/backend': value must be one of",
		"control.replicas=0":                    "at '/control/replicas': minimum: got 0, want 1",
		"webhook.drainDelay=5":                  "at '/webhook/drainDelay': got number, want string",
		"webhook.drainDelay=21s":                "at '/webhook/drainDelay': '21s' does not match pattern",
		"webhook.drainDelay=1m":                 "at '/webhook/drainDelay': '1m' does not match pattern",
		"node.uninstallWait=20.5s":              "at '/node/uninstallWait': '20.5s' does not match pattern",
		"node.verifyInterval=often":             "at '/node/verifyInterval': 'often' does not match pattern",
		"node.replicas=2":                       "additional properties 'replicas' not allowed",
		"prometheus.scrapeInterval=15":          "at '/prometheus/scrapeInterval': got number, want string",
		"prometheus.retention.time=2days":       "at '/prometheus/retention/time': '2days' does not match pattern",
		"prometheus.retention.size=4GiB":        "at '/prometheus/retention/size': '4GiB' does not match pattern",
		"prometheus.volume.size=big":            "at '/prometheus/volume/size'",
		"prometheus.alertmanagers={http://a:1}": "at '/prometheus/alertmanagers/0': 'http://a:1' does not match pattern",
		"prometheus.replicas=2":                 "additional properties 'replicas' not allowed",
		"zipkin.enabled=true,tracing.kind=otlp": "zipkin.enabled with tracing.kind=otlp, which Zipkin does not speak: set tracing.address",
		"certManager.namespace=Cert":            "at '/certManager/namespace': 'Cert' does not match pattern",
		"commonLabels.team=a team":              "at '/commonLabels/team': 'a team' does not match pattern",
		`commonLabels.traffic\.x=true`:          "at '/commonLabels/traffic.x': false schema",
		"control.podAnnotations.a=true":         "at '/control/podAnnotations/a': got boolean, want string",
		"resourceQuota.pods=0":                  "at '/resourceQuota/pods': minimum: got 0, want 1",
	} {
		t.Run(set, func(t *testing.T) {
			_, complaint, err := run(t, "template", "traffic", chartDir, "-n", namespace, "--set", set)
			if err == nil {
				t.Fatal("helm takes it")
			}
			if !strings.Contains(complaint, want) {
				t.Errorf("helm says\n%s\nwant %s", complaint, want)
			}
		})
	}
}
