package redirect

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite testdata from what the code does")

// The rules of a spec are the product: a changed order lets traffic past the
// proxy or loops it. Each golden is one spec and its program.
func TestRulesGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens found: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			spec, err := Decode(string(bytes.TrimSpace(a.Files[0].Data)))
			if err != nil {
				t.Fatal(err)
			}
			got := Rules(spec).String()
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), got); diff != "" {
				t.Errorf("rules changed (-want +got):\n%s", diff)
			}
		})
	}
}

// A comment longer than the kernel keeps would make the live rules differ from
// the spec for ever.
func TestCommentsFitTheKernel(t *testing.T) {
	for _, r := range Rules(full()) {
		if len(r.Comment) == 0 || len(r.Comment) > 100 {
			t.Errorf("comment %q has %d bytes", r.Comment, len(r.Comment))
		}
	}
}

// Whatever the webhook can write, the plugin reads back as the same spec.
func TestEncodeDecode(t *testing.T) {
	for _, want := range []Spec{
		{Version: 1, ProxyUID: 1337, ProxyPort: 10000},
		{Version: 1, ProxyUID: 1, ProxyPort: 1, ExcludePorts: []PortRange{{1, 65535}, {22, 22}}},
		full(),
	} {
		value, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", value, diff)
		}
	}
}

// full is the longest valid spec.
func full() Spec {
	s := Spec{Version: 1, ProxyUID: 4294967294, ProxyPort: 65535}
	for i := range MaxExcludeCIDRs {
		a := netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:ff00").As16()
		a[15] = byte(i)
		s.ExcludeCIDRs = append(s.ExcludeCIDRs, netip.PrefixFrom(netip.AddrFrom16(a), 128))
	}
	for i := range MaxExcludePorts {
		s.ExcludePorts = append(s.ExcludePorts, PortRange{uint16(50000 + i), 65535})
	}
	return s
}

// A bad annotation must name the field and the value, for the user who reads it
// in the events of a pod that does not start.
func TestDecodeRefuses(t *testing.T) {
	const head = `{"version":1,"proxyUID":1337,"proxyPort":10000`
	for name, c := range map[string]struct{ value, want string }{
		"empty":                {``, `"" is not a JSON object`},
		"not JSON":             {`yes`, `"yes" is not a JSON object`},
		"array":                {`[1]`, `"[1]" is not a JSON object`},
		"null":                 {`null`, `"null" is not a JSON object`},
		"cut off":              {head, `not closed`},
		"cut off in a key":     {`{"vers`, `not valid JSON`},
		"cut off in a value":   {`{"version":`, `version: not valid JSON`},
		"no comma":             {`{"version":1 "proxyUID":1}`, `not valid JSON`},
		"trailing object":      {head + `} {}`, `something follows`},
		"trailing garbage":     {head + `}x`, `something follows`},
		"too long":             {head + `}` + strings.Repeat(" ", MaxBytes), `at most 16384`},
		"unknown field":        {head + `,"inbound":true}`, `unknown or repeated field "inbound"`},
		"repeated field":       {head + `,"proxyPort":10001}`, `unknown or repeated field "proxyPort"`},
		"other case":           {`{"Version":1}`, `unknown or repeated field "Version"`},
		"no version":           {`{"proxyUID":1337,"proxyPort":10000}`, `version 0: this program knows version 1`},
		"later version":        {`{"version":2,"proxyUID":1337,"proxyPort":10000}`, `version 2: this program knows version 1`},
		"version as text":      {`{"version":"1"}`, `version "\"1\""`},
		"no uid":               {`{"version":1,"proxyPort":10000}`, `proxyUID 0`},
		"null uid":             {`{"version":1,"proxyUID":null,"proxyPort":10000}`, `proxyUID 0`},
		"root uid":             {`{"version":1,"proxyUID":0,"proxyPort":10000}`, `proxyUID 0: must be 1 to 4294967294`},
		"uid that is no uid":   {`{"version":1,"proxyUID":4294967295,"proxyPort":10000}`, `proxyUID 4294967295`},
		"negative uid":         {`{"version":1,"proxyUID":-1}`, `proxyUID "-1"`},
		"uid too large":        {`{"version":1,"proxyUID":4294967296}`, `proxyUID "4294967296"`},
		"fraction":             {`{"version":1,"proxyUID":1.5}`, `proxyUID "1.5"`},
		"port 0":               {`{"version":1,"proxyUID":1337,"proxyPort":0}`, `proxyPort 0: must be 1 to 65535`},
		"port too large":       {`{"version":1,"proxyUID":1337,"proxyPort":65536}`, `proxyPort "65536"`},
		"CIDR without length":  {head + `,"excludeCIDRs":["10.0.0.1"]}`, `excludeCIDRs "[\"10.0.0.1\"]"`},
		"CIDR with host bits":  {head + `,"excludeCIDRs":["10.0.0.1/8"]}`, `excludeCIDRs[0] "10.0.0.1/8": has host bits set; write 10.0.0.0/8`},
		"CIDR null":            {head + `,"excludeCIDRs":[null]}`, `excludeCIDRs[0]`},
		"mapped IPv4":          {head + `,"excludeCIDRs":["::ffff:10.0.0.0/104"]}`, `must be written as IPv4`},
		"CIDR with zone":       {head + `,"excludeCIDRs":["fe80::%eth0/64"]}`, `excludeCIDRs`},
		"a name for a CIDR":    {head + `,"excludeCIDRs":["example.org"]}`, `example.org`},
		"CIDRs not a list":     {head + `,"excludeCIDRs":"10.0.0.0/8"}`, `excludeCIDRs`},
		"too many CIDRs":       {head + `,"excludeCIDRs":[` + repeat(`"10.0.0.0/8"`, 129) + `]}`, `excludeCIDRs: 129 entries, at most 128`},
		"too many ports":       {head + `,"excludePorts":[` + repeat(`"1"`, 129) + `]}`, `excludePorts: 129 entries, at most 128`},
		"port as number":       {head + `,"excludePorts":[8080]}`, `excludePorts "[8080]"`},
		"port null":            {head + `,"excludePorts":[null]}`, `excludePorts[0]`},
		"excluded port 0":      {head + `,"excludePorts":["0"]}`, `port range "0": a port must be 1 to 65535; write "8080" or "8000-9000"`},
		"excluded port large":  {head + `,"excludePorts":["65536"]}`, `port range "65536"`},
		"leading zero":         {head + `,"excludePorts":["080"]}`, `port range "080"`},
		"plus sign":            {head + `,"excludePorts":["+80"]}`, `port range "+80"`},
		"space":                {head + `,"excludePorts":["80 "]}`, `port range "80 "`},
		"range backwards":      {head + `,"excludePorts":["9000-8000"]}`, `ends before it begins; write 8000-9000`},
		"range without end":    {head + `,"excludePorts":["8000-"]}`, `port range "8000-"`},
		"range of three":       {head + `,"excludePorts":["1-2-3"]}`, `port range "1-2-3"`},
		"long value abridged":  {head + `,"excludePorts":["` + strings.Repeat("9", 5000) + `"]}`, `"...`},
		"invalid UTF-8 in key": {"{\"\xff\":1}", `unknown or repeated field`},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := Decode(c.value)
			if err == nil {
				t.Fatalf("accepted as %+v", spec)
			}
			if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "redirect spec: ") {
				t.Errorf("error %q does not say %q", err, c.want)
			}
			if len(err.Error()) > 400 {
				t.Errorf("error of %d bytes for the events of a pod", len(err.Error()))
			}
		})
	}
}

func repeat(s string, n int) string {
	return strings.TrimSuffix(strings.Repeat(s+",", n), ",")
}

// The webhook must not be able to write what the plugin refuses.
func TestEncodeRefuses(t *testing.T) {
	for _, s := range []Spec{
		{},
		{Version: 2, ProxyUID: 1337, ProxyPort: 10000},
		{Version: 1, ProxyPort: 10000},
		{Version: 1, ProxyUID: 1337},
		{Version: 1, ProxyUID: 1337, ProxyPort: 1, ExcludePorts: []PortRange{{}}},
		{Version: 1, ProxyUID: 1337, ProxyPort: 1, ExcludePorts: []PortRange{{2, 1}}},
		{Version: 1, ProxyUID: 1337, ProxyPort: 1, ExcludeCIDRs: []netip.Prefix{{}}},
	} {
		if value, err := Encode(s); err == nil {
			t.Errorf("%+v encoded as %s", s, value)
		}
	}
}

// Two readers of one annotation must agree: what Decode accepts is valid, is the
// same for a reader that is less strict, and survives a round trip.
func FuzzDecode(f *testing.F) {
	value, err := Encode(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add(`{"version":1,"proxyUID":1337,"proxyPort":10000,"excludeCIDRs":["::/0"],"excludePorts":["1-2"]}`)
	f.Add(`{"version":1,"proxyUID":1337,"proxyPort":10000} `)
	f.Add("{\"version\":1,\"\xff\":[{}]}")
	f.Fuzz(func(t *testing.T, value string) {
		spec, err := Decode(value)
		if err != nil {
			return
		}
		var lax Spec
		if err := json.Unmarshal([]byte(value), &lax); err != nil {
			t.Fatalf("%q accepted, but is not JSON: %v", value, err)
		}
		again, err := Encode(spec)
		if err != nil {
			t.Fatalf("%q accepted, but %v", value, err)
		}
		fromLax, err := Encode(lax)
		if err != nil || fromLax != again {
			t.Fatalf("%q is %q here and %q for encoding/json (%v)", value, again, fromLax, err)
		}
		if back, err := Decode(again); err != nil || Rules(back).String() != Rules(spec).String() {
			t.Fatalf("%q changed in a round trip to %q: %v", value, again, err)
		}
	})
}

func FuzzPortRange(f *testing.F) {
	f.Add("8080")
	f.Add("8000-9000")
	f.Add("0-")
	f.Fuzz(func(t *testing.T, text string) {
		var r PortRange
		if err := r.UnmarshalText([]byte(text)); err != nil {
			return
		}
		if got := r.String(); got != text && text != got+"-"+got {
			t.Fatalf("%q was read as %q", text, got)
		}
	})
}
