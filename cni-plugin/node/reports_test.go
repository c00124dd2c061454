package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// What the plugin measured shows in the agent's metrics; what is no report does not, nor does it stop the counting.
func TestReportsOfThePluginAreCounted(t *testing.T) {
	socket, m := fmt.Sprintf("@traffic-test-%d", os.Getpid()), newMetrics()
	conn, err := listenReports(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go m.count(conn, uint32(os.Getuid()))
	other, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, text := range []string{`{"seconds":`, `{"seconds":-1}`, ``, `{"seconds":1e999}`} {
		if _, err := other.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	plugin.Send(socket, plugin.Report{Seconds: 0.002})
	plugin.Send(socket, plugin.Report{Seconds: 0.25, Failed: true})
	for deadline := time.Now().Add(10 * time.Second); m.plugins(t, "failed").GetSampleCount() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second report was not counted in ten seconds")
		}
	}
	for result, want := range map[string]float64{"redirected": 0.002, "failed": 0.25} {
		if h := m.plugins(t, result); h.GetSampleCount() != 1 || h.GetSampleSum() != want {
			t.Errorf("%s: %d reports of %v s together, want one of %v", result, h.GetSampleCount(), h.GetSampleSum(), want)
		}
	}
}

// Any process in the node's network namespace can write to the socket.
func TestReportsCountOnlyFromTheRuntimesUser(t *testing.T) {
	for uid, want := range map[uint32]bool{0: true, 1337: false} {
		if got := isFrom(0, unix.UnixCredentials(&unix.Ucred{Pid: 1, Uid: uid})); got != want {
			t.Errorf("user %d is taken for root: %t", uid, got)
		}
	}
	if isFrom(0, nil) {
		t.Error("nobody is taken for root")
	}
}

// A second agent, or whoever has the name first, must not keep the agent from its work.
func TestAgentWorksWithoutReports(t *testing.T) {
	socket := fmt.Sprintf("@traffic-test-taken-%d", os.Getpid())
	conn, err := listenReports(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	a := &Agent{metrics: newMetrics(), log: slog.New(slog.DiscardHandler), reports: socket}
	a.watchReports(t.Context()) // returns
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	a.watchReports(ctx) // ends with its context
	plugin.Send(socket, plugin.Report{Seconds: 1})
}

// plugins is the histogram of a result.
func (m *metrics) plugins(t *testing.T, result string) *dto.Histogram {
	t.Helper()
	var out dto.Metric
	if err := m.plugin.WithLabelValues(result).(prometheus.Histogram).Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetHistogram()
}
