package plugin

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// Type is the plugin's name: of its binary, and of its entry in a conflist.
const Type = "traffic-cni"

// AnnotationsCapability is the capability by which a runtime hands over the
// pod's annotations: containerd since 1.5, CRI-O since 1.28.
const AnnotationsCapability = "io.kubernetes.cri.pod-annotations"

// Entry is our part of a conflist, as the node agent writes it.
type Entry struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
	// Backend is one of apply.Names; empty is apply.Auto.
	Backend string `json:"backend,omitempty"`
	// Boot is the id of the node's boot in which Backend was found to work; empty
	// if nobody had to look for it.
	Boot string `json:"boot,omitempty"`
	// StrictStatus lets STATUS fail when pods cannot be redirected.
	StrictStatus bool `json:"strictStatus,omitempty"`
}

// NewEntry is an entry that a runtime can use.
func NewEntry(backend string, strictStatus bool) Entry {
	return Entry{
		Type:         Type,
		Capabilities: map[string]bool{AnnotationsCapability: true},
		Backend:      backend,
		StrictStatus: strictStatus,
	}
}

// config is what the runtime passes by stdin: our entry, with what it adds.
type config struct {
	Entry         Entry           `json:"-"` // read for annotated pods only
	CNIVersion    string          `json:"cniVersion"`
	PrevResult    json.RawMessage `json:"prevResult"`
	RuntimeConfig struct {
		PodAnnotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`
	} `json:"runtimeConfig"`
}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, unreadable(err)
	}
	if !c.annotated() {
		return c, nil
	}
	var err error
	if c.Entry, err = parseEntry(stdin); err != nil {
		return nil, err
	}
	return c, nil
}

// parseEntry reads and validates our own entry. Nothing in it may keep a pod
// from starting that is not annotated. An error comes with what could be read.
func parseEntry(stdin []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(stdin, &e); err != nil {
		return e, unreadable(err)
	}
	if e.Backend == "" {
		e.Backend = apply.Auto
	}
	if err := apply.ValidateName(e.Backend); err != nil {
		return e, types.NewError(types.ErrInvalidNetworkConfig, "traffic-cni: network configuration: "+err.Error(), "")
	}
	return e, nil
}

func unreadable(err error) error {
	return types.NewError(types.ErrDecodingFailure, "traffic-cni: cannot read the network configuration", err.Error())
}

// requireChained reports a configuration in which no plugin that makes a network
// comes before us.
func (c *config) requireChained() error {
	if len(c.PrevResult) == 0 || string(c.PrevResult) == "null" {
		return types.NewError(types.ErrInvalidNetworkConfig,
			"traffic-cni: no prevResult: it must be chained after a plugin that makes the pod's network",
			"let the node agent traffic-node write the configuration")
	}
	if _, err := version.NewResult(c.CNIVersion, c.PrevResult); err != nil {
		return types.NewError(types.ErrDecodingFailure,
			"traffic-cni: prevResult is not a result of version "+c.CNIVersion, err.Error())
	}
	return nil
}

func (c *config) annotated() bool {
	_, ok := c.RuntimeConfig.PodAnnotations[redirect.Annotation]
	return ok
}

// podName reads from CNI_ARGS whom an error is about; it is for people only, so
// what is missing there is no error.
func podName(cniArgs string) string {
	args := map[string]string{}
	for pair := range strings.SplitSeq(cniArgs, ";") {
		key, value, _ := strings.Cut(pair, "=")
		args[key] = value
	}
	return fmt.Sprintf("pod %s/%s", args["K8S_POD_NAMESPACE"], args["K8S_POD_NAME"])
}
