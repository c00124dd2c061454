package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// A pod's addresses must reach the runtime as its network plugin gave them,
// whether the pod is redirected or not.
func TestAddReturnsPrevResultUntouched(t *testing.T) {
	for _, v := range versions {
		for name, annotations := range map[string]string{"injected": annotated(specJSON), "not injected": `{"other":"x"}`, "no annotations": ""} {
			t.Run(v+" "+name, func(t *testing.T) {
				r, out := &recorder{}, &bytes.Buffer{}
				if err := r.plugin(out).Add(args(stdin(v, results[v], annotations, ""))); err != nil {
					t.Fatal(err)
				}
				if got := strings.TrimSpace(out.String()); got != results[v] {
					t.Errorf("printed %s\nwant    %s", got, results[v])
				}
				want := "[]"
				if name == "injected" {
					want = "[in /run/netns/x by auto apply {1 1337 10000 [] []}]"
				}
				if got := fmt.Sprint(r.done); got != want {
					t.Errorf("did %s, want %s", got, want)
				}
				if reported := len(r.reports) == 1 && !r.reports[0].Failed; reported != (name == "injected") || len(r.reports) > 1 {
					t.Errorf("reported %v", r.reports)
				}
			})
		}
	}
}

// An entry that this program cannot read, such as one of a later release, is for
// annotated pods to fail on: no other pod and no node may.
func TestOwnEntryHarmsOnlyAnnotatedPods(t *testing.T) {
	for _, entry := range []string{`,"backend":"future"`, `,"backend":["nftables","future"]`, `,"strictStatus":"by pod"`} {
		for _, annotations := range []string{"", `{"other":"x"}`} {
			r, out := &recorder{}, &bytes.Buffer{}
			plain := args(stdin("1.1.0", results["1.1.0"], annotations, entry))
			if err := r.plugin(out).Add(plain); err != nil || strings.TrimSpace(out.String()) != results["1.1.0"] {
				t.Errorf("ADD with %s: %v, printed %s", entry, err, out)
			}
			if err := r.plugin(nil).Check(plain); err != nil {
				t.Errorf("CHECK with %s: %v", entry, err)
			}
		}
		r := &recorder{}
		if err := r.plugin(nil).Status(args(stdin("1.1.0", "", "", entry))); err != nil {
			t.Errorf("STATUS with %s: %v", entry, err)
		}
		if err := r.plugin(&bytes.Buffer{}).Add(args(stdin("1.1.0", results["1.1.0"], annotated(specJSON), entry))); err == nil {
			t.Errorf("ADD of an annotated pod with %s: no error", entry)
		}
		if len(r.done) != 0 {
			t.Errorf("with %s did %v", entry, r.done)
		}
	}
	strict := args(stdin("1.1.0", "", "", `,"strictStatus":true,"backend":"future"`))
	if err := (&recorder{}).plugin(nil).Status(strict); code(err) != types.ErrInvalidNetworkConfig {
		t.Errorf("strict STATUS: %v", err)
	}
}

// What goes wrong must tell the user which pod and which field, and must leave
// no result behind that would start the pod.
func TestAddRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		stdin []byte
		fail  error
		code  uint
		want  string
	}{
		"bad annotation": {
			stdin("1.1.0", results["1.1.0"], annotated(`{"version":1,"proxyUID":0,"proxyPort":10000}`), ""), nil, types.ErrInvalidNetworkConfig,
			"pod shop/cart-0: annotation traffic.envoy.redirect; redirect spec: proxyUID 0: must be 1 to 4294967294",
		},
		"empty annotation": {
			stdin("1.1.0", results["1.1.0"], annotated(``), ""), nil, types.ErrInvalidNetworkConfig,
			`annotation traffic.envoy.redirect; redirect spec: "" is not a JSON object`,
		},
		"later spec": {
			stdin("1.1.0", results["1.1.0"], annotated(`{"version":2,"proxyUID":1,"proxyPort":1}`), ""), nil, types.ErrInvalidNetworkConfig,
			"version 2: this program knows version 1 only",
		},
		"not chained":                 {stdin("1.1.0", "", annotated(specJSON), ""), nil, types.ErrInvalidNetworkConfig, "no prevResult"},
		"not chained, not injected":   {stdin("0.3.1", "", "", ""), nil, types.ErrInvalidNetworkConfig, "no prevResult"},
		"null prevResult":             {stdin("1.0.0", "null", "", ""), nil, types.ErrInvalidNetworkConfig, "no prevResult"},
		"prevResult is no result":     {stdin("1.0.0", `{"ips":7}`, "", ""), nil, types.ErrDecodingFailure, "prevResult is not a result of version 1.0.0"},
		"unknown back end":            {stdin("1.0.0", results["1.0.0"], annotated(specJSON), `,"backend":"ebpf"`), nil, types.ErrInvalidNetworkConfig, `backend "ebpf": must be one of auto, nftables`},
		"annotations of another type": {stdin("1.0.0", results["1.0.0"], `["x"]`, ""), nil, types.ErrDecodingFailure, "network configuration"},
		"kernel refuses": {
			stdin("1.0.0", results["1.0.0"], annotated(specJSON), ""), errors.New("operation not supported"), codeRedirect,
			"pod shop/cart-0 cannot be redirected; operation not supported",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, out := &recorder{fail: c.fail}, &bytes.Buffer{}
			err := r.plugin(out).Add(args(c.stdin))
			if err == nil || code(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v (code %d), want code %d and %q", err, code(err), c.code, c.want)
			}
			if out.Len() != 0 {
				t.Errorf("printed a result: %s", out)
			}
			if c.fail == nil && len(r.done) != 0 {
				t.Errorf("did %v", r.done)
			}
			if c.fail != nil && (len(r.reports) != 1 || !r.reports[0].Failed) {
				t.Errorf("reported %v", r.reports)
			}
		})
	}
}

// No input panics, and none but a chained configuration makes a result.
func FuzzAdd(f *testing.F) {
	for _, v := range versions {
		f.Add(stdin(v, results[v], annotated(specJSON), ""))
	}
	f.Add([]byte(`{"runtimeConfig":null,"prevResult":{},"cniVersion":"1.1.0"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, out := &recorder{}, &bytes.Buffer{}
		err := r.plugin(out).Add(args(data))
		if (err == nil) != (out.Len() > 0) {
			t.Fatalf("error %v, but printed %q", err, out)
		}
		if err == nil && !json.Valid(out.Bytes()) {
			t.Fatalf("printed %q", out)
		}
	})
}
