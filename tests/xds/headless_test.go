package xds

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

const (
	first, second, third = "10.244.0.11", "10.244.0.12", "10.244.0.13"

	byPort  = "traffic.port.80"
	byPod   = "traffic.port.8080"
	aborted = "traffic.fault.abort.percentage"
	weight  = "traffic.endpoint.weight"
)

// requestBy asks an address by a name, as a client does to which DNS gave the address for the name.
func requestBy(client *http.Client, address, host string) (int, string, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return 0, "", err
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// wantAll asks a few times and wants the same answer.
func (w *world) wantAll(t *testing.T, address, host, want string) {
	t.Helper()
	if got := w.ask(t, 20, address, host); !maps.Equal(got, map[string]int{want: 20}) {
		t.Errorf("%s at %s: %v, want 20 times %q", host, address, got, want)
	}
}

// database is a headless Service db with the pods db-0, db-1 and db-2.
func database(t *testing.T, w *world, c *cluster, labels map[string]string) {
	t.Helper()
	for i, address := range []string{first, second, third} {
		w.serverAt(t, address, fmt.Sprint("db-", i))
	}
	c.setService("db", "None", labels)
	c.setEndpoints("db", first, second, third)
}

// TestHeadlessHTTP: by the Service's name requests are balanced by weight, whichever pod's address DNS has given, and
// suffer what its labels say; by a pod's name or IP they reach that pod.
func TestHeadlessHTTP(t *testing.T) {
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	database(t, w, c, map[string]string{byPort: "http"})
	c.setPod("db-1", second, map[string]string{weight: "10"})
	c.setPod("db-2", third, map[string]string{weight: "0"})
	c.publish(t)
	s := startSidecar(t, w, control)

	// The balancer goes round: the shares are as exact as its start.
	for _, host := range []string{"db:8080", "db.default", "DB.default.svc:80", "db.default.svc.cluster.local:8080", "db.default.svc.cluster.local."} {
		got := w.ask(t, 220, third+":8080", host)
		if got["db-0"] < 190 || got["db-1"] < 10 || got["db-0"]+got["db-1"] != 220 {
			t.Errorf("by the name %s: %v, want 200 and 20", host, got)
		}
	}
	for address, pod := range map[string]string{first: "db-0", second: "db-1", third: "db-2"} {
		w.wantAll(t, address+":8080", pod+".db:8080", pod)
		w.wantAll(t, address+":8080", pod+".db.default.svc.cluster.local:8080", pod)
		w.wantAll(t, address+":8080", address+":8080", pod)
		w.wantAll(t, address+":8080", "db.other", pod)
	}
	w.wantAll(t, first+":80", "db", "404") // the Service's port is none of its pods'
	text, err := s.ask("/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`envoy_cluster_outbound_upstream_rq_total{envoy_cluster_name="80|default|db"} 1100`,
		`envoy_cluster_outbound_upstream_rq_total{envoy_cluster_name="80|default|db|dialled"} 240`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("not in the statistics: %s", want)
		}
	}

	c.setService("db", "None", map[string]string{byPort: "http", aborted: "100"})
	c.publish(t)
	w.wantAll(t, first+":8080", "db:8080", "503")
	w.wantAll(t, first+":8080", "db-0.db:8080", "db-0")

	c.setService("db", "None", map[string]string{byPort: "tcp"})
	c.publish(t)
	w.wantAll(t, third+":8080", "db:8080", "db-2") // the dialled one, whatever its weight

	c.setEndpoints("db", first, second)
	c.publish(t)
	w.wantAll(t, third+":8080", "db:8080", "404")
	c.setService("db", "None", nil)
	c.publish(t)
	w.wantAll(t, first+":8080", "db:8080", "404")
	if lines := s.complaints(); len(lines) > 0 {
		t.Errorf("Envoy complains: %q", lines)
	}
}

// TestPodPort: a pod's own label opens its address, to its own labels, and closes it again; its Service is another thing.
func TestPodPort(t *testing.T) {
	const clusterIP = "10.96.7.7"
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	w.serverAt(t, first, "web-0")
	c.setService("web", clusterIP, map[string]string{byPort: "http"})
	c.setEndpoints("web", first)
	c.setPod("web-0", first, nil)
	c.publish(t)
	s := startSidecar(t, w, control)
	w.wantAll(t, clusterIP+":80", "web", "web-0")
	w.wantAll(t, first+":8080", first, "404")

	for _, protocol := range []string{"direct", "tcp", "http"} {
		c.setPod("web-0", first, map[string]string{"traffic.target.port.8080": protocol, weight: "0"})
		c.publish(t)
		w.wantAll(t, first+":8080", first, "web-0")
		w.wantAll(t, clusterIP+":80", "web", "503") // its weight is the Service's affair, and not its address's
	}
	text, err := s.ask("/stats/prometheus")
	if want := `envoy_cluster_outbound_upstream_rq_completed{envoy_cluster_name="8080|default|pod/web-0"} 20` + "\n"; err != nil || !strings.Contains(text, want) {
		t.Errorf("not in the statistics: %s%v\n%s", want, err, text)
	}
	c.setPod("web-0", first, map[string]string{byPod: "http", aborted: "100", "traffic.fault.abort.status": "418"})
	c.publish(t)
	w.wantAll(t, first+":8080", first, "418")
	w.wantAll(t, clusterIP+":80", "web", "web-0")

	c.setPod("web-0", first, nil)
	c.publish(t)
	w.wantAll(t, first+":8080", first, "404")
	w.wantAll(t, clusterIP+":80", "web", "web-0")
	if lines := s.complaints(); len(lines) > 0 {
		t.Errorf("Envoy complains: %q", lines)
	}
}

// TestPodBeforeHeadless: at its address a pod's own label wins over its headless Service, which has it back afterwards.
func TestPodBeforeHeadless(t *testing.T) {
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	database(t, w, c, map[string]string{byPort: "http", aborted: "100"})
	c.publish(t)
	startSidecar(t, w, control)
	w.wantAll(t, second+":8080", "db", "503")

	c.setPod("db-1", second, map[string]string{byPod: "http"})
	c.publish(t)
	w.wantAll(t, second+":8080", "db", "db-1")
	w.wantAll(t, first+":8080", "db", "503")

	c.setPod("db-1", second, nil)
	c.publish(t)
	w.wantAll(t, second+":8080", "db", "503")
}

// TestHeadlessThousand: what a headless Service of 1,000 pods, the most that can be open, costs a sidecar.
func TestHeadlessThousand(t *testing.T) {
	const pods, limit = 1000, 40 << 20
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	c.publish(t)
	s := startSidecar(t, w, control)
	before := s.allocated(t)

	var addresses []string
	for i := range pods {
		addresses = append(addresses, fmt.Sprintf("10.7.%d.%d", i/250, i%250))
	}
	c.setService("big", "None", map[string]string{byPort: "http"})
	c.setEndpoints("big", addresses...)
	size, resources := 0, 0
	for _, r := range c.publish(t).Set {
		size += len(r.Body.GetValue())
		resources++
	}
	after := s.allocated(t)
	t.Logf("%d pods: %d resources of %d bytes; Envoy has %.1f MB allocated, %.1f MB before", pods, resources, size, float64(after)/1e6, float64(before)/1e6)
	if after-before > limit {
		t.Errorf("Envoy's memory grew by %d bytes, want at most %d", after-before, limit)
	}

	c.setPod("big-7", addresses[7], map[string]string{weight: "1"})
	size = 0
	for _, r := range c.publish(t).Set {
		size += len(r.Body.GetValue())
	}
	t.Logf("the weight of one pod: %d bytes", size)
	c.setEndpoints("big")
	if update := c.publish(t); len(update.Remove) != pods {
		t.Errorf("without endpoints %d resources go, want %d", len(update.Remove), pods)
	}
}
