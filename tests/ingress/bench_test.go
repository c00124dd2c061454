package ingress

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// BenchmarkOneMoreIngress is the time from the event of one more Ingress with its Secret to the first 200 over TLS, at a
// thousand hosts, each with a certificate: go test ./tests/ingress -run '^$' -bench OneMore -benchtime 50x
func BenchmarkOneMoreIngress(b *testing.B) {
	for _, scheme := range []string{"https", "http"} {
		b.Run(scheme, func(b *testing.B) { oneMore(b, scheme) })
	}
}

func oneMore(b *testing.B, scheme string) {
	const hosts = 1000
	g := newGateway(b)
	g.flags = []string{"--ignore-unknown-dynamic-fields"} // the chart's
	g.run()
	g.service("web")
	chain, key := injected.Pair(b, time.Hour, "*.example")
	add := func(n int) { g.addHost(n, scheme == "https", chain, key) }
	for n := range hosts {
		add(n)
	}
	began := time.Now()
	g.publish()
	b.Logf("the first %d in %v", hosts, time.Since(began))
	var took, control []time.Duration
	n := hosts
	before := g.mainThread()
	for b.Loop() {
		began := time.Now()
		add(n)
		changes := g.model.Flush(g.now, g.mesh, g.mesh.Flush().Services)
		update, _ := g.resources.Apply(changes)
		g.server.PublishGateway(update, nil)
		control = append(control, time.Since(began))
		for {
			a, err := ask(g.client(nil), fmt.Sprintf("%s://h%d.example/", scheme, n))
			if err == nil && a.Status == http.StatusOK {
				break
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(began))
		n++
	}
	b.ReportMetric(float64((g.mainThread()-before).Microseconds())/1000/float64(len(took)), "envoy-main-ms")
	for name, times := range map[string][]time.Duration{"200": took, "control": control} {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}

// addHost tells the model of an Ingress with a host of its own, and of its Secret.
func (g *gateway) addHost(n int, secure bool, chain, key []byte) {
	g.t.Helper()
	name := fmt.Sprint("h", n)
	g.model.SetSecret(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Data:       map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	})
	i := rules(name, 1, name+".example|P|/|web")
	if secure {
		i = secured(i, name+"|"+name+".example")
	}
	g.set([]byte(i))
}

// mainThread is the processor time that Envoy's main thread, which takes configuration, has used; in steps of 10 ms.
func (g *gateway) mainThread() time.Duration {
	return g.processorTime(fmt.Sprintf("/proc/%d/task/%[1]d/stat", g.envoy.Pid))
}

// processor is that of all its threads.
func (g *gateway) processor() time.Duration {
	return g.processorTime(fmt.Sprintf("/proc/%d/stat", g.envoy.Pid))
}

func (g *gateway) processorTime(stat string) time.Duration {
	g.t.Helper()
	text, err := os.ReadFile(stat)
	if err != nil {
		g.t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from state, the third of proc(5)
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			g.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
