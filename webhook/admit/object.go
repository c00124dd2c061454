package admit

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// An object is what is read of anything that is labelled: its metadata, and its pod template if it has one.
type object struct {
	Metadata inject.Metadata `json:"metadata"`
	Spec     struct {
		Template    jsontext.Value `json:"template"`
		JobTemplate struct {
			Spec struct {
				Template jsontext.Value `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
		label.ServiceSpec
		label.PodSpec
	} `json:"spec"`
	// template is the pod template decoded, at the path; nil for what has none.
	template *template
	path     patch.Path
}

type template struct {
	Metadata *inject.Metadata `json:"metadata"`
	Spec     label.PodSpec    `json:"spec"`
	raw      jsontext.Value
}

func decode(raw []byte) (*object, error) {
	var o object
	if err := json.Unmarshal(raw, &o, inject.Decoding); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	text := o.Spec.Template
	o.path = patch.Of("spec", "template")
	if text == nil {
		text = o.Spec.JobTemplate.Spec.Template
		o.path = patch.Of("spec", "jobTemplate", "spec", "template")
	}
	if text == nil {
		return &o, nil
	}
	o.template = &template{raw: text}
	if err := json.Unmarshal(text, o.template, inject.Decoding); err != nil {
		return nil, fmt.Errorf("decode pod template: %w", err)
	}
	return &o, nil
}
