package ingress

import (
	"crypto/x509"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCountCertificates: an alert fires before a certificate ends, and goes on after it has, however many others are good.
func TestCountCertificates(t *testing.T) {
	const day = 24 * time.Hour
	w, key := newWorld(Config{Controller: controller}), newKey(t)
	add := func(n int, begins, ends time.Duration) {
		chain, pemKey := newPairOf(t, key, func(c *x509.Certificate) {
			c.DNSNames, c.NotBefore, c.NotAfter = []string{"h.example"}, noon.Add(begins), noon.Add(ends)
		})
		i := simple(n, "/")
		w.gateway.SetIngress(i)
		w.gateway.SetSecret(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: i.Namespace, Name: i.Spec.TLS[0].SecretName}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: pemKey},
		})
	}
	add(1, -60*day, 30*day)
	add(2, -80*day, 10*day)
	add(3, -2*day, 4*day) // of six days in all
	w.gateway.SetIngress(simple(4, "/"))
	for _, test := range []struct {
		after time.Duration
		want  CertificateCount
	}{
		{0, CertificateCount{Unusable: 1}},
		{3 * day, CertificateCount{Unusable: 1, Expiring: 1}},
		{3*day + time.Hour, CertificateCount{Unusable: 1, Expiring: 2}},
		{5 * day, CertificateCount{Unusable: 2, Expiring: 1}},
		{11 * day, CertificateCount{Unusable: 3}},
	} {
		now := noon.Add(test.after)
		w.flush(now)
		if got := w.gateway.CountCertificates(now); got != test.want {
			t.Errorf("after %s: %+v, want %+v", test.after, got, test.want)
		}
	}
	for _, name := range []string{"i1", "i2", "i3", "i4"} {
		w.remove(object(Ingress, "a", name))
	}
	w.flush(noon)
	if got := w.gateway.CountCertificates(noon); got != (CertificateCount{}) {
		t.Errorf("of no Ingress: %+v", got)
	}
}
