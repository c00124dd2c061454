package label

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// TestParseIngress: what an annotation does, and what its author hears when it does something else.
func TestParseIngress(t *testing.T) {
	tests := []struct {
		key, value string
		want       IngressSettings
		problem    string
	}{
		{key: RedirectKey, value: "false", want: IngressSettings{NoRedirect: true}},
		{key: RedirectKey, value: "True"},
		{key: RedirectKey, value: ""},
		{key: RedirectKey, value: "no", problem: `annotation traffic.ingress/ssl-redirect="no": expected true or false; in force: true`},
		{key: UpstreamKey, value: "GRPC", want: IngressSettings{Upstream: UpstreamHTTP2}},
		{key: UpstreamKey, value: "https", want: IngressSettings{Upstream: UpstreamHTTPS}},
		{key: UpstreamKey, value: "grpcs", want: IngressSettings{Upstream: UpstreamGRPCS}},
		{key: UpstreamKey, value: "tcp", problem: "expected http, https, http2, grpc or grpcs; in force: http2 where the Service's"},
		{key: BodyKey, value: "8Mi", want: IngressSettings{MaxBody: 8 << 20}},
		{key: BodyKey, value: "1Gi", want: IngressSettings{MaxBody: 1 << 30}},
		{key: BodyKey, value: "2Gi", problem: "in force: no limit"},
		{key: BodyKey, value: "0", problem: "in force: no limit"},
		{key: BodyKey, value: "8m", problem: "expected bytes from 1 to 1Gi"},
		{
			key: SourceRangesKey, value: "2001:db8::1, 10.1.2.3/8,10.0.0.0/8",
			want: IngressSettings{Restricted: true, Sources: prefixes("10.0.0.0/8", "2001:db8::1/128")},
		},
		{key: SourceRangesKey, value: "10.0.0.0/8,office", want: IngressSettings{Restricted: true}, problem: "in force: nobody is let in"},
		{key: SourceRangesKey, value: "", want: IngressSettings{Restricted: true}, problem: "in force: nobody is let in"},
		// Each path has all ranges: too many would fill a gateway that others share. An Event has room for the reason, too.
		{key: SourceRangesKey, value: ranges(65), want: IngressSettings{Restricted: true}, problem: "…\": expected addresses and ranges, at most 64, "},
		{key: IngressPrefix + "request-timeout", value: "3s", problem: "no such annotation; in force: nothing"},
		{key: IngressPrefix + "ssl-redirct", value: "false", problem: "no such annotation, did you mean traffic.ingress/ssl-redirect?; in force: nothing"},
		{key: "nginx.ingress.kubernetes.io/ssl-redirect", value: "false"},
	}
	for _, test := range tests {
		t.Run(test.key+"="+test.value, func(t *testing.T) {
			got, problems := ParseIngress(map[string]string{test.key: test.value})
			if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var told string
			for _, p := range problems {
				told += p.String()
			}
			if (test.problem == "") != (told == "") || !strings.Contains(told, test.problem) {
				t.Errorf("told %q, want %q", told, test.problem)
			}
		})
	}
}

// FuzzParseIngress: whatever stands in an annotation, nobody is let in by what is not understood.
func FuzzParseIngress(f *testing.F) {
	for _, a := range IngressTable {
		f.Add(a.Name, a.Example)
	}
	f.Add(SourceRangesKey, "::ffff:10.0.0.0/104")
	f.Add(SourceRangesKey, "")
	f.Fuzz(func(t *testing.T, key, value string) {
		s, problems := ParseIngress(map[string]string{key: value})
		if key == SourceRangesKey && !s.Restricted {
			t.Errorf("%q lets everybody in", value)
		}
		if told := len(problems) + len(MisspeltIngress(map[string]string{key: value})); told > 1 {
			t.Errorf("%q is told %d times", key, told)
		}
		if s.MaxBody > maxBody {
			t.Errorf("%+v %v", s, problems)
		}
		for _, p := range s.Sources {
			if !p.IsValid() || p != p.Masked() {
				t.Errorf("range %v", p)
			}
		}
	})
}

// TestIngressExamples: whoever copies an example gets what the page says.
func TestIngressExamples(t *testing.T) {
	for _, a := range IngressTable {
		if _, problems := ParseIngress(map[string]string{a.Name: a.Example}); len(problems) > 0 {
			t.Errorf("%v", problems)
		}
	}
}

func ranges(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("10.0.%d.0/24", i))
	}
	return strings.Join(list, ",")
}
