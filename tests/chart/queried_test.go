package chart

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// A metric that was renamed leaves a panel empty and an alert silent for good.
func TestQueriedMetricsExist(t *testing.T) {
	own, envoy := ownMetrics(t), slices.Concat(
		envoyStatistics(t, root+"/webhook/inject/testdata/bootstrap-block.yaml"), envoyStatistics(t, chartDir+"/files/ingress-bootstrap.json"))
	name := regexp.MustCompile(`\b(traffic_[a-z_]*[a-z]|envoy_[a-z_]*[a-z])\b`)
	inQuotes := regexp.MustCompile(`"[^"]*"`)
	inLabels := regexp.MustCompile(`\b(by|without) \([^)]*\)|\{[^}]*\}`)
	seen := 0
	for where, expr := range expressions(t) {
		if strings.Contains(expr, "__name__") {
			expr += " traffic_control_certificate_expiration_timestamp_seconds traffic_webhook_certificate_expiration_timestamp_seconds"
		}
		for _, metric := range name.FindAllString(inLabels.ReplaceAllString(inQuotes.ReplaceAllString(expr, ""), ""), -1) {
			seen++
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(metric, "")
			if !own[base] && !matches(envoy, statistic(base)) {
				t.Errorf("%s asks for %s, which nobody has", where, metric)
			}
		}
	}
	if seen < 30 {
		t.Errorf("found %d metrics in all expressions", seen)
	}
}

// ownMetrics are the names in the sources of our programs.
func ownMetrics(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	quoted := regexp.MustCompile(`"(traffic_(?:control|webhook|node)_[a-z_]+)"`)
	for _, dir := range []string{"xds", "webhook", "cni-plugin"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(file string, entry os.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
				return err
			}
			source, err := os.ReadFile(file)
			for _, match := range quoted.FindAllStringSubmatch(string(source), -1) {
				names[match[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(names) < 10 {
		t.Fatalf("found only %v", slices.Sorted(maps.Keys(names)))
	}
	return names
}

// envoyStatistics are the patterns of what an Envoy with this bootstrap counts.
func envoyStatistics(t *testing.T, bootstrapFile string) []*regexp.Regexp {
	t.Helper()
	text, err := os.ReadFile(bootstrapFile)
	if err != nil {
		t.Fatal(err)
	}
	var bootstrap struct {
		StatsConfig struct {
			Matcher struct {
				Inclusion struct {
					Patterns []struct {
						Prefix string
						Regex  struct{ Regex string } `json:"safe_regex"`
					}
				} `json:"inclusion_list"`
			} `json:"stats_matcher"`
		} `json:"stats_config"`
	}
	if err := yaml.Unmarshal(text, &bootstrap); err != nil {
		t.Fatal(err)
	}
	var all []*regexp.Regexp
	for _, p := range bootstrap.StatsConfig.Matcher.Inclusion.Patterns {
		expr := p.Regex.Regex
		if p.Prefix != "" {
			expr = regexp.QuoteMeta(p.Prefix) + ".*"
		}
		all = append(all, regexp.MustCompile("^(?:"+expr+")$"))
	}
	return all
}

// statistic is the name in Envoy of a metric of Prometheus.
func statistic(metric string) string {
	switch {
	case strings.HasPrefix(metric, "envoy_cluster_outbound_"):
		kind := strings.TrimPrefix(metric, "envoy_cluster_outbound_")
		return "cluster.9080|demo|reviews.outbound." + strings.Replace(kind, "_xx", "_5xx", 1)
	case strings.HasPrefix(metric, "envoy_http_downstream_"):
		return "http.traffic-ingress.downstream_" + strings.Replace(strings.TrimPrefix(metric, "envoy_http_downstream_"), "_xx", "_5xx", 1)
	}
	if kind, ok := strings.CutPrefix(metric, "envoy_listener_"); ok {
		return "listener.traffic-ingress." + kind
	}
	if action, ok := strings.CutPrefix(metric, "envoy_overload_envoy_overload_actions_"); ok {
		return "overload.envoy.overload_actions." + strings.Replace(action, "_scale_percent", ".scale_percent", 1)
	}
	for _, scope := range []string{"control_plane", "server"} {
		if kind, ok := strings.CutPrefix(metric, "envoy_"+scope+"_"); ok {
			return scope + "." + kind
		}
	}
	return metric
}

func matches(patterns []*regexp.Regexp, name string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(name) })
}

// expressions are those of the dashboard and of the alerts.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, p := range panels(t) {
		for i, target := range p.Targets {
			all[fmt.Sprintf("panel %q, %d", p.Title, i)] = target.Expr
		}
	}
	for _, match := range regexp.MustCompile(`alert: (\w+)\n +expr: (.*)`).FindAllStringSubmatch(alertsText(t), -1) {
		all["alert "+match[1]] = match[2]
	}
	return all
}
