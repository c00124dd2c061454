package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

const (
	promtool   = root + "/.local/bin/promtool" // made by make cluster
	alertsTest = "testdata/alerts-test.yaml"
)

// check runs promtool, which must have nothing to complain about.
func check(t *testing.T, arguments ...string) {
	t.Helper()
	if out, err := exec.Command(promtool, arguments...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
}

// configMap returns what a rendered ConfigMap holds.
func configMap(t *testing.T, rendered, name string) map[string]string {
	t.Helper()
	for _, c := range decode[corev1.ConfigMap](t, rendered, "ConfigMap") {
		if c.Name == name {
			return c.Data
		}
	}
	t.Fatalf("there is no ConfigMap %s", name)
	return nil
}

// Prometheus does not start with a configuration that it cannot read.
func TestPrometheusReadsItsConfiguration(t *testing.T) {
	for _, values := range []string{"prometheus.enabled=true", "prometheus.alertmanagers={alertmanager.monitoring.svc:9093,[fd00::1]:9093}"} {
		dir := t.TempDir()
		for name, text := range configMap(t, template(t, "--set", values), "traffic-prometheus") {
			text = strings.ReplaceAll(text, "/etc/prometheus", dir)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		check(t, "check", "config", "--lint=all", "--lint-fatal", filepath.Join(dir, "prometheus.yaml"))
	}
}

// Who is injected is what the webhook says, under its name in Prometheus.
func TestTargetsAreThePodsThatInjectionMarks(t *testing.T) {
	meta := "__meta_kubernetes_pod_annotation_" + regexp.MustCompile(`[^a-z]`).ReplaceAllString(label.ProxyAnnotation, "_")
	rendered := template(t, "--set", "prometheusOperator.podMonitors=true")
	config := configMap(t, rendered, "traffic-prometheus")["prometheus.yaml"]
	monitors := decode[monitoringv1.PodMonitor](t, rendered, "PodMonitor")
	if len(monitors) != 2 {
		t.Fatalf("there are %d PodMonitors", len(monitors))
	}
	kept := string(monitors[0].Spec.PodMetricsEndpoints[0].RelabelConfigs[0].SourceLabels[0])
	if !strings.Contains(config, "source_labels: ["+meta+",") || kept != meta {
		t.Errorf("targets are not found by %s: the PodMonitor asks for %s\n%s", meta, kept, config)
	}
}

func TestOperatorsRulesAreTheAlerts(t *testing.T) {
	rules := decode[monitoringv1.PrometheusRule](t, template(t, "--set", "prometheusOperator.prometheusRule=true,prometheusOperator.labels.release=stack"), "PrometheusRule")
	if len(rules) != 1 || rules[0].Labels["release"] != "stack" {
		t.Fatalf("rendered %v", rules)
	}
	var names []string
	for _, group := range rules[0].Spec.Groups {
		for _, rule := range group.Rules {
			names = append(names, rule.Alert)
		}
	}
	if !slices.Equal(names, alerts(t, alertsText(t))) {
		t.Errorf("the PrometheusRule has %v", names)
	}
}

// alertsText is what the chart's own Prometheus reads.
func alertsText(t *testing.T, arguments ...string) string {
	t.Helper()
	return configMap(t, template(t, arguments...), "traffic-prometheus")["alerts.yaml"]
}

// alerts lists the names of the alerts.
func alerts(t *testing.T, text string) []string {
	t.Helper()
	var file monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			names = append(names, rule.Alert)
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || rule.Labels["severity"] == "" {
				t.Errorf("%s does not say what happens, what to do, and how bad it is", rule.Alert)
			}
		}
	}
	return names
}

// An alert that never fires, or that fires when nothing is wrong, is worse than none. Each has a place in the test of
// promtool, which has a cluster that is well and one where everything fails.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	text, err := os.ReadFile(alertsTest)
	if err != nil {
		t.Fatal(err)
	}
	dir, rules := t.TempDir(), alertsText(t)
	for name, content := range map[string]string{"alerts.yaml": rules, "test.yaml": string(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check(t, "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(dir, "alerts.yaml"))
	check(t, "test", "rules", filepath.Join(dir, "test.yaml"))
	if without := alerts(t, alertsText(t, "--set", "ingress.enabled=false")); slices.Contains(without, "TrafficIngressDown") {
		t.Error("without a gateway it is missed")
	}
	for _, name := range alerts(t, rules) {
		if !strings.Contains(string(text), `{alertname="`+name+`"}`) {
			t.Errorf("%s does not expect the alert %s of anything", alertsTest, name)
		}
	}
}

type panel struct {
	ID      int
	Title   string
	Type    string
	Targets []struct{ Expr string }
}

// panels reads the dashboard as Grafana gets it, with variables replaced by values.
func panels(t *testing.T) []panel {
	t.Helper()
	var dashboard struct{ Panels []panel }
	text := configMap(t, template(t, "--set", "grafana.dashboard=true"), "traffic-dashboard")["kubernetes-traffic-manager.json"]
	text = strings.NewReplacer("$__rate_interval", "5m", "$service", ".*").Replace(text)
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	return dashboard.Panels
}

// A panel whose expression Prometheus refuses shows an error in place of a graph.
func TestDashboardAsksWhatPrometheusUnderstands(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	ids := map[int]bool{}
	for _, p := range panels(t) {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for i, target := range p.Targets {
			quoted, err := json.Marshal(target.Expr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&rules, "      - {record: 'panel:%d:%d', expr: %s}\n", p.ID, i, quoted)
		}
	}
	if len(ids) < 10 {
		t.Fatalf("the dashboard has %d panels", len(ids))
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, "check", "rules", file)
}
