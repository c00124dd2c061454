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

// UnmarshalJSONFrom decodes an object, and its pod template.
func (o *object) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type plain object
	if err := json.UnmarshalDecode(d, (*plain)(o)); err != nil {
		return err
	}
	text := o.Spec.Template
	o.path = patch.Of("spec", "template")
	if text == nil {
		text = o.Spec.JobTemplate.Spec.Template
		o.path = patch.Of("spec", "jobTemplate", "spec", "template")
	}
	if text == nil {
		return nil
	}
	o.template = &template{raw: text}
	if err := json.Unmarshal(text, o.template, inject.Decoding); err != nil {
		return fmt.Errorf("decode pod template: %w", err)
	}
	return nil
}
