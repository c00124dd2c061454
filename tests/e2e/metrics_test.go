package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// prometheus checks that it answers where the values say, and asks Envoys where the values say.
func prometheus(t *testing.T, s *site) {
	address := s.kubectl(t, "get", "pod", "-n", "shop", "client", "-o", "jsonpath={.status.podIP}")
	query := fmt.Sprintf(`up{job="traffic-envoy-pods",instance="%s:%d"}`, address, statsPort)
	path := fmt.Sprintf("/api/v1/namespaces/%s/services/traffic-prometheus:%d/proxy/api/v1/query?query=%s", release, metricsPort, url.QueryEscape(query))
	eventually(t, "1", func() string {
		var answer struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		if err := json.Unmarshal([]byte(s.kubectl(t, "get", "--raw", path)), &answer); err != nil {
			t.Fatal(err)
		}
		if len(answer.Data.Result) != 1 {
			return fmt.Sprintf("%d targets", len(answer.Data.Result))
		}
		return fmt.Sprint(answer.Data.Result[0].Value[1])
	})
}

// traced asks for a trace of requests, and makes some; an Envoy sends what it has every five seconds.
func traced(t *testing.T, s *site) {
	t.Helper()
	s.kubectl(t, "label", "service", "-n", "shop", "web", "traffic.tracing.enabled=true")
	s.kubectl(t, "exec", "-n", "shop", "client", "-c", "app", "--", "sh", "-c",
		`for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null http://web/health?traced; sleep 0.1; done`)
}

// zipkin checks that the chart's answers where the values say, has a page for people, and has got traces.
func zipkin(t *testing.T, s *site) {
	service := fmt.Sprintf("/api/v1/namespaces/%s/services/traffic-zipkin:%d/proxy", release, tracesPort)
	if page := s.kubectl(t, "get", "--raw", service+"/zipkin/"); !strings.Contains(page, "<html") {
		t.Errorf("Zipkin's page is %q", page)
	}
	eventually(t, "true", func() string {
		traces := s.kubectl(t, "get", "--raw", service+"/api/v2/traces?serviceName=client.shop")
		return fmt.Sprint(strings.Contains(traces, "http://web/health?traced"))
	})
}
