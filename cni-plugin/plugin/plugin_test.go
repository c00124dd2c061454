package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

const specJSON = `{"version":1,"proxyUID":1337,"proxyPort":10000}`

// recorder is a back end, and the namespace it is called in, that notes what is
// done and fails on demand.
type recorder struct {
	done    []string
	fail    error
	reports []Report
}

func (r *recorder) note(what string) error {
	r.done = append(r.done, what)
	return r.fail
}

func (r *recorder) Name() string                            { return "nftables" }
func (r *recorder) Probe(ns.NetNS) error                    { return r.note("probe") }
func (r *recorder) Apply(_ ns.NetNS, s redirect.Spec) error { return r.note(fmt.Sprint("apply ", s)) }

func (r *recorder) Check(_ ns.NetNS, s redirect.Spec) error { return r.note(fmt.Sprint("check ", s)) }
func (r *recorder) Remove(ns.NetNS) error                   { return r.note("remove") }
func (r *recorder) in(path, name string, do func(apply.Backend, ns.NetNS) error) error {
	r.done = append(r.done, "in "+path+" by "+name)
	return do(r, nil)
}

func (r *recorder) plugin(stdout *bytes.Buffer) Plugin {
	return Plugin{
		Stdout: stdout, In: r.in, Resolve: func(name string) (string, error) { return name, r.note("resolve") },
		Report: func(report Report) { r.reports = append(r.reports, report) },
	}
}

var versions = Versions().SupportedVersions()

// results are what the plugin before ours may print, with odd spacing and a
// field that no library knows, because ours must hand it on as it is.
var results = map[string]string{
	"0.3.1": `{"cniVersion":"0.3.1", "interfaces":[{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"version":"4","interface":0,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],"vendor":{"n":12345678901234567890}}`,
	"0.4.0": `{"cniVersion":"0.4.0","ips":[ {"version":"6","address":"fd00::2/64"} ],"dns":{"nameservers":["10.1.0.1"]}}`,
	"1.0.0": `{"cniVersion":"1.0.0","interfaces":[],"ips":[{"address":"10.1.0.2/24"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
	"1.1.0": `{"ips":[{"address":"10.1.0.2/24"}],"interfaces":[{"name":"eth0","mtu":1400}],"routes":[{"dst":"::/0","mtu":1400}],"cniVersion":"1.1.0"}`,
}

func stdin(cniVersion, prevResult, annotations, extra string) []byte {
	b := fmt.Sprintf(`{"cniVersion":%q,"name":"pods","type":"traffic-cni","capabilities":{"io.kubernetes.cri.pod-annotations":true}`, cniVersion)
	if prevResult != "" {
		b += `,"prevResult":` + prevResult
	}
	if annotations != "" {
		b += `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":` + annotations + `}`
	}
	return []byte(b + extra + `}`)
}

func annotated(value string) string {
	b, _ := json.Marshal(map[string]string{"other": "x", redirect.Annotation: value})
	return string(b)
}

func args(data []byte) *skel.CmdArgs {
	return &skel.CmdArgs{
		ContainerID: "c1", Netns: "/run/netns/x", IfName: "eth0", StdinData: data,
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=u",
	}
}

// Every version that the library speaks is covered, so that a new one is not
// forgotten.
func TestVersionsCovered(t *testing.T) {
	for _, v := range versions {
		if results[v] == "" {
			t.Errorf("no previous result of version %s in the tests", v)
		}
	}
	if len(versions) != len(results) || versions[0] != "0.3.1" {
		t.Errorf("supported versions are %v", versions)
	}
}

func code(err error) uint {
	var e *types.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// A DEL that fails keeps a pod in Terminating for ever.
func TestDelNeverFails(t *testing.T) {
	injected := stdin("1.1.0", results["1.1.0"], annotated(specJSON), "")
	for name, c := range map[string]struct {
		args *skel.CmdArgs
		fail error
		want string
	}{
		"injected":                {args(injected), nil, "[in /run/netns/x by auto remove]"},
		"twice":                   {args(injected), nil, "[in /run/netns/x by auto remove]"},
		"namespace gone":          {args(injected), apply.ErrGone, "[in /run/netns/x by auto remove]"},
		"kernel refuses":          {args(injected), errors.New("no"), "[in /run/netns/x by auto remove]"},
		"without prevResult":      {args(stdin("0.3.1", "", annotated(specJSON), "")), nil, "[in /run/netns/x by auto remove]"},
		"annotation went bad":     {args(stdin("1.1.0", "", annotated("{"), "")), nil, "[in /run/netns/x by auto remove]"},
		"without namespace":       {&skel.CmdArgs{StdinData: injected}, nil, "[]"},
		"not injected":            {args(stdin("1.1.0", results["1.1.0"], `{"a":"b"}`, "")), nil, "[]"},
		"unknown back end":        {args(stdin("1.1.0", "", annotated(specJSON), `,"backend":"x"`)), nil, "[]"},
		"configuration not JSON":  {args([]byte("{")), nil, "[]"},
		"without any annotations": {args(stdin("1.1.0", "", "", "")), nil, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			r, out := &recorder{fail: c.fail}, &bytes.Buffer{}
			if err := r.plugin(out).Del(c.args); err != nil {
				t.Errorf("DEL failed: %v", err)
			}
			if got := fmt.Sprint(r.done); got != c.want || out.Len() != 0 {
				t.Errorf("did %s and printed %q, want %s and nothing", got, out, c.want)
			}
		})
	}
}

// CHECK is how the agent and a runtime learn that a pod is not redirected.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		stdin []byte
		fail  error
		want  string
	}{
		"rules as they should be": {stdin("1.1.0", results["1.1.0"], annotated(specJSON), ""), nil, ""},
		"rules differ":            {stdin("0.4.0", results["0.4.0"], annotated(specJSON), ""), apply.ErrDiffers, "pod shop/cart-0 is not redirected as its annotation says; rules differ"},
		"not injected":            {stdin("1.0.0", results["1.0.0"], "", ""), apply.ErrDiffers, ""},
		"not chained":             {stdin("1.0.0", "", "", ""), nil, "no prevResult"},
		"bad annotation":          {stdin("1.0.0", results["1.0.0"], annotated("x"), ""), nil, "annotation traffic.envoy.redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&recorder{fail: c.fail}).plugin(&bytes.Buffer{}).Check(args(c.stdin))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// An error of STATUS makes the node NotReady: only who asked for it gets one.
func TestStatusAndGC(t *testing.T) {
	broken := &recorder{fail: errors.New("nf_tables is missing")}
	if err := broken.plugin(nil).Status(args(stdin("1.1.0", "", "", ""))); err != nil || len(broken.done) != 0 {
		t.Errorf("STATUS %v after %v", err, broken.done)
	}
	strict := args(stdin("1.1.0", "", "", `,"strictStatus":true`))
	if err := broken.plugin(nil).Status(strict); code(err) != types.ErrPluginNotAvailable || !strings.Contains(err.Error(), "nf_tables is missing") {
		t.Errorf("strict STATUS of a broken node: %v", err)
	}
	if err := (&recorder{}).plugin(nil).Status(strict); err != nil {
		t.Errorf("strict STATUS of a good node: %v", err)
	}
	if err := broken.plugin(nil).GC(args(stdin("1.1.0", "", "", `,"cni.dev/valid-attachments":[]`))); err != nil {
		t.Errorf("GC: %v", err)
	}
}

// Whatever happens inside, the runtime gets an error it can show.
func TestPanicBecomesError(t *testing.T) {
	p := Plugin{In: func(string, string, func(apply.Backend, ns.NetNS) error) error { panic("boom") }}
	err := p.Funcs().Add(args(stdin("1.1.0", results["1.1.0"], annotated(specJSON), "")))
	if code(err) != types.ErrInternal || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
}

// What the agent writes into a conflist is what the plugin reads.
func TestEntry(t *testing.T) {
	b, err := json.Marshal(NewEntry("nftables", true))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"traffic-cni","capabilities":{"io.kubernetes.cri.pod-annotations":true},"backend":"nftables","strictStatus":true}`
	if string(b) != want {
		t.Errorf("entry %s, want %s", b, want)
	}
	if e, err := parseEntry(b); err != nil || e.Backend != "nftables" || !e.StrictStatus {
		t.Errorf("read back %+v, %v", e, err)
	}
}
