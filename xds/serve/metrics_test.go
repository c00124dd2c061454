package serve

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// The numbers that an operator sees are those of what happened.
func TestMetrics(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("c", 1), route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	p.ack(p.want("cluster: c"))
	p.subscribe(routes, "r", "q")
	p.nack(p.want("route: r -q"), "no")
	p.nack(p.want("route: -q"), "not even this")
	p.nack(p.want("route: r"), "no")
	p.quiet()
	done := published(s, set(staticCluster("c", 2)))
	p.wantAll("cluster: c")
	<-done

	size := float64(newRecord(staticCluster("c", 1)).size)
	for name, test := range map[string]struct {
		c    prometheus.Collector
		want float64
	}{
		"proxies":           {s.metrics.proxies, 1},
		"cluster responses": {s.metrics.responses.WithLabelValues("cluster"), 2},
		"cluster resources": {s.metrics.resources.WithLabelValues("cluster"), 2},
		"cluster bytes":     {s.metrics.bytes.WithLabelValues("cluster"), 2 * size},
		"route responses":   {s.metrics.responses.WithLabelValues("route"), 3},
		"route resources":   {s.metrics.resources.WithLabelValues("route"), 4},
		"route rejections":  {s.metrics.rejections.WithLabelValues("route"), 3},
		"deadlines":         {s.metrics.deadlines, 0},
	} {
		if got := testutil.ToFloat64(test.c); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "traffic_control_") {
			t.Errorf("metric %s is not named traffic_control_*", f.GetName())
		}
		if f.GetName() == "traffic_control_publish_ack_seconds" && f.GetMetric()[0].GetHistogram().GetSampleCount() != 1 {
			t.Errorf("%s has %v", f.GetName(), f)
		}
	}
	p.close()
	eventually(t, "no proxy is connected", func() bool { return testutil.ToFloat64(s.metrics.proxies) == 0 })
}

func TestMetricsAreNamedAsPrometheusAdvises(t *testing.T) {
	s := startServer(t)
	if _, err := NewTokenReviewer(nil, s.registry); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*prometheus.CounterVec{s.metrics.responses, s.metrics.resources, s.metrics.bytes} {
		v.WithLabelValues("route")
	}
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// An alert looks at how a counter grows: the first refusal of a kind must not be where it begins.
func TestEveryRefusalStartsAtZero(t *testing.T) {
	s := startServer(t)
	if n := testutil.CollectAndCount(s.metrics.refusals); n != len(refusalReasons) {
		t.Errorf("%d reasons, want %v", n, refusalReasons)
	}
	if n := testutil.CollectAndCount(s.metrics.rejections); n != 5 {
		t.Errorf("rejections of %d types, want 5", n)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{"tls": true} // a connection's, which is no stream yet
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`&refusal\{\s*"([a-z_]+)"`).FindAllSubmatch(source, -1) {
			found[string(match[1])] = true
		}
	}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, refusalReasons) {
		t.Errorf("the sources refuse for %v, zero are %v", got, refusalReasons)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	certFile, keyFile, _ := writeCertificate(t, t.TempDir(), "traffic-control")
	taken := prometheus.NewRegistry()
	whole := func() Config {
		return Config{Authenticator: fakeTokens{}, CertFile: certFile, KeyFile: keyFile, Registerer: prometheus.NewRegistry()}
	}
	if _, err := newMetrics(taken, nil); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Config){
		"Authenticator": func(c *Config) { c.Authenticator = nil },
		"Registerer":    func(c *Config) { c.Registerer = nil },
		"CertFile":      func(c *Config) { c.CertFile = "" },
		"KeyFile":       func(c *Config) { c.KeyFile = certFile },
		"NewStreams":    func(c *Config) { c.NewStreams = -1 },
		"Patience":      func(c *Config) { c.Patience = -1 },
		"Late":          func(c *Config) { c.Late = -1 },
		"registry":      func(c *Config) { c.Registerer = taken },
	} {
		c := whole()
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("without a good %s: %v", field, err)
		}
	}
}
