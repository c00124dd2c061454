package label

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestInstead: whoever sets a wrong value hears what acts instead, and it does.
func TestInstead(t *testing.T) {
	const template = "what the pod template says, or else the namespace"
	tests := []struct {
		kind   Kind
		labels string // key=value, separated by spaces; the first is wrong
		want   string
	}{
		{Namespace, "traffic.envoy.enabled=flase", "not opted in"},
		{Deployment, "traffic.envoy.enabled=flase", template},
		{CronJob, "traffic.envoy.enabled=flase", template},
		{Pod, "traffic.envoy.enabled=flase", "what the namespace says"},
		{Pod, "traffic.endpoint.weight=banana", "the workload's weight, or else 100"},
		{StatefulSet, "traffic.endpoint.weight=banana", "100"},
		{Pod, "traffic.target.port.80=nonsense traffic.port.80=http", "http, as traffic.port.80 says"},
		{Pod, "traffic.port.80=nonsense traffic.target.port.80=grpc", "http2, as traffic.target.port.80 says"},
		{Pod, "traffic.port.80=htp traffic.port.81=http", "the port is blocked unless a Service opens it"},
		{Pod, "traffic.target.port.80=htp", "the port is blocked unless a Service opens it"},
		{Service, "traffic.port.80=htp traffic.port.81=http", "the port is blocked"},
		{Service, "traffic.retries.gateway-error=abc traffic.retries.5xx=3 traffic.port.80=http", "the other labels traffic.retries.*"},
		{Service, "traffic.retries.gateway-error=abc traffic.retries.max=3 traffic.port.80=http", "no retries"},
		{Service, "traffic.retries.max=abc traffic.port.80=http", "no retries"},
		{Service, "traffic.retries.max=abc traffic.retries.5xx=1 traffic.port.80=http", "3"},
		{Service, "traffic.fault.abort.status=99 traffic.port.80=http", "no request is aborted"},
		{Service, "traffic.fault.abort.status=99 traffic.fault.abort.percentage=x traffic.port.80=http", "no request is aborted"},
		{Service, "traffic.fault.abort.status=99 traffic.fault.abort.percentage=1 traffic.port.80=http", "503"},
		{Service, "traffic.tracing.sampling=x traffic.port.80=http", "no request is traced"},
		{Service, "traffic.tracing.sampling=x traffic.tracing.enabled=true traffic.port.80=http", "100"},
	}
	for _, test := range tests {
		labels := map[string]string{}
		for _, pair := range strings.Fields(test.labels) {
			key, value, _ := strings.Cut(pair, "=")
			labels[key] = value
		}
		wrong, _, _ := strings.Cut(test.labels, "=")
		_, problems := Parse(test.kind, labels)
		var got []string
		for _, p := range problems {
			if p.Key == wrong {
				got = append(got, p.InForce)
			}
		}
		if len(got) != 1 || got[0] != test.want {
			t.Errorf("%s %s: in force %q, want %q", test.kind, test.labels, got, test.want)
		}
	}
}

// TestFromMemory: what people type who do not look it up.
func TestFromMemory(t *testing.T) {
	for typed, want := range map[string]string{
		"traffic.enabled": EnabledKey, "traffic.enable": EnabledKey, "traffic.weight": WeightKey, "traffic.timeout": "traffic.request.timeout",
		"traffic.lb": PolicyKey, "traffic.port": "traffic.port.<port>", "traffic.80": "traffic.port.80", "traffic.tracing": TracingKey,
		"traffic.fault.abort": abortPercentageKey, "traffic.fault.delay": delayTimeKey, "traffic.max.requests": "traffic.request.max",
		"traffic.max-pending": "traffic.request.max-pending", "traffic.5xx": serverErrorKey, "traffic.hash.cookie": cookieNameKey,
		"traffic.pod.port.80": "traffic.port.80", "traffic.traffic": "", "traffic.": "", "traffic.-": "", "traffic.jam": "", "traffic.lbs": "",
	} {
		if got := nearest(typed); got != want {
			t.Errorf("%s: did you mean %q? want %q", typed, got, want)
		}
	}
}

// TestManyUnknown: an object with more labels than anybody has costs neither seconds nor memory: as many are told as somebody may read.
func TestManyUnknown(t *testing.T) {
	const many = 20_000
	ours, slips := map[string]string{}, map[string]string{}
	for n := range many {
		ours[fmt.Sprintf("traffic.request.timeouts.%05d", n)] = "1s"
		slips[fmt.Sprintf("trafic.request.timeouts.%05d", n)] = "1s"
	}
	begin := time.Now()
	_, problems := Parse(Service, ours)
	if suggested := strings.Count(fmt.Sprint(problems), "did you mean"); len(problems) != maxUnknown || suggested != maxSuggestions {
		t.Errorf("%d problems, %d of them with a suggestion", len(problems), suggested)
	}
	if problems := Misspelt(slips); len(problems) != maxSuggestions {
		t.Errorf("%d misspelt", len(problems))
	}
	t.Log(time.Since(begin))
}
