package label

import (
	_ "embed"
	"fmt"
	"strings"
)

const preface = `# Labels

Every key of the vocabulary, with the objects on which it means something, its values and what is in force without it.

- A label acts on running pods at once, without a restart. Only ` + "`" + EnabledKey + "`" + ` acts when a pod is created.
- An empty value counts as absent. So does a value that is not valid, for its key alone: written over a good value, it takes that one away. Whoever
  sets it is told in the terminal, by an Event on the object (a Namespace's are in the namespace ` + "`default`" + `), and in the log of ` + "`traffic-control`" + `, whose
  metric ` + "`traffic_control_label_problems`" + ` counts such labels (port 8080, ` + "`/metrics`" + `). A key whose prefix is misspelt, such as ` + "`trafic.port.80`" + `, is told in
  the terminal alone.
- Words in values may be in upper or lower case (` + "`true`, `http`, `RING_HASH`" + `), units of durations, and names of cookies, not. Keys are in lower case.
- A Service's labels are about traffic to the Service, a Pod's about traffic to that pod's own address. They apply in clients that have an Envoy.
- A duration is written ` + "`3s`, `250ms` or `1m30s`" + `. A number without a unit is accepted, with a warning: below 1000000 it counts milliseconds, from
  there on nanoseconds.
- Breakers count for each client pod by itself.
- A headless Service is open at its endpoints' own addresses. Requests by its name are balanced, as its labels say; requests by a pod's name or
  IP, and all connections of ` + "`tcp` and `direct`" + ` ports, go to that pod. Where both are labelled, a Pod's own labels win at its address.
- TLS that the application speaks, a forward proxy, and every protocol that is not HTTP want a ` + "`tcp`" + ` port. WebSockets pass through ` + "`http`" + ` ports,
  and no label about requests ends them. A gRPC client sees what Envoy itself answers, such as a fault or a timeout, as UNAVAILABLE.
- An ExternalName Service has no address to open: label the Service that it names. ` + "`sessionAffinity: ClientIP`" + ` does not bind Envoy: hash on a cookie
  or header, or open the port as ` + "`direct`" + `.

`

// Reference returns the vocabulary as the page that users read, in Markdown.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(preface)
	for _, k := range Table {
		fmt.Fprintf(&b, "## `%s`\n\n%s\n\n", k.Name, k.Meaning)
		fmt.Fprintf(&b, "| | |\n|---|---|\n| On | %s |\n", list(k.On, "and"))
		if k.Of != nil {
			fmt.Fprintf(&b, "| Of ports that are | %s |\n", list(k.Of, "or"))
		}
		fmt.Fprintf(&b, "| Value | %s |\n| Without it | %s |\n", k.Expected, k.Default)
		fmt.Fprintf(&b, "| Example | `kubectl label %s NAME %s=%s` |\n\n", strings.ToLower(string(k.On[0])), strings.Replace(k.Name, portPlaceholder, "8080", 1), k.Example)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

const ingressPreface = `# Ingresses

The gateway serves Ingresses of its IngressClass, and those without a class unless a value says otherwise. Several Ingresses may share a host.

- An exact host comes before a wildcard, which stands for one label: ` + "`*.example.com` is for `a.example.com`, not for `b.a.example.com`" + `. Rules without a
  host are for the hosts that no rule names.
- Of the paths of a host ` + "`Exact`" + ` comes first, then the longest. ` + "`Prefix`" + ` matches by element, ` + "`ImplementationSpecific`" + ` is a prefix of the text. What is
  left goes to the default backend of an Ingress of the host, then to that of an Ingress without rules, if an Ingress of the host is in its namespace:
  no other namespace takes what a host leaves.
- Of two Ingresses that claim the same host, path and type the older has it. The younger is told by an Event, and takes over when the older goes.
- Namespaces share all hosts: an Ingress may name any, in its rules and in its tls. Where namespaces do not trust each other, have an admission policy say
  which hosts each may name. A plain request is redirected only if the certificate is of an Ingress in the namespace of the rule; otherwise an Event says so.
- Before it is matched, and before it is sent on, a path is normalized: dot segments are resolved, several slashes become one, and what needs no
  percent-encoding loses it. A path with an encoded slash is answered by a redirect to the one without.
  The case of an escape's hex digits does not count.
- A percent sign that encodes nothing, and a Host that is none, get 400. All else is another path: a server to which /ADMIN or /admin;x is /admin
  too, and which is the backend of both, must guard it itself. So is a path in which one of ` + "`! $ & ' ( ) * + , ; = : @ [ ] ? # %`" + ` is encoded: a rule for
  /a:b is not for /a%3Ab.
- A request that has a header with an underscore in its name is refused, with 400, over HTTP/2 by a reset of the stream: some servers take it for
  a hyphen, and so for a header that only the gateway may set. Such requests have the flag ` + "`DPE`" + ` in the gateway's log.
- A backend that is not there answers 503, for its path alone.
- An Ingress shows the gateway's address while the gateway does something that it says: not of another class, and not while older ones have all its paths.
- Of an Ingress the gateway takes 1,000 hosts, of its rules and tls together, 2,000 paths, of 256 KiB together (64 KiB with a limit of bodies), 500 backends
  and 100 Secrets: no Ingress can fill the gateway. What is more is as if it were not there, so that requests for a path that is more go where they would
  without it, past its source ranges, too; but hosts whose Secret is more get a certificate of our own, a path whose backend is more answers 503, and where
  paths times source ranges are more than 16,000 (4,000 with a limit of bodies), the paths that are more let nobody in. An Event says so. Divide such an
  Ingress. How many Ingresses a namespace may have is for a ResourceQuota to say,
  ` + "`count/ingresses.networking.k8s.io`" + `: each can take some 5 MB of the gateway's configuration.
- A host of tls without rules has the paths of the rules that answer for it otherwise, and names of more labels than a wildcard's those of the rules without
  a host. Where these paths, times the hosts of the Ingress, are more than 16,000 (long paths, source ranges and limits of bodies count more), the host
  answers 503 and the names 404, and an Event says so: write rules for them.
- The Service's labels about balancing, hashing, weights, timeouts, retries, breakers and tracing act; those about faults and bandwidth do not. No label
  is needed: an Ingress opens its backends at the gateway, and only there.
- A certificate that is missing, malformed, of more than 64 KiB with chain and key, not valid now, without its key or not to be used by Envoy (RSA below
  2,048 or above 4,096 bits, curves other than P-256, P-384 and P-521, Ed25519, must-staple) is replaced by one of our own, for its hosts alone, and an Event says why.
  Over TLS, a request for a host that is not of the connection's certificate gets 421.
- Whoever sets an annotation that does not do what it says is told in the terminal, whatever the class of the Ingress; an Event says so where the gateway
  serves it. A misspelt prefix, such as ` + "`trafic.ingress/ssl-redirect`" + `, and a label set as an annotation are told in the terminal alone.
- Of one thing about one Ingress the first ten Events come at once, and after that one a minute: what it says after many changes may be late by that.

`

// migration is what stands here for the annotations of the gateways from which many come.
//
//go:embed migration.md
var migration string

// IngressReference returns what Ingresses mean, with their annotations, as the page that users read, in Markdown.
func IngressReference() []byte {
	var b strings.Builder
	b.WriteString(ingressPreface + migration)
	for _, a := range IngressTable {
		fmt.Fprintf(&b, "## `%s`\n\n%s\n\n| | |\n|---|---|\n| Value | %s |\n| Without it | %s |\n", a.Name, a.Meaning, a.Expected, a.Default)
		fmt.Fprintf(&b, "| Example | `kubectl annotate ingress NAME %s=%s` |\n\n", a.Name, a.Example)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}
