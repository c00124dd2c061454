package label

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestValues: what a text means, or what is said of it. A note begins with "it".
func TestValues(t *testing.T) {
	tests := []struct {
		key, text string
		want      any    // nil: not valid
		note      string // of what is accepted with a change
	}{
		{key: delayTimeKey, text: "3s", want: 3 * time.Second},
		{key: delayTimeKey, text: "1m30s", want: 90 * time.Second},
		{key: delayTimeKey, text: "0.25s", want: 250 * time.Millisecond},
		{key: delayTimeKey, text: "3000", want: 3 * time.Second, note: "it counts as 3s, which is the way to write it"},
		{key: delayTimeKey, text: "999999", want: 999999 * time.Millisecond, note: "it counts as 16m39.999s, which is the way to write it"},
		{key: delayTimeKey, text: "1000000", want: time.Millisecond, note: "it counts as 1ms, which is the way to write it"},
		{key: delayTimeKey, text: "60000000000", want: time.Minute, note: "it counts as 1m0s, which is the way to write it"},
		{key: delayTimeKey, text: "8760h", want: 8760 * time.Hour},
		{key: delayTimeKey, text: "8760h1ms"},
		{key: delayTimeKey, text: "0"},
		{key: delayTimeKey, text: "0s"},
		{key: delayTimeKey, text: "999us"}, // Envoy would take it for 0
		{key: delayTimeKey, text: "-3s"},
		{key: delayTimeKey, text: "three"},
		{key: delayTimeKey, text: "99999999999999999999"},
		{key: delayTimeKey, text: "9223372036854775807"},
		{key: "traffic.request.timeout", text: "0", want: time.Duration(0)},
		{key: "traffic.request.timeout", text: "0s", want: time.Duration(0)},
		{key: "traffic.request.timeout", text: "500", want: 500 * time.Millisecond, note: "it counts as 500ms, which is the way to write it"},
		{key: "traffic.request.timeout", text: "1us"},
		{key: "traffic.connection.timeout", text: "0"},
		{key: cookieTTLKey, text: "100000", want: 100000 * time.Second},
		{key: cookieTTLKey, text: "27h46m40s", want: 100000 * time.Second},
		{key: cookieTTLKey, text: "0", want: time.Duration(0)},
		{key: cookieTTLKey, text: "31536000", want: 8760 * time.Hour},
		{key: cookieTTLKey, text: "31536001"},
		{key: cookieTTLKey, text: "9223372036854775807"},
		{key: cookieTTLKey, text: "1500ms"},
		{key: cookieTTLKey, text: "-1"},
		{key: abortPercentageKey, text: "0", want: Percentage(0)},
		{key: abortPercentageKey, text: "100", want: Hundred},
		{key: abortPercentageKey, text: "100.0", want: Hundred},
		{key: abortPercentageKey, text: "0.5", want: Percentage(5_000)},
		{key: abortPercentageKey, text: "12.3456", want: Percentage(123_456)},
		{key: abortPercentageKey, text: "0.0001", want: Percentage(1)},
		{key: abortPercentageKey, text: "0.00001"},
		{key: abortPercentageKey, text: "100.0001"},
		{key: samplingKey, text: "0.05", want: Percentage(500)},
		{key: samplingKey, text: "0.005"},
		{key: abortPercentageKey, text: "101"},
		{key: abortPercentageKey, text: "-1"},
		{key: abortPercentageKey, text: "1e1"},
		{key: abortPercentageKey, text: "5."},
		{key: abortPercentageKey, text: ".5"},
		{key: abortPercentageKey, text: "1.-5"},
		{key: abortPercentageKey, text: "half"},
		{key: abortStatusKey, text: "200", want: uint32(200)},
		{key: abortStatusKey, text: "599", want: uint32(599)},
		{key: abortStatusKey, text: "199"},
		{key: abortStatusKey, text: "600"},
		{key: abortStatusKey, text: "1"},
		{key: PolicyKey, text: "least_request", want: LeastRequest},
		{key: PolicyKey, text: "Maglev", want: Maglev},
		{key: PolicyKey, text: "ROUND-ROBIN"},
		{key: headerNameKey, text: "X-User_1.a", want: "X-User_1.a"},
		{key: headerNameKey, text: ":path"},
		{key: headerNameKey, text: "x user"},
		{key: cookieNameKey, text: "a=b"},
		{key: "traffic.rate.limit", text: "1", want: uint32(1)},
		{key: "traffic.rate.limit", text: "0"},
		{key: "traffic.rate.limit", text: "4294967296"},
		{key: "traffic.retries.5xx", text: "0", want: uint32(0)},
		{key: "traffic.retries.5xx", text: "-1"},
		{key: "traffic.retries.5xx", text: "1.5"},
		{key: "traffic.connection.max", text: "4294967295", want: uint32(4294967295)},
		{key: "traffic.connection.max", text: "0"},
	}
	fields := map[string]func(Settings) any{
		delayTimeKey:                 func(s Settings) any { return s.Fault.Delay },
		"traffic.request.timeout":    func(s Settings) any { return s.RequestTimeout },
		"traffic.connection.timeout": func(s Settings) any { return s.ConnectionTimeout },
		cookieTTLKey:                 func(s Settings) any { return *s.Balancing.CookieTTL },
		abortPercentageKey:           func(s Settings) any { return s.Fault.AbortPercentage },
		samplingKey:                  func(s Settings) any { return *s.Tracing.Sampling },
		abortStatusKey:               func(s Settings) any { return s.Fault.AbortStatus },
		PolicyKey:                    func(s Settings) any { return s.Balancing.Policy },
		headerNameKey:                func(s Settings) any { return s.Balancing.HashHeader },
		cookieNameKey:                func(s Settings) any { return s.Balancing.HashCookie },
		"traffic.rate.limit":         func(s Settings) any { return s.RateLimit },
		"traffic.retries.5xx":        func(s Settings) any { return s.Retries.ServerError },
		"traffic.connection.max":     func(s Settings) any { return s.Limits.Connections },
	}
	for _, test := range tests {
		t.Run(test.key+"="+test.text, func(t *testing.T) {
			// With these a time acts.
			labels := map[string]string{PortKey(80): "http", delayPercentageKey: "1"}
			delete(labels, test.key)
			absent, _ := Parse(Service, labels)
			labels[test.key] = test.text
			got, problems := Parse(Service, labels)
			i := slices.IndexFunc(problems, func(p Problem) bool { return strings.HasPrefix(p.Reason, "expected ") })
			switch {
			case test.want == nil:
				if i < 0 || strings.HasPrefix(problems[i].InForce, "it ") || !cmp.Equal(got, absent) {
					t.Errorf("accepted: %+v, %v", got, problems)
				}
				return
			case test.note == "" && i >= 0:
				t.Errorf("refused: %v", problems[i])
			case test.note != "" && (i < 0 || problems[i].InForce != test.note):
				t.Errorf("%v, want %q", problems, test.note)
			}
			if got := fields[test.key](got); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// TestCombinations: labels that are right by themselves, and do nothing.
func TestCombinations(t *testing.T) {
	const (
		idleness = "; in force: nothing"
		gateway  = "; in force: at the gateway alone, for Ingresses that name the Service"
	)
	tests := []struct {
		labels  string // key=value, separated by spaces; of a Service
		problem string // of the first label
	}{
		{"traffic.lb.policy=RANDOM", "no port of the Service is open to pods: that takes a label traffic.port.<port>" + gateway},
		{"traffic.connection.max=1 traffic.port.80=direct", ""},
		{"traffic.connection.max=1 traffic.port.80=tcp", ""},
		{"traffic.lb.policy=RANDOM traffic.port.80=tcp", ""},
		{"traffic.lb.policy=RANDOM traffic.port.80=direct", "it has a meaning for http, http2 and tcp ports only, and 80 is direct" + gateway},
		{"traffic.rate.limit=1 traffic.port.80=tcp traffic.port.443=direct", "it has a meaning for http and http2 ports only, and 80 is tcp, 443 is direct"},
		{"traffic.rate.limit=1 traffic.port.80=tcp traffic.port.443=grpc", ""},
		{"traffic.rate.limit=1 traffic.port.80=htpp", "no port of the Service is open to pods: that takes a label traffic.port.<port>"},
		{"traffic.fault.delay.time=3s traffic.port.80=http", "no request is delayed without traffic.fault.delay.percentage"},
		{"traffic.fault.delay.time=3s traffic.port.80=http traffic.fault.delay.percentage=0", ""},
		{"traffic.fault.delay.percentage=3 traffic.port.80=http", "no request is delayed without traffic.fault.delay.time"},
		{"traffic.fault.abort.status=500 traffic.port.80=http", "no request is aborted without traffic.fault.abort.percentage"},
		{"traffic.fault.abort.percentage=3 traffic.port.80=http", ""},
		{"traffic.fault.delay.percentage=3 traffic.fault.delay.time=xx traffic.port.80=http", ""}, // the other is told
		{"traffic.tracing.sampling=3 traffic.port.80=http traffic.tracing.enabled=no", ""},
		{"traffic.hash.cookie.ttl=3 traffic.hash.cookie.name=a:b traffic.port.80=http traffic.lb.policy=MAGLEV traffic.hash.header.name=x", ""},
		{"traffic.retries.max=3 traffic.port.80=http", "nothing is tried again without traffic.retries.5xx or another label of its kind"},
		{"traffic.retries.max=3 traffic.port.80=http traffic.retries.connect-failure=1", ""},
		{"traffic.target.port.80=tcp traffic.port.80=http", "has no meaning on a Service, only on Pod"},
		{"traffic.tracing.sampling=3 traffic.port.80=http traffic.tracing.enabled=false", "no request is traced without traffic.tracing.enabled=true"},
		{"traffic.hash.cookie.ttl=3 traffic.port.80=http traffic.lb.policy=MAGLEV traffic.hash.header.name=x", "no cookie is given without traffic.hash.cookie.name"},
		{"traffic.hash.cookie.name=c traffic.port.80=http", "ROUND_ROBIN hashes nothing: it needs traffic.lb.policy=RING_HASH or MAGLEV"},
		{"traffic.hash.header.name=x traffic.port.80=http traffic.lb.policy=LEAST_REQUEST", "LEAST_REQUEST hashes nothing: it needs traffic.lb.policy=RING_HASH or MAGLEV"},
		{"traffic.lb.policy=ring_hash traffic.port.80=http", "there is nothing to hash: it needs requests and traffic.hash.cookie.name or traffic.hash.header.name; in force: RANDOM"},
		{"traffic.lb.policy=maglev traffic.port.80=tcp traffic.hash.header.name=x", "there is nothing to hash: it needs requests and traffic.hash.cookie.name or traffic.hash.header.name; in force: RANDOM"},
		{"traffic.lb.policy=ring_hash traffic.port.80=http traffic.hash.header.name=x", ""},
	}
	for _, test := range tests {
		t.Run(test.labels, func(t *testing.T) {
			labels := map[string]string{}
			for _, pair := range strings.Fields(test.labels) {
				key, value, _ := strings.Cut(pair, "=")
				labels[key] = value
			}
			key, value, _ := strings.Cut(strings.Fields(test.labels)[0], "=")
			_, problems := Parse(Service, labels)
			var got, want string
			for _, p := range problems {
				if p.Key == key {
					got += p.String()
				}
			}
			if test.problem != "" {
				want = "label " + key + `="` + value + `": ` + test.problem
				if !strings.Contains(want, "; in force: ") {
					want += idleness
				}
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// TestIdleInOldSpelling: of a number that does nothing nobody is told what it counts as. One for which only the port is missing
// counts where an Ingress opens it.
func TestIdleInOldSpelling(t *testing.T) {
	_, problems := Parse(Service, map[string]string{"traffic.fault.delay.time": "3000", "traffic.port.80": "http"})
	if len(problems) != 1 || !strings.Contains(problems[0].Reason, "traffic.fault.delay.percentage") {
		t.Errorf("%v", problems)
	}
	_, problems = Parse(Service, map[string]string{"traffic.request.timeout": "3000"})
	if len(problems) != 2 || !strings.Contains(problems[0].InForce, "counts as 3s") || !problems[1].Unused {
		t.Errorf("%v", problems)
	}
}
