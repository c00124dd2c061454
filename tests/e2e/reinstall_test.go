package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// reinstalls takes the product away under load, and installs it again: what runs meanwhile is served as before, and follows
// again afterwards. files are the node's CNI files without the product.
func reinstalls(t *testing.T, s *site, now version, files map[string]string) {
	s.ownSecrets(t)
	before := s.authority(t)
	traffic, pods := s.startTraffic(t, 1), watchFates(s.client, "shop")
	t.Run("uninstall", func(t *testing.T) { uninstall(t, s, files) })
	t.Run("what runs goes on", func(t *testing.T) { goesOn(t, s) })
	t.Run("install again", func(t *testing.T) { installAgain(t, s, now) })
	// Once a pod was refused, none is created without Envoy.
	pods.end(t, "i+r*b+r*i+")
	traffic.end(t)
	if got := s.authority(t); got != before {
		t.Error("the new installation has another authority than the one that running pods were given")
	}
}

// ownSecrets makes each Certificate the owner of its Secret, as cert-manager does with --enable-certificate-owner-ref: a
// Secret goes with its Certificate.
func (s *site) ownSecrets(t *testing.T) {
	t.Helper()
	for _, name := range []string{"traffic-ca", "traffic-control", "traffic-webhook"} {
		secret, uid, _ := strings.Cut(s.kubectl(t, "get", "certificate", "-n", release, name, "-o", "jsonpath={.spec.secretName} {.metadata.uid}"), " ")
		s.kubectl(t, "patch", "secret", "-n", release, secret, "--type=merge", "-p", fmt.Sprintf(
			`{"metadata":{"ownerReferences":[{"apiVersion":"cert-manager.io/v1","kind":"Certificate","name":%q,"uid":%q,"controller":true}]}}`, name, uid))
	}
}

// authority is the certificate by which running pods know the control plane, and its key.
func (s *site) authority(t *testing.T) string {
	t.Helper()
	return s.kubectl(t, "get", "secret", "-n", release, "traffic-ca", "-o", `jsonpath={.data.tls\.key} {.data.tls\.crt}`)
}

// uninstall takes the product away and watches the node: it never names a plugin that is not there, and ends as it began.
func uninstall(t *testing.T, s *site, before map[string]string) {
	done := make(chan error, 1)
	go func() { done <- s.helmCommand(t, "uninstall", "traffic", "-n", release).Run() }()
	s.cleaned(t, before)
	if err := <-done; err != nil {
		t.Fatalf("helm uninstall: %v", err)
	}
	if left := s.kubectl(t, "get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "name"); strings.Contains(left, "traffic") {
		t.Errorf("left behind: %s", left)
	}
}

// goesOn looks at pods after the product is gone.
func goesOn(t *testing.T, s *site) {
	s.kubectl(t, "delete", "pod", "-n", "shop", "leaving", "--timeout=60s")
	s.kubectl(t, "run", "-n", "shop", "late", "--image=localhost:5000/curl", "--labels=traffic.envoy.enabled=true", "--command", "--", "sleep", "infinity")
	s.kubectl(t, "run", "-n", "shop", "other", "--image=localhost:5000/curl", "--command", "--", "sleep", "infinity")
	s.kubectl(t, "wait", "-n", "shop", "--for=condition=Ready", "pod", "late", "other", "--timeout=60s")
	if left := s.kubectl(t, "get", "pod", "-n", "shop", "late", "-o", "jsonpath={.spec.initContainers}{.metadata.annotations}"); left != "" {
		t.Errorf("a pod was injected after the uninstall: %s", left)
	}
	s.kubectl(t, "label", "service", "-n", "shop", "web", "traffic.port.80-", "traffic.port.81=http")
	for _, pod := range injectedBefore {
		s.gets(t, pod, map[string]string{"http://web/health": "200", "http://web:81/health": "404"})
	}
	// Without a control plane an Envoy that starts waits for one, and nothing leaves its pod meanwhile.
	if err := killAll(s.containerID(t, "crashing", "traffic-envoy")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "1", func() string {
		return s.kubectl(t, "get", "pod", "-n", "shop", "crashing", "-o", "jsonpath={.status.initContainerStatuses[0].restartCount}")
	})
	s.gets(t, "crashing", map[string]string{"http://web/health": "000"})
}

// gets checks what a pod is answered, by URL.
func (s *site) gets(t *testing.T, pod string, want map[string]string) {
	t.Helper()
	for url, status := range want {
		if got := s.status(t, "shop", pod, url); got != status {
			t.Errorf("pod %s gets %s from %s, want %s", pod, got, url, status)
		}
	}
}

// installAgain checks that pods which outlived the product follow it again, and that new ones are injected.
func installAgain(t *testing.T, s *site, now version) {
	s.install(t, now)
	after := map[string]string{"http://web:81/health": "200", "http://web/health": "404", "http://web:82/health": "404"}
	for _, pod := range append([]string{"crashing"}, injectedBefore...) {
		for url, status := range after {
			eventually(t, status, func() string { return s.status(t, "shop", pod, url) })
		}
	}
	s.kubectl(t, "run", "-n", "shop", "new", "--image=localhost:5000/curl", "--labels=traffic.envoy.enabled=true", "--overrides",
		`{"spec":{"containers":[{"name":"app","image":"localhost:5000/curl","command":["sleep","infinity"]}]}}`)
	s.kubectl(t, "wait", "-n", "shop", "--for=condition=Ready", "pod", "new", "--timeout=60s")
	s.gets(t, "new", after)
}
