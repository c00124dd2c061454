package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
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
