package label

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ptr[T any](v T) *T { return &v }

func TestParse(t *testing.T) {
	tests := []struct {
		name     string
		kind     Kind
		labels   map[string]string
		want     Settings
		problems []Problem
	}{
		{
			name:   "labels of others are none of our business",
			kind:   Service,
			labels: map[string]string{"app": "reviews", "trafficking": "x", "example.com/traffic.port.80": "http"},
		},
		{
			name:   "an empty value counts as absent, even of an unknown key",
			kind:   Service,
			labels: map[string]string{"traffic.port.80": "", "traffic.nonsense": ""},
		},
		{
			name: "each port has a protocol of its own, in any case",
			kind: Service,
			labels: map[string]string{
				"traffic.port.80": "HTTP", "traffic.port.81": "http2", "traffic.port.82": "gRPC",
				"traffic.port.83": "Tcp", "traffic.port.65535": "direct",
			},
			want: Settings{Ports: map[uint16]Protocol{80: HTTP, 81: HTTP2, 82: HTTP2, 83: TCP, 65535: Direct}},
		},
		{
			name:   "an unknown protocol leaves its port blocked and the others open",
			kind:   Service,
			labels: map[string]string{"traffic.port.80": "htpp", "traffic.port.81": "tcp"},
			want:   Settings{Ports: map[uint16]Protocol{81: TCP}},
			problems: []Problem{{
				Key: "traffic.port.80", Value: "htpp",
				Reason: "expected http, http2, grpc, tcp or direct", InForce: "the port is blocked",
			}},
		},
		{
			name:   "a port that is no port",
			kind:   Service,
			labels: map[string]string{"traffic.port.0": "http", "traffic.port.65536": "http", "traffic.port.080": "http", "traffic.port.web": "http"},
			problems: []Problem{
				{Key: "traffic.port.0", Value: "http", Reason: `"0" is not a port number from 1 to 65535`, InForce: "nothing"},
				{Key: "traffic.port.080", Value: "http", Reason: `"080" is not a port number from 1 to 65535`, InForce: "nothing"},
				{Key: "traffic.port.65536", Value: "http", Reason: `"65536" is not a port number from 1 to 65535`, InForce: "nothing"},
				{Key: "traffic.port.web", Value: "http", Reason: `"web" is not a port number from 1 to 65535`, InForce: "nothing"},
			},
		},
		{
			name:   "ports of pods, in both spellings: the shorter wins where both are set, and whoever set the other hears it",
			kind:   Pod,
			labels: map[string]string{"traffic.target.port.80": "tcp", "traffic.port.80": "http", "traffic.target.port.81": "tcp"},
			want:   Settings{Ports: map[uint16]Protocol{80: HTTP, 81: TCP}},
			problems: []Problem{
				{Key: "traffic.target.port.80", Value: "tcp", Reason: "traffic.port.80 is set too", InForce: "http"},
			},
		},
		{
			name:   "of two spellings a wrong one does not stand in the way of the other",
			kind:   Pod,
			labels: map[string]string{"traffic.target.port.80": "tcp", "traffic.port.80": "htpp"},
			want:   Settings{Ports: map[uint16]Protocol{80: TCP}},
			problems: []Problem{
				{Key: "traffic.port.80", Value: "htpp", Reason: "expected http, http2, grpc, tcp or direct", InForce: "tcp, as traffic.target.port.80 says"},
			},
		},
		{
			name:   "a key on a kind where it means nothing",
			kind:   Service,
			labels: map[string]string{"traffic.endpoint.weight": "10", "traffic.target.port.80": "http", "traffic.envoy.enabled": "true"},
			problems: []Problem{
				{Key: "traffic.endpoint.weight", Value: "10", Reason: "has no meaning on a Service, only on Deployment, StatefulSet, DaemonSet and Pod", InForce: "nothing"},
				{Key: "traffic.envoy.enabled", Value: "true", Reason: "has no meaning on a Service, only on Namespace, Deployment, StatefulSet, DaemonSet, Job, CronJob and Pod", InForce: "nothing"},
				{Key: "traffic.target.port.80", Value: "http", Reason: "has no meaning on a Service, only on Pod", InForce: "nothing"},
			},
		},
		{
			name:   "opting in, in any case",
			kind:   Namespace,
			labels: map[string]string{"traffic.envoy.enabled": "tRUE"},
			want:   Settings{Enabled: ptr(true)},
		},
		{
			name:   "opting out is not the same as saying nothing",
			kind:   Deployment,
			labels: map[string]string{"traffic.envoy.enabled": "False"},
			want:   Settings{Enabled: ptr(false)},
		},
		{
			name:     "yes is not true",
			kind:     Pod,
			labels:   map[string]string{"traffic.envoy.enabled": "yes"},
			problems: []Problem{{Key: "traffic.envoy.enabled", Value: "yes", Reason: "expected true or false", InForce: "what the namespace says"}},
		},
		{
			name:   "a slip of the pen is answered with the nearest key",
			kind:   Service,
			labels: map[string]string{"traffic.ports.9080": "http", "traffic.prot.web": "http", "traffic.envoi.enable": "true", "traffic.colour": "red", "traffic.retries.4xx": "3"},
			problems: []Problem{
				{Key: "traffic.colour", Value: "red", Reason: "no such label", InForce: "nothing"},
				{Key: "traffic.envoi.enable", Value: "true", Reason: "no such label, did you mean traffic.envoy.enabled?", InForce: "nothing"},
				{Key: "traffic.ports.9080", Value: "http", Reason: "no such label, did you mean traffic.port.9080?", InForce: "nothing"},
				{Key: "traffic.prot.web", Value: "http", Reason: "no such label", InForce: "nothing"},
				{
					Key: "traffic.retries.4xx", Value: "3", InForce: "nothing",
					Reason: "no such label, did you mean traffic.retries.5xx? (traffic.retries. is followed by 5xx, connect-failure, gateway-error or max)",
				},
			},
		},
		{
			name:     "the family itself is the nearest key of one without a port",
			kind:     Service,
			labels:   map[string]string{"traffic.port.port": "http", "traffic.portt.<port": "http"},
			problems: []Problem{{Key: "traffic.port.port", Value: "http", Reason: `"port" is not a port number from 1 to 65535`, InForce: "nothing"}, {Key: "traffic.portt.<port", Value: "http", Reason: "no such label, did you mean traffic.port.<port>?", InForce: "nothing"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, problems := Parse(test.kind, test.labels)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWeight(t *testing.T) {
	const expected = "expected an integer from 0 to 128"
	tests := []struct {
		text    string
		want    *uint32
		problem string
	}{
		{text: "0", want: ptr(uint32(0))},
		{text: "1", want: ptr(uint32(1))},
		{text: "007", want: ptr(uint32(7))},
		{text: "128", want: ptr(uint32(128))},
		{text: "129", want: ptr(uint32(128)), problem: expected + "; in force: it counts as 128, the largest weight"},
		{text: "99999999999999999999999", want: ptr(uint32(128)), problem: expected + "; in force: it counts as 128, the largest weight"},
		{text: "-1", problem: expected + "; in force: 100"},
		{text: "1.5", problem: expected + "; in force: 100"},
		{text: "0x10", problem: expected + "; in force: 100"},
		{text: "1_0", problem: expected + "; in force: 100"},
		{text: "heavy", problem: expected + "; in force: 100"},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			got, problems := Parse(Deployment, map[string]string{WeightKey: test.text})
			if diff := cmp.Diff(test.want, got.Weight); diff != "" {
				t.Errorf("weight (-want +got):\n%s", diff)
			}
			var said string
			for _, p := range problems {
				said += strings.TrimPrefix(p.String(), `label traffic.endpoint.weight="`+test.text+`": `)
			}
			if said != test.problem {
				t.Errorf("problem %q, want %q", said, test.problem)
			}
		})
	}
}

// TestOpenedBy: an Event about a port of a pod names the label that opened it.
func TestOpenedBy(t *testing.T) {
	const short, long = "traffic.port.80", "traffic.target.port.80"
	for _, test := range []struct{ short, long, want string }{
		{"http", "", short}, {"", "http", long}, {"http", "tcp", short}, {"htpp", "tcp", long}, {"", "", short},
	} {
		if got := OpenedBy(map[string]string{short: test.short, long: test.long}, 80); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

func TestPortKey(t *testing.T) {
	s, problems := Parse(Service, map[string]string{PortKey(9080): "tcp"})
	if len(problems) != 0 || s.Ports[9080] != TCP {
		t.Errorf("PortKey(9080) = %q does not open port 9080: %+v, %v", PortKey(9080), s, problems)
	}
}

func TestProtocolString(t *testing.T) {
	for text, p := range map[string]Protocol{"http": HTTP, "http2": HTTP2, "tcp": TCP, "direct": Direct, "blocked": 0} {
		if p.String() != text {
			t.Errorf("Protocol(%d) = %q, want %q", p, p, text)
		}
	}
}

func TestCaseVariants(t *testing.T) {
	for word, count := range map[string]int{"true": 16, "false": 32} {
		variants := CaseVariants(word)
		if len(slices.Compact(slices.Clone(variants))) != count || !slices.IsSorted(variants) {
			t.Errorf("%d variants of %s, want %d, sorted and each once: %v", len(variants), word, count, variants)
		}
		for _, v := range variants {
			if s, problems := Parse(Pod, map[string]string{EnabledKey: v}); len(problems) != 0 || *s.Enabled != (word == "true") {
				t.Errorf("%q does not parse as %s: %+v, %v", v, word, s, problems)
			}
		}
	}
}

// FuzzParse throws anything at the parser beside a label that is right: it must not panic, the right label must stay in
// force, and what is reported must be there and have no effect.
func FuzzParse(f *testing.F) {
	kinds := []Kind{Namespace, Deployment, StatefulSet, DaemonSet, Job, CronJob, Service, Pod}
	f.Add(uint8(6), "traffic.port.81", "http")
	f.Add(uint8(6), "traffic.port.99999", "http")
	f.Add(uint8(7), "traffic.target.port.80", "tcp")
	f.Add(uint8(7), "traffic.endpoint.weight", "129")
	f.Add(uint8(1), "traffic.endpoint.weight", "-1")
	f.Add(uint8(0), "traffic.envoy.enabled", "TRUE")
	f.Add(uint8(6), "traffic.", "x")
	f.Fuzz(func(t *testing.T, kindNumber uint8, key, value string) {
		kind := kinds[int(kindNumber)%len(kinds)]
		right := map[string]string{"traffic.port.80": "http"}
		if _, clash := right[key]; clash {
			return
		}
		labels := maps.Clone(right)
		labels[key] = value
		alone, _ := Parse(kind, right)
		got, problems := Parse(kind, labels)
		if again, _ := Parse(kind, labels); !cmp.Equal(got, again) {
			t.Errorf("parsed twice, %+v and %+v", got, again)
		}
		if got.Ports[80] != alone.Ports[80] {
			t.Errorf("%s=%q changed port 80 to %v", key, value, got.Ports[80])
		}
		if got.Weight != nil && *got.Weight > MaxWeight {
			t.Errorf("weight %d", *got.Weight)
		}
		for _, p := range problems {
			if labels[p.Key] != p.Value || p.Reason == "" || p.InForce == "" {
				t.Errorf("problem %+v is not about %v", p, labels)
			}
			counts := strings.HasPrefix(p.InForce, "it ")
			if p.Key == key && !counts && !cmp.Equal(got, alone) {
				t.Errorf("%s=%q is a problem, and yet in force: %+v", key, value, got)
			}
		}
	})
}
