package serve

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

var modelNames = rapid.SampledFrom([]string{"a", "b", "c", "d"})

func (m *model) resource(typeURL, name string) envoy.Resource {
	revision := rapid.IntRange(1, 3).Draw(m.t, "revision")
	switch typeURL {
	case clusters:
		if revision == 3 {
			return staticCluster(name, 0)
		}
		return cluster(name, revision)
	case endpoints:
		return endpoint(name, revision)
	case listeners:
		return listener(name, rapid.SampledFrom([]string{"", "a", "b"}).Draw(m.t, "rds"), revision)
	case routes:
		return route(name, revision)
	default:
		return secret(name, revision)
	}
}

func (m *model) randomUpdate() Update {
	var u Update
	for range rapid.IntRange(0, 4).Draw(m.t, "changes") {
		typeURL := rapid.SampledFrom(modelTypes).Draw(m.t, "type")
		name := modelNames.Draw(m.t, "name")
		if rapid.Bool().Draw(m.t, "remove") {
			u.Remove = append(u.Remove, envoy.Key{Type: typeURL, Name: name})
		} else {
			u.Set = append(u.Set, m.resource(typeURL, name))
		}
	}
	return u
}

// run does random things in a random order.
func (m *model) run() {
	named := func(f func(string, ...string)) func(*rapid.T) {
		return func(t *rapid.T) {
			f(rapid.SampledFrom(modelTypes).Draw(t, "type"), rapid.SliceOfNDistinct(modelNames, 1, 3, rapid.ID).Draw(t, "names")...)
		}
	}
	wild := func(f func(string, ...string)) func(*rapid.T) {
		return func(t *rapid.T) { f(rapid.SampledFrom([]string{clusters, listeners}).Draw(t, "type"), "*") }
	}
	m.t.Repeat(map[string]func(*rapid.T){
		"publish":        func(*rapid.T) { m.publish(m.randomUpdate()) },
		"server":         func(*rapid.T) { m.serverTurn() },
		"proxy":          func(*rapid.T) { m.proxyTurn() },
		"subscribe":      named(m.subscribe),
		"unsubscribe":    named(m.unsubscribe),
		"subscribeAll":   wild(m.subscribe),
		"unsubscribeAll": wild(m.unsubscribe),
		"expire":         func(*rapid.T) { m.stream.expire() },
		"reconnect":      func(*rapid.T) { m.reconnect() },
	})
	m.publish(m.randomUpdate()) // at least one
	m.finish()
	m.stream.abandon()
}

// Whatever is published, in whatever order messages arrive, and however often the connection breaks: in the end the proxy
// has exactly what is published of what it wants.
func TestAProxyEndsWithWhatIsPublished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newModel(t).run() })
}

// The same for a proxy that refuses some resources: it has everything else, and is left alone about those.
func TestAProxyThatRejectsEndsWithEverythingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		bad := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "bad")
		m.rejects = func(name, version string) bool { return name == bad && version[0] < '8' }
		m.run()
	})
}
