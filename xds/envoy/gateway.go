package envoy

import (
	"maps"
	"slices"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// GatewayConfig is what a person decides about the gateway's resources.
type GatewayConfig struct {
	// HTTPPort and HTTPSPort are those that the gateway binds.
	HTTPPort, HTTPSPort uint16
	// IPv6 binds both families.
	IPv6 bool
	// TrustedHops is how many proxies in front of the gateway add to X-Forwarded-For.
	TrustedHops uint32
	// ProxyProtocol expects every connection to begin with who the client is, in the PROXY protocol.
	ProxyProtocol bool
	// IdleTimeout ends a client's connection without a request; zero is DefaultIdleTimeout.
	IdleTimeout time.Duration
	// LogFormat is how a request is logged.
	LogFormat LogFormat
	// MinimumTLS is the lowest version; the zero value is 1.2.
	MinimumTLS TLSVersion
	// Ciphers are those of TLS 1.2, as OpenSSL names them; none are Envoy's own.
	Ciphers []string
	// DefaultCertificate is the Secret whose certificate clients get that ask for an unknown host, or for none; without a
	// name, they get no connection.
	DefaultCertificate mesh.Object
	// Fallback is shown in place of a certificate that cannot be used.
	Fallback ingress.Pair
}

// A Gateway is the resources of the ingress gateway, kept current change by change. It is owned by one goroutine.
//
// Plain requests are routed by one RouteConfiguration with all hosts. TLS has a filter chain for each certificate, with a
// connection manager and a RouteConfiguration of its own: a client can ask a connection for no host but those of its
// certificate. The chain only names these; a listener of a thousand chains is sent and compared as a whole whenever a
// certificate is new, and what is not in it costs nothing then.
type Gateway struct {
	translator  *Translator
	config      GatewayConfig
	upstream    map[label.Upstream]map[string]*anypb.Any
	httpFilters []*hcmv3.HttpFilter
	claims      *corev3.TypedExtensionConfig
	log         []*accesslogv3.AccessLog
	// listenerFilters are those of each listener.
	listenerFilters []*listenerv3.ListenerFilter

	hosts map[string]*gatewayHost
	// certificates are those that are there, by Secret.
	certificates map[mesh.Object]*gatewayCertificate
	// asked has the certificate of each domain.
	asked map[string]mesh.Object
	held  map[Key]Resource
	// failures has, of each part that is not as it should be, what is wrong with it, by who is to blame.
	failures map[string]map[mesh.Object]GatewayFailure
}

// NewGateway returns the gateway of no Ingress.
func NewGateway(t *Translator, c GatewayConfig) (*Gateway, error) {
	g := &Gateway{
		translator: t, config: c,
		hosts: map[string]*gatewayHost{}, certificates: map[mesh.Object]*gatewayCertificate{},
		asked: map[string]mesh.Object{}, held: map[Key]Resource{}, failures: map[string]map[mesh.Object]GatewayFailure{},
	}
	var err error
	if g.upstream, err = gatewayUpstreams(); err != nil {
		return nil, err
	}
	if g.httpFilters, err = gatewayFilters(); err != nil {
		return nil, err
	}
	if g.claims, err = c.claims(t.tracing != nil); err != nil {
		return nil, err
	}
	if g.listenerFilters, err = c.firstFilters(); err != nil {
		return nil, err
	}
	format, err := c.LogFormat.format()
	if err != nil {
		return nil, err
	}
	if g.log, err = t.accessLog.log(format, httpErrors()); err != nil {
		return nil, err
	}
	return g, nil
}

// A GatewayFailure is a part of the gateway that could not be translated: it stays as it was.
type GatewayFailure struct {
	// Object is the one to blame: an Ingress, a Secret or a Service.
	Object mesh.Object
	// Key is the host, or what else the part is called.
	Key string
	Err error
}

// Apply brings the gateway to what changed and returns what is different, and every part that could not be translated, now or
// before, until it is.
func (g *Gateway) Apply(c ingress.Changes) (Update, []GatewayFailure) {
	a := application{Gateway: g, certificatesDirty: map[mesh.Object]bool{}}
	for _, change := range c.Backends {
		a.backend(change)
	}
	for _, change := range c.Hosts {
		a.host(change)
	}
	for _, change := range c.Certificates { // a domain passes from one to another
		a.forget(change.Secret)
	}
	for _, change := range c.Certificates {
		a.certificate(change)
	}
	a.finish()
	var failures []GatewayFailure
	for _, part := range slices.Sorted(maps.Keys(g.failures)) {
		for _, o := range slices.SortedFunc(maps.Keys(g.failures[part]), mesh.Object.Compare) {
			failures = append(failures, g.failures[part][o])
		}
	}
	return a.update, failures
}

// Holds reports whether the gateway is to have a resource in this version.
func (g *Gateway) Holds(key Key, version string) bool {
	held, there := g.held[key]
	return there && held.Version == version
}

// An application is one call of Apply.
type application struct {
	*Gateway
	// certificatesDirty are those whose routes changed.
	certificatesDirty       map[mesh.Object]bool
	plainDirty, chainsDirty bool
	update                  Update
	// part is what is being translated.
	part string
}

// begin forgets what was wrong with a part, which is to be translated anew or is gone.
func (a *application) begin(part string) {
	a.part = part
	delete(a.failures, part)
}

// put notes a resource if it is another than before.
func (a *application) put(r Resource, err error) {
	if err != nil {
		a.fail(r.Owner, r.Name, err)
		return
	}
	r.Eager = r.Type == resourcev3.ListenerType && a.translator.tracing != nil
	if held := a.held[r.Key]; held.Version != r.Version || held.Owner != r.Owner {
		a.held[r.Key] = r
		a.update.Set = append(a.update.Set, r)
	}
}

func (a *application) remove(keys ...Key) {
	for _, key := range keys {
		if _, there := a.held[key]; there {
			delete(a.held, key)
			a.update.Remove = append(a.update.Remove, key)
		}
	}
}

func (a *application) fail(o mesh.Object, key string, err error) {
	if a.failures[a.part] == nil {
		a.failures[a.part] = map[mesh.Object]GatewayFailure{}
	}
	a.failures[a.part][o] = GatewayFailure{Object: o, Key: key, Err: err}
}

func (a *application) backend(c ingress.BackendChange) {
	name := backendName(c.Key)
	a.begin("backend " + name)
	if c.Port == nil {
		a.remove(Key{resourcev3.ClusterType, name}, Key{resourcev3.EndpointType, name})
		return
	}
	cluster, err := a.backendCluster(c.Key, *c.Port)
	if err != nil {
		a.fail(c.Key.Service, name, err)
		return
	}
	a.put(NewResource(c.Key.Service, name, cluster))
	a.put(NewResource(c.Key.Service, name, assignment(name, *c.Port)))
}

func (a *application) host(c ingress.HostChange) {
	a.begin("host " + c.Name)
	if secret, asked := a.asked[c.Name]; asked {
		a.certificatesDirty[secret] = true
	}
	a.plainDirty = true
	if c.Host == nil {
		delete(a.hosts, c.Name)
		return
	}
	h, err := a.newHost(c.Host)
	if err != nil {
		for _, r := range c.Host.Routes {
			a.fail(r.Ingress, c.Name, err)
		}
		return
	}
	a.hosts[c.Name] = h
}

func (a *application) forget(secret mesh.Object) {
	if c := a.certificates[secret]; c != nil {
		for _, domain := range c.Domains {
			delete(a.asked, domain)
		}
	}
}

func (a *application) certificate(c ingress.CertificateChange) {
	previous := a.certificates[c.Secret]
	a.chainsDirty = a.chainsDirty || previous == nil || c.Certificate == nil || !slices.Equal(previous.Hosts, c.Certificate.Hosts)
	name := certificateName(c.Secret)
	a.begin("certificate " + name)
	if c.Certificate == nil {
		a.begin("routes of " + name)
		delete(a.certificates, c.Secret)
		delete(a.certificatesDirty, c.Secret)
		a.remove(Key{resourcev3.RouteType, secureName(name)}, Key{resourcev3.ExtensionConfigType, secureName(name)}, Key{resourcev3.SecretType, name})
		return
	}
	for _, domain := range c.Certificate.Domains {
		a.asked[domain] = c.Secret
	}
	made := &gatewayCertificate{Certificate: c.Certificate}
	if previous != nil {
		made.chain = previous.chain
	}
	a.certificates[c.Secret] = made
	a.certificatesDirty[c.Secret] = true
	pair := a.config.Fallback
	if c.Certificate.Pair != nil {
		pair = *c.Certificate.Pair
	}
	a.put(NewResource(c.Secret, name, sdsSecret(name, pair)))
}

// finish makes what depends on several changes.
func (a *application) finish() {
	for _, secret := range slices.SortedFunc(maps.Keys(a.certificatesDirty), mesh.Object.Compare) {
		a.secureRoutes(secret)
	}
	if _, there := a.held[Key{resourcev3.ListenerType, plainName}]; !there || a.plainDirty {
		if tracing := a.translator.tracing; tracing != nil {
			a.put(tracing.cluster, nil)
		}
		a.begin(plainName)
		a.put(a.plainRoutes())
		a.plainListener()
	}
	if a.config.DefaultCertificate != (mesh.Object{}) {
		a.defaultRoutes()
	}
	if a.chainsDirty {
		a.secureListener()
	}
}
