package ingress

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// moreEach is how many more Ingresses of each kind a round has.
const moreEach = 20

// BenchmarkOneMoreIngress prints the time from the event of one more Ingress with its Secret to the first 200 over TLS, at a
// thousand hosts, each with a certificate; and the same without TLS, at a thousand hosts without.
func BenchmarkOneMoreIngress(b *testing.B) {
	f := figures.New()
	growing := []*growing{grown(b, "https"), grown(b, "http")}
	for b.Loop() {
		for range *figures.Rounds {
			for _, g := range growing {
				g.round(b, f)
			}
		}
	}
	f.Print(b)
}

// A growing gateway gets one host after the other.
type growing struct {
	*gateway
	scheme string
	hosts  int
	chain  []byte
	key    []byte
}

// grown is a gateway with a thousand hosts.
func grown(b *testing.B, scheme string) *growing {
	const hosts = 1000
	g := &growing{gateway: newGateway(b), scheme: scheme}
	g.flags = []string{"--ignore-unknown-dynamic-fields"} // the chart's
	g.run()
	g.service("web")
	g.chain, g.key = injected.Pair(b, time.Hour, "*.example")
	for range hosts {
		g.more()
	}
	g.publish()
	return g
}

// more tells the model of one more.
func (g *growing) more() {
	g.addHost(g.hosts, g.scheme == "https", g.chain, g.key)
	g.hosts++
}

func (g *growing) round(b *testing.B, f *figures.Table) {
	b.Helper()
	var took, control []time.Duration
	before := g.mainThread()
	for range moreEach {
		began := time.Now()
		g.more()
		changes := g.model.Flush(g.now, g.mesh, g.mesh.Flush().Services)
		update, _ := g.resources.Apply(changes)
		g.server.PublishGateway(update, nil)
		control = append(control, time.Since(began))
		for {
			a, err := ask(g.client(nil), fmt.Sprintf("%s://h%d.example/", g.scheme, g.hosts-1))
			if err == nil && a.Status == http.StatusOK {
				break
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(began))
	}
	f.Times(g.scheme+" to first 200", took)
	f.Times(g.scheme+", of it the control plane", control)
	f.Add(g.scheme+", of it Envoy's main thread ms", figures.Milliseconds(g.mainThread()-before)/moreEach)
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
