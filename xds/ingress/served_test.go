package ingress

import (
	"fmt"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestServed: an Ingress shows the gateway's address as long as the gateway does something that it says, and each is told of
// once, others' too: one of them may show the address since a time when it was ours.
func TestServed(t *testing.T) {
	w := newWorld(Config{Controller: controller})
	made := func(name string, created int64, change func(*networkingv1.Ingress)) func() {
		i := simple(1, "/")
		i.Name, i.CreationTimestamp = name, metav1.Unix(created, 0)
		if change != nil {
			change(i)
		}
		return func() { w.gateway.SetIngress(i) }
	}
	class := func(name string) func(*networkingv1.Ingress) {
		return func(i *networkingv1.Ingress) { i.Spec.IngressClassName = &name }
	}
	secret := func(name string) func(*networkingv1.Ingress) {
		return func(i *networkingv1.Ingress) { i.Spec.Rules, i.Spec.TLS[0].SecretName = nil, name }
	}
	gone := func(name string) func() { return func() { w.gateway.Delete(object(Ingress, "a", name)) } }
	tells := func(controller string) func() {
		c := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "ours"}, Spec: networkingv1.IngressClassSpec{Controller: controller}}
		return func() { w.gateway.SetClass(c) }
	}
	for _, step := range []struct {
		what string
		do   func()
		want []string
	}{
		{"ours", made("older", 1, nil), []string{"older true"}},
		{"again", made("older", 1, nil), nil},
		{"others'", made("other", 1, class("others")), []string{"other false"}},
		{"a path that is taken", made("younger", 2, nil), []string{"younger false"}},
		{"a path of two that is free", made("younger", 2, func(i *networkingv1.Ingress) {
			paths := i.Spec.Rules[0].HTTP
			paths.Paths = append(paths.Paths, paths.Paths[0])
			paths.Paths[1].Path = "/free"
		}), []string{"younger true"}},
		{"taken again", made("younger", 2, nil), []string{"younger false"}},
		{"the older changes its class", made("older", 1, class("others")), []string{"older false", "younger true"}},
		{"and back", made("older", 1, nil), []string{"older true", "younger false"}},
		{"a certificate alone that is another's", made("certificate", 3, secret("s2")), []string{"certificate false"}},
		{"the same certificate", made("certificate", 3, secret("s1")), []string{"certificate true"}},
		{"an IngressClass that is ours", tells(controller), nil},
		{"an Ingress of it", made("classy", 4, func(i *networkingv1.Ingress) { i.Spec.Rules[0].Host = "x.example"; class("ours")(i) }), []string{"classy true"}},
		{"the class becomes others'", tells("another"), []string{"classy false"}},
		{"the older goes", gone("older"), []string{"older false", "younger true"}},
		{"others' goes", gone("other"), []string{"other false"}},
		{"a path that no request has", made("odd", 5, func(i *networkingv1.Ingress) {
			i.Spec.TLS, i.Spec.Rules[0].Host, i.Spec.Rules[0].HTTP.Paths[0].Path = nil, "y.example", "/a?b"
		}), []string{"odd false"}},
	} {
		step.do()
		var got []string
		for _, change := range w.flush(noon).Served {
			got = append(got, fmt.Sprint(change.Ingress.Name, " ", change.Served))
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: told %q, want %q", step.what, got, step.want)
		}
	}
}
