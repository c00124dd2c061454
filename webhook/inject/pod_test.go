package inject

import "testing"

// TestService: people look for a service's spans under the name that they gave it, not under one pod's.
func TestService(t *testing.T) {
	tests := []struct {
		name string
		meta Metadata
		want string
	}{
		{"the recommended label", Metadata{Name: "x", Labels: map[string]string{"app.kubernetes.io/name": "shop", "app": "web"}}, "shop"},
		{"the usual label", Metadata{GenerateName: "x-", Labels: map[string]string{"app": "reviews"}}, "reviews"},
		{"a Deployment's pod", Metadata{GenerateName: "reviews-v1-6f7d-", Labels: map[string]string{"pod-template-hash": "6f7d"}}, "reviews-v1"},
		{"a DaemonSet's pod", Metadata{GenerateName: "logs-"}, "logs"},
		{"a pod of its own", Metadata{Name: "client"}, "client"},
	}
	for _, test := range tests {
		if got := test.meta.service(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
